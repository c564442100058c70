"""Rows of dead letters: folded from dead events, the first of each run, in any order and however often."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.streams.event import TASK_DEAD, Attempt, Burial, Event, Failure, Hop, Json, Usage
from callstream.tables.letters import (
    SAMPLE,
    audited,
    cause_of,
    done_by,
    fold,
    kind_of,
    letter_key,
    unreadable_row,
    values_of,
)
from tests.support.events import an_event

HOPS = (
    Hop(step="intake", service="intake", started=1.0, ended=1.5),
    Hop(step="facts", service="prepare", started=2.0, ended=2.5, usage=Usage(tokens_in=3, tokens_out=4)),
    Hop(step="copy", service="infer", started=3.0, ended=4.0, attempts=2),
)


def dead(run: int = 0, message: str = "no", **changes: object) -> Event:
    failed = tuple(Attempt(number=n, ended=3.0 + n, kind="refused", message=message) for n in (1, 2))
    burial = Burial(topic="callstream.infer", partition=2, offset=7, ended_task=True, attempts=failed)
    failure = Failure(kind="refused", message=message, step="copy")
    event = an_event(type=TASK_DEAD, sequence=2, run=run, trail=HOPS, failure=failure, burial=burial)
    return replace(event, **changes)  # type: ignore[arg-type]


def test_a_row_says_what_died_when_where_and_how_often_it_was_tried() -> None:
    row = fold(None, dead())
    assert (row["letter"], row["state"], row["run"], row["sequence"]) == ("task", "waiting", 0, 2)
    assert (row["step"], row["service"], row["kind"], row["message"]) == ("copy", "infer", "refused", "no")
    assert (row["died"], row["attempts"], row["tokens_in"], row["tokens_out"]) == (4.0, 2, 3, 4)
    assert row["from"] == {"topic": "callstream.infer", "partition": 2, "offset": 7}
    assert [(one["attempt"], one["ended"], one["endpoint"]) for one in row["tried"]] == [(1, 4.0, None), (2, 5.0, None)]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8))
def test_runs_only_move_forward_and_count_once(runs: list[int]) -> None:
    row: Json | None = None
    for run in runs * 2:
        row = fold(row, dead(run))
    assert row is not None
    assert row["run"] == max(runs)
    told = [one["run"] for one in row["tried"]]
    assert told == sorted(told)
    assert all(told.count(run) == 2 for run in told)


def test_a_later_run_waits_again_and_keeps_what_was_decided() -> None:
    decided = audited(fold(None, dead()), {"command": "c-1", "by": "kim"}) | {"state": "redriven", "edited": True}
    row = fold(decided, dead(run=1))
    assert (row["state"], row["edited"], row["redrive"]) == ("waiting", True, None)
    assert [one["run"] for one in row["tried"]] == [0, 0, 1, 1]
    assert done_by(row, "c-1") == {"command": "c-1", "by": "kim"}
    assert fold(decided, dead(message="another")) is decided


def test_the_audit_is_bounded() -> None:
    row = fold(None, dead())
    for number in range(100):
        row = audited(row, {"command": str(number)})
    assert [entry["command"] for entry in row["audit"]] == [str(number) for number in range(68, 100)]


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (dead(), "task"),
        (dead().with_body(end="finished"), "callback"),
        (dead().with_body(burial=dead().body.burial.model_copy(update={"ended_task": False})), "refused"),  # type: ignore[union-attr]
        (dead().with_body(burial=None), "task"),
        (dead().with_body(burial=None, failure=Failure(kind="conflict", message="two")), "refused"),
    ],
)
def test_which_letter_it_is(event: Event, kind: str) -> None:
    assert kind_of(event) == kind
    assert fold(None, event)["letter"] == kind


def test_keys_of_a_task_differ_by_kind_and_no_two_tasks_share_one() -> None:
    keys = {letter_key(kind, "acme", task) for kind in ("task", "callback") for task in ("a", "a/task")}
    assert len(keys) == 4


def test_causes_leave_out_what_differs_from_task_to_task() -> None:
    one = cause_of("copy", "refused", "HTTP 400: order 4711 of mug-1, trace 9f8e7d6c5b4a, 12.5 s", "mug-1")
    other = cause_of("copy", "refused", "HTTP 400: order 12 of cup-22, trace 00aa11bb22cc, 1 s", "cup-22")
    assert one == other == "copy / refused / HTTP #: order # of #, trace #, # s"
    assert cause_of("copy", "refused", "no credit", "mug-1") != one


def test_a_condition_sees_every_value_in_the_type_of_the_sample() -> None:
    for row in (fold(None, dead()), unreadable_row(None, "callstream.gate~1~2", "no JSON", b"x", 5.0)):
        values = values_of(row, 10.0)
        assert {name: type(value) for name, value in values.items()} == {
            name: type(one) for name, one in SAMPLE.items()
        }
    assert values_of(fold(None, dead()), 10.0)["age"] == 6.0


def test_a_record_that_cannot_be_read_keeps_its_place_and_its_beginning() -> None:
    row = unreadable_row(None, "callstream.gate~1~2", "no JSON", b"\xff" + b"x" * 5_000, 5.0)
    assert row["from"] == {"topic": "callstream.gate", "partition": 1, "offset": 2}
    assert (row["bytes"], row["head"][:5], len(row["head"]) < 1_010) == (5_001, "\\xffx", True)
    assert unreadable_row(row, "callstream.gate~1~2", "again", b"", 9.0) is row
