"""Tasks whose body is gone from the blob store."""

from typing import Any

import pytest

from callstream.agents.actor import Actor
from callstream.agents.fakes import FakeDelivery, FakePorts, stream
from callstream.agents.steps import StepRole
from callstream.streams.event import NO_DIGEST, TASK_HELD, End, Event
from callstream.streams.letters import is_unreadable
from callstream.streams.wire import Record, decode, encode
from callstream.tables.tasks import fold
from tests.support.events import CHAINS, an_event

GONE = ("ce_dataref", b"blob:" + b"1" * 64)


async def handled(event: Event, *changed: tuple[str, bytes]) -> FakePorts:
    """The event as a claim check whose blob is gone, taken by the service `prepare`."""
    record = encode(event, "callstream.prepare")
    headers = [(name, dict(changed).get(name, raw)) for name, raw in record.headers]
    ports = FakePorts()
    delivery = FakeDelivery(Record(record.topic, record.key, b"", [*headers, GONE]), (0, 0))
    actor = Actor(StepRole("prepare", CHAINS, stateful=False), ports, CHAINS, concurrency=1, max_unfinished=1)
    await actor.run(stream([delivery]))
    assert await actor.drain(5)
    assert (delivery.acked, ports.crashes) == ([0], [])
    return ports


async def test_the_record_is_a_letter_with_its_reference_and_the_task_has_failed() -> None:
    ports = await handled(an_event())
    letter, end = ports.sent
    assert is_unreadable([*letter.headers])
    assert ("was_ce_dataref", GONE[1]) in letter.headers
    assert b"blob:1111" in dict(letter.headers)["ce_reason"]
    ended = decode(end.value, end.headers)
    assert (end.topic, ended.task, ended.sequence, ended.body.end) == ("callstream.finished", "mug-1", 2, End.FAILED)
    assert ended.body.failure is not None
    assert ended.body.failure.kind == "blob-missing"
    assert "is not there" in ended.body.failure.message


async def test_a_held_task_without_its_body_ends_too() -> None:
    ports = await handled(an_event(type=TASK_HELD))
    assert ports.topics() == ["dead", "finished"]


@pytest.mark.parametrize(
    ("event", "changed"),
    [
        (an_event(sequence=0), ()),
        (an_event(type="callstream.task.finished", sequence=4), ()),
        (an_event(), (("ce_chain", b"No Chain"),)),
        (an_event(), (("ce_sequence", b"soon"),)),
    ],
    ids=["not begun", "ended", "no chain", "no number"],
)
async def test_what_is_no_task_under_way_ends_none(event: Event, changed: Any) -> None:
    ports = await handled(event, *changed)
    assert ports.topics() == ["dead"]


async def test_the_row_keeps_what_tells_a_repeat_of_the_submission() -> None:
    first = an_event(digest="a" * 64)
    row, _ = fold(None, first, CHAINS, 1.0)
    ended = decode((end := (await handled(first)).sent[1]).value, end.headers)
    assert ended.body.digest == NO_DIGEST
    row, _ = fold(row, ended, CHAINS, 2.0)
    assert (row["state"], row["digest"]) == ("failed", "a" * 64)
