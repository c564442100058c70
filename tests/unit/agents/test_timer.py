"""The timer's role and its loop, over a table and a log in memory."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from callstream.agents.timer import Arrival, Releaser, TimerRole
from callstream.streams.blobs import BlobOptions, BlobStore
from callstream.streams.event import Event
from callstream.streams.fakes import MemoryCell
from callstream.streams.outcome import Bury, Keep, Outcome
from callstream.streams.ownership import Claim, LostOwnership
from callstream.streams.timing import Timed, delayed
from callstream.streams.wire import DATAREF, LogUnavailable, Record, encode
from callstream.tables.fakes import MemoryRows
from callstream.tables.timers import MOST_AT_ONCE, Timers
from tests.support.events import an_event

CLAIM = Claim(0, 0)
NOW = 1_000.0
HOUR = 3_600.0
INFER = "callstream.infer"


class Log:
    """Keeps what is sent. While `held`, a send waits; `error` is raised instead of a send."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.error: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()

    async def send(self, records: Sequence[Record], claim: Claim) -> None:
        await self.open.wait()
        if self.error is not None:
            raise self.error
        self.sent += [record.value.decode() for record in records]


class Desk:
    """A timer: its table, its log, and what would have ended its worker."""

    def __init__(self, partitions: int = 1) -> None:
        self.rows = MemoryRows(partitions)
        self.timers = Timers(self.rows)
        self.log = Log()
        self.now = NOW
        self.failures: list[BaseException] = []
        self.releaser = Releaser(self.timers, self.log.send, lambda: self.now, self.failures.append)

    async def set(self, seconds: float, name: str) -> None:
        await self.timers.put(CLAIM, Timed(round(seconds * 1_000_000), Record(INFER, b"k", name.encode(), [])))

    def left(self) -> int:
        return len(list(self.rows.scan(0, most=10_000)))


def a_role(rows: MemoryRows, blobs: BlobStore | None = None) -> TimerRole:
    store = blobs or BlobStore(BlobOptions(url="memory:///"))
    return TimerRole(Timers(rows), frozenset({INFER}), store, lambda: NOW)


async def arrive(role: TimerRole, record: Record, event: Event | None = None) -> Outcome:
    event = event or an_event()
    return await role.act(event, Arrival(CLAIM, event.key, record.value, record.headers))


async def test_a_record_is_kept_until_it_is_due() -> None:
    rows, record = MemoryRows(), encode(an_event(), INFER)
    assert await arrive(a_role(rows), delayed(record, NOW + 5)) == Keep()
    timers = Timers(rows)
    assert timers.due(CLAIM, NOW + 4.9) == []
    assert [due.timed.record for due in timers.due(CLAIM, NOW + 5)] == [record]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (encode(an_event(), INFER), "callstream-due is missing"),
        (delayed(encode(an_event(), "callstream.nowhere"), NOW), "'callstream.nowhere' is no topic"),
        (delayed(encode(an_event(), INFER), NOW + 400 * 24 * HOUR), "its time must lie within a year"),
    ],
)
async def test_what_cannot_be_kept_is_buried_with_the_reason(record: Record, said: str) -> None:
    rows = MemoryRows()
    outcome = await arrive(a_role(rows), record)
    assert isinstance(outcome, Bury)
    assert (outcome.failure.kind, said in outcome.failure.message) == ("timer", True)
    assert rows.written == []


async def test_a_body_in_the_blob_store_stays_there_for_a_short_wait_and_not_for_a_long_one() -> None:
    rows, blobs = MemoryRows(), BlobStore(BlobOptions(url="memory:///", keep_hours=8))
    reference = (await blobs.put(b"{}")).encode()
    plain = encode(an_event(), INFER)
    claim_check = Record(INFER, plain.key, b"", [*plain.headers, (DATAREF, reference)])
    role = a_role(rows, blobs)
    await arrive(role, delayed(claim_check, NOW + HOUR))
    await arrive(role, delayed(claim_check, NOW + 3 * HOUR))
    near, far = (due.timed.record for due in Timers(rows).due(CLAIM, NOW + 4 * HOUR))
    assert near == claim_check
    assert (far.value, far.headers) == (b"{}", plain.headers)


async def test_it_needs_the_record_itself() -> None:
    with pytest.raises(TypeError):
        await a_role(MemoryRows()).act(an_event(), MemoryCell())


async def test_what_is_due_is_sent_in_its_order_and_its_rows_go() -> None:
    desk = Desk()
    for seconds in (3, 1, 2):
        await desk.set(NOW + seconds, f"at-{seconds}")
    assert await desk.releaser.step() == 0
    desk.now = NOW + 2
    assert await desk.releaser.step() == 2
    assert (desk.log.sent, desk.left(), desk.releaser.released) == (["at-1", "at-2"], 1, 2)


async def test_a_row_stays_until_its_record_is_on_the_log() -> None:
    desk = Desk()
    await desk.set(NOW, "a")
    desk.log.open.clear()
    step = asyncio.create_task(desk.releaser.step())
    await asyncio.sleep(0)
    assert desk.left() == 1
    desk.log.open.set()
    assert (await step, desk.left()) == (1, 0)


@pytest.mark.parametrize("error", [LogUnavailable("away"), RuntimeError("a bug")])
async def test_what_the_log_does_not_take_ends_the_worker_and_keeps_the_row(error: Exception) -> None:
    desk = Desk()
    await desk.set(NOW, "a")
    desk.log.error = error
    assert await desk.releaser.step() == 0
    assert (desk.failures, desk.left()) == ([error], 1)


async def test_a_partition_that_was_lost_is_left_to_its_next_owner() -> None:
    desk = Desk()
    await desk.set(NOW, "a")
    desk.log.error = LostOwnership("revoked")
    assert await desk.releaser.step() == 0
    assert (desk.failures, desk.left()) == ([], 1)
    # when it comes back
    desk.log.error = None
    desk.releaser.revoke()
    assert (await desk.releaser.step(), desk.log.sent) == (1, ["a"])


@pytest.mark.parametrize("way", ["hand_over", "drain"])
async def test_a_batch_under_way_may_end_and_none_begins(way: str) -> None:
    desk = Desk()
    await desk.set(NOW, "a")
    desk.log.open.clear()
    step = asyncio.create_task(desk.releaser.step())
    await asyncio.sleep(0)
    stop: Any = getattr(desk.releaser, way)
    assert not await stop(0.01)
    desk.log.open.set()
    assert await stop(5.0)
    assert await step == 1
    await desk.set(NOW, "b")
    assert await desk.releaser.step() == 0
    desk.releaser.revoke()
    assert await desk.releaser.step() == (1 if way == "hand_over" else 0)


async def test_what_is_wanted_early_is_sent_and_the_rest_stays_until_it_is_due() -> None:
    # given more rows than are looked at in one go, all of them far ahead
    desk = Desk()
    for number in range(MOST_AT_ONCE + 10):
        await desk.set(NOW + HOUR + number, str(number))
    # when some are wanted now
    wanted = {"0", "7", str(MOST_AT_ONCE + 3)}
    await desk.releaser.release_early(lambda record: record.value.decode() in wanted)
    # then these are sent once, and their rows are gone
    assert (sorted(desk.log.sent, key=int), desk.left()) == (sorted(wanted, key=int), MOST_AT_ONCE + 7)
    desk.now = NOW + 2 * HOUR
    while await desk.releaser.step():
        pass
    assert sorted(map(int, desk.log.sent)) == list(range(MOST_AT_ONCE + 10))
    assert desk.left() == 0


async def test_what_is_due_waits_while_the_service_is_paused() -> None:
    desk = Desk()
    await desk.set(NOW - 1, "due")
    desk.releaser.resting = lambda: True
    assert (await desk.releaser.step(), desk.log.sent) == (0, [])
    desk.releaser.resting = lambda: False
    assert (await desk.releaser.step(), desk.log.sent) == (1, ["due"])
