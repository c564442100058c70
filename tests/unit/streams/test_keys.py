from collections.abc import Callable

import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from callstream.streams.keys import (
    Name,
    TaskId,
    Tenant,
    event_id,
    id_from_idempotency_key,
    partition_of,
    split_key,
    task_key,
)
from tests.support.events import TASKS, TENANTS

VALIDATE: dict[str, Callable[[str], str]] = {
    "tenant": TypeAdapter[str](Tenant).validate_python,
    "task": TypeAdapter[str](TaskId).validate_python,
    "name": TypeAdapter[str](Name).validate_python,
}


@given(TENANTS, TASKS)
def test_a_key_is_taken_apart_as_it_was_put_together(tenant: str, task: str) -> None:
    assert split_key(task_key(tenant, task)) == (tenant, task)


@given(st.tuples(st.text(":|1a", max_size=4), st.text(":|1a", max_size=4)), st.data())
def test_no_two_pairs_share_a_key(first: tuple[str, str], data: st.DataObject) -> None:
    second = data.draw(st.tuples(st.text(":|1a", max_size=4), st.text(":|1a", max_size=4)))
    assert (task_key(*first) == task_key(*second)) == (first == second)


@given(st.binary(max_size=30) | st.from_regex(rb"\A[0-9]{1,3}:[a-z:]{0,9}\s?\Z"))
def test_bytes_are_a_key_only_if_task_key_makes_them(key: bytes) -> None:
    try:
        tenant, task = split_key(key)
    except ValueError:
        return
    assert task_key(tenant, task) == key


@pytest.mark.parametrize("key", [b"", b"x", b"4:acme", b"04:acme:x", b"3:acme:x", b"4:acme;x", b"4:\xff"])
def test_what_is_no_key_says_so(key: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a task key|decode"):
        split_key(key)


@pytest.mark.parametrize("kind", VALIDATE)
@pytest.mark.parametrize("wrong", ["", "a/b", "a\0", "a\n", "\na", "a b", "ä", "-a", ".a", "a" * 129, "\u0661"])
def test_names_with_what_paths_headers_or_keys_would_take_apart_are_refused(kind: str, wrong: str) -> None:
    with pytest.raises(ValidationError):
        VALIDATE[kind](wrong)


def test_the_longest_names_are_taken() -> None:
    assert VALIDATE["tenant"]("a" * 64)
    assert VALIDATE["task"]("A" + "._~-" * 31 + "xyz")
    assert VALIDATE["name"]("a" + "-" * 47)


@given(st.binary(max_size=40), st.integers(1, 64))
def test_a_key_has_the_partition_that_every_kafka_client_gives_it(key: bytes, partitions: int) -> None:
    everywhere = list(range(partitions))
    assert partition_of(key, partitions) == DefaultPartitioner()(key, everywhere, everywhere)


def test_ids_follow_from_what_they_name() -> None:
    key = task_key("acme", "mug-1")
    assert event_id(key, 2, 1) == "4:acme:mug-1/2/1"
    assert id_from_idempotency_key("order 7") == id_from_idempotency_key("order 7")
    assert id_from_idempotency_key("order 7") != id_from_idempotency_key("order 8")
    assert VALIDATE["task"](id_from_idempotency_key("\0/\n" * 10_000))
