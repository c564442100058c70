import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from callstream.streams.event import End, Event, Failure, Hop, Json
from callstream.streams.ownership import LostOwnership
from callstream.streams.wire import LogUnavailable
from callstream.tables import journal
from callstream.tables.fakes import MemoryRows
from callstream.tables.journal import Journal
from callstream.tables.latency import Window, decode_key
from tests.support.events import CHAINS, an_event

HOPS = tuple(Hop(step=f"s{n}", service="x", started=1_000.0 + n, ended=1_001.0 + n) for n in range(5))


def at(sequence: int, task: str = "mug-1", **changes: Any) -> Event:
    """The task's event before that step, with a hop for each step before it."""
    return an_event(task=task, sequence=sequence, trail=HOPS[:sequence], **changes)


class Gateway:
    """A journal over tables in memory, and what it told."""

    def __init__(self) -> None:
        self.rows, self.latencies = MemoryRows(), MemoryRows()
        self.told: list[Json] = []
        self.start()

    def start(self) -> None:
        """A process of its own over the same disk."""
        self.journal = Journal(self.rows, self.latencies, CHAINS, lambda: 1_010.0, self.told.append)

    def record(self, event: Event) -> asyncio.Task[None]:
        """Begin to record an event."""
        return asyncio.create_task(self.journal.record(self.rows.claim(0), event))

    def row(self, event: Event) -> Json | None:
        raw = self.rows.read(0, event.key)
        return None if raw is None else json.loads(raw)

    def counted(self) -> dict[str, int]:
        """How many hops of each step the windows of one minute hold."""
        found: dict[str, int] = {}
        for raw, row in self.latencies.scan(0, most=1_000):
            key = decode_key(raw)
            if key.size == 60:
                found[key.step] = found.get(key.step, 0) + Window.from_row(json.loads(row)).count
        return found


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Gateway:
    """One that writes as soon as it can."""
    monkeypatch.setattr(journal, "FLUSH_SECONDS", 0.0)
    monkeypatch.setattr(journal, "LONGEST_FLUSH_SECONDS", 0.0)
    return Gateway()


async def settled() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_submission_under_the_id_of_a_sub_task_is_no_row_of_it(gateway: Gateway) -> None:
    forged, made = at(0, "mug-1~1.1"), at(0, "mug-1~1.1").extended(subtaskof="mug-1")
    await gateway.record(forged)
    await settled()
    assert gateway.row(forged) is None
    await gateway.record(made)
    row = gateway.row(made)
    assert row is not None
    assert row["parent"] == "mug-1"


async def test_an_event_is_recorded_when_its_row_is_on_the_log_and_not_before(gateway: Gateway) -> None:
    gateway.rows.hold()
    recording = gateway.record(at(2))
    await settled()
    assert (recording.done(), gateway.told) == (False, [])
    gateway.rows.release()
    await recording
    row = gateway.row(at(2))
    assert row is not None
    assert (row["state"], row["sequence"], len(row["steps"])) == ("running", 2, 2)
    assert gateway.told == [row]


async def test_events_of_one_moment_are_written_together_and_a_row_once(gateway: Gateway) -> None:
    await asyncio.gather(*(gateway.record(event) for event in (at(0), at(1), at(2), at(1, "mug-2"))))
    assert [key for key, _ in gateway.rows.written] == [at(0).key, at(0, "mug-2").key]
    assert gateway.counted() == {"s0": 2, "s1": 1}


async def test_an_event_that_comes_again_counts_nothing_twice(gateway: Gateway) -> None:
    for event in (at(3), at(1), at(3), at(0), at(3)):
        await gateway.record(event)
    assert gateway.counted() == {"s0": 1, "s1": 1, "s2": 1}
    assert len(gateway.rows.written) == 1


async def test_a_row_that_is_about_to_be_written_is_the_one_that_the_next_event_finds(gateway: Gateway) -> None:
    gateway.rows.hold()
    first = gateway.record(at(2))
    await settled()
    second, repeated = gateway.record(at(3)), gateway.record(at(2))
    await settled()
    assert not repeated.done()
    gateway.rows.release()
    await asyncio.gather(first, second, repeated)
    assert gateway.counted() == {"s0": 1, "s1": 1, "s2": 1}
    row = gateway.row(at(3))
    assert row is not None
    assert row["sequence"] == 3


async def test_the_failed_hop_is_the_last_one(gateway: Gateway) -> None:
    await gateway.record(at(3, failure=Failure(kind="bug", message="")))
    errors = {
        decode_key(raw).step: Window.from_row(json.loads(row)).errors
        for raw, row in gateway.latencies.scan(0)
        if decode_key(raw).size == 60
    }
    assert errors == {"s0": 0, "s1": 0, "s2": 1}


async def test_a_log_that_takes_nothing_is_told_to_whoever_waits(gateway: Gateway) -> None:
    gateway.rows.refuse()
    with pytest.raises(LogUnavailable):
        await gateway.record(at(1))
    assert gateway.told == []


async def test_a_row_that_only_a_dead_process_saw_is_written_again(gateway: Gateway) -> None:
    gateway.rows.hold()
    gateway.latencies.hold()
    lost = gateway.record(at(2))
    await settled()
    assert gateway.row(at(2)) is not None
    assert gateway.rows.written == []
    lost.cancel()
    gateway.rows.release()
    await settled()
    gateway.rows.written.clear()
    gateway.latencies.release()
    gateway.start()
    await gateway.record(at(2))
    assert [key for key, _ in gateway.rows.written] == [at(2).key]
    await gateway.record(at(2))
    assert len(gateway.rows.written) == 1


async def test_windows_on_the_log_hold_no_hop_whose_task_is_not(gateway: Gateway) -> None:
    gateway.rows.hold()
    first = gateway.record(at(1))
    await settled()
    second = gateway.record(at(1, "mug-2"))
    await settled()
    gateway.rows.release()
    await first
    gateway.rows.hold()
    [window] = [row for raw, row in gateway.latencies.written if decode_key(raw).size == 60]
    assert window is not None
    assert Window.from_row(json.loads(window)).count == 1
    gateway.rows.release()
    await second
    assert gateway.counted() == {"s0": 2}


async def test_what_was_not_written_when_the_partitions_went_is_dropped_and_counted_by_its_next_owner(
    gateway: Gateway,
) -> None:
    waiting = gateway.record(at(2))
    await asyncio.sleep(0)
    gateway.rows.revoke()
    gateway.journal.forget()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (gateway.rows.written, gateway.told) == ([], [])
    gateway.latencies.revoke()
    await gateway.record(at(2))
    assert gateway.counted() == {"s0": 1, "s1": 1}


async def test_an_event_of_partitions_that_went_does_not_spoil_the_batch_of_others(gateway: Gateway) -> None:
    # given the claim of an event that was taken before the partitions went and came back
    stale = gateway.rows.claim(0)
    gateway.rows.revoke()
    gateway.latencies.revoke()
    gateway.journal.forget()
    # when it is recorded together with one that was taken since
    late = asyncio.create_task(gateway.journal.record(stale, at(1)))
    await gateway.record(at(1))
    # then only the late one is refused
    with pytest.raises(LostOwnership):
        await late
    assert len(gateway.told) == 1


async def test_a_batch_that_was_being_written_when_they_went_is_refused(gateway: Gateway) -> None:
    claim = gateway.rows.claim(0)
    gateway.rows.revoke()
    with pytest.raises(LostOwnership):
        await gateway.journal.record(claim, at(1))
    assert gateway.told == []


async def test_memory_has_a_bound_and_loses_no_count(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MAX_WINDOWS_IN_MEMORY", 3)
    monkeypatch.setattr(journal, "MAX_LOGGED_IN_MEMORY", 2)
    for number in range(9):
        await gateway.record(at(4, f"mug-{number}"))
    assert gateway.counted() == {f"s{n}": 9 for n in range(4)}
    assert len(gateway.journal._windows) <= 3
    assert len(gateway.journal._logged) <= 2


async def test_what_is_counted_while_a_batch_is_written_stays_in_memory(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "MAX_WINDOWS_IN_MEMORY", 1)
    gateway.rows.hold()
    first = gateway.record(at(1))
    await settled()
    second = gateway.record(at(2, "mug-2"))
    await settled()
    gateway.rows.release()
    await asyncio.gather(first, second)
    assert gateway.counted() == {"s0": 2, "s1": 1}


async def test_another_partition_is_another_row(gateway: Gateway) -> None:
    gateway.rows, gateway.latencies = MemoryRows(2), MemoryRows(2)
    gateway.start()
    await gateway.record(at(1))
    assert gateway.journal.row(1, at(1).key) is None
    assert gateway.journal.row(0, at(1).key) == gateway.row(replace(at(1)))


async def test_the_hop_that_was_cut_by_a_cancel_counts_as_no_latency(gateway: Gateway) -> None:
    await gateway.record(at(3, end=End.CANCELLED, failure=Failure(kind="cancelled", message="by ada")))
    steps = {decode_key(key).step for key, _ in gateway.latencies.written}
    assert steps == {"s0", "s1"}
