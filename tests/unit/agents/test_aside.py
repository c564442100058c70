"""An actor with a lot: no backlog keeps others out of sight, and nothing that was put aside is lost or done twice."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from callstream.agents import actor as loop
from callstream.agents.actor import Actor
from callstream.agents.aside import MOST_PUT_AT_ONCE, Aside
from callstream.agents.fakes import FakeDelivery, FakePorts, deliver, stream
from callstream.agents.lot import Lot, Parked
from callstream.agents.ports import Delivery, Policy
from callstream.agents.steps import StepRole
from callstream.streams.chain import Attempts, Cell, Chain, Chains
from callstream.streams.event import Event
from callstream.streams.outcome import Forward, Outcome
from callstream.tables.fakes import MemoryRows
from tests.support.events import Input, Say, an_event

QUICK, SLOW = "quick", "slow"
CHAINS = Chains(
    [
        Chain(name, Input, (Say("facts", "prepare"), Say(name, "infer"), Say("check", "moderate")))
        for name in (QUICK, SLOW)
    ]
)
PLACES = 8


class Gated:
    """A role whose events wait until the gates are open, or one by one for those of a tenant in `open_for`."""

    service, stateful = "infer", False

    def __init__(self) -> None:
        self.began: list[str] = []
        self.open_for: set[str] = set()
        self.gates = asyncio.Event()
        self.turn = asyncio.Semaphore(0)

    def policy(self, event: Event) -> Policy:
        """One attempt."""
        return Policy(event.chain, Attempts(most=1))

    async def act(self, event: Event, _state: Cell) -> Outcome:
        """Wait, and go on."""
        self.began.append(event.task)
        if event.tenant not in self.open_for and event.chain not in self.open_for:
            waits = [asyncio.ensure_future(self.gates.wait()), asyncio.ensure_future(self.turn.acquire())]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in waits:
                    each.cancel()
        return Forward({})


class Bench:
    """An actor of the service infer with a lot over rows that outlive it."""

    def __init__(self, rows: MemoryRows | None = None, most: int = 1_000, max_unfinished: int = 10_000) -> None:
        self.rows = rows or MemoryRows()
        self.role, self.ports = Gated(), FakePorts()
        self.actor = Actor(self.role, self.ports, CHAINS, PLACES, max_unfinished)
        self.lot = Lot(self.rows, StepRole("infer", CHAINS, False).queue_of, most)
        self.actor.aside = Aside(self.lot, PLACES, self.actor.has_place, self.parked)
        self._runs: list[asyncio.Task[None]] = []

    def parked(self, one: Delivery) -> Parked:
        """What the lot keeps."""
        return Parked(
            one.topic, one.partition, one.offset, one.key, one.value, one.headers, self.rows.claim(one.partition)
        )

    async def read(self, deliveries: Iterable[Delivery]) -> None:
        """Hand these over, and let everything run that can."""
        self._runs.append(asyncio.create_task(self.actor.run(stream(deliveries))))
        await settled()

    def sent(self) -> list[str]:
        """Tasks that were sent on."""
        return [dict(record.headers)["ce_subject"].decode() for record in self.ports.sent]

    async def end(self) -> None:
        """Open the gates and let all of it come to its end."""
        self.role.gates.set()
        await settled(600)
        assert not self.ports.crashes

    async def kill(self) -> None:
        """The partitions go, with everything under way."""
        self.actor.revoke()
        for run in self._runs:
            run.cancel()
        await settled()
        self.rows.revoke()


async def settled(turns: int = 300) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


def tasks_of(tenant: str, number: int, chain: str = QUICK) -> list[Event]:
    return [an_event(tenant=tenant, task=f"{tenant}-{one:03d}", chain=chain, sequence=2) for one in range(number)]


def read_in_order(*events: list[Event]) -> list[FakeDelivery]:
    return deliver([event for each in events for event in each], "infer")


async def test_a_tenant_behind_anothers_backlog_is_reached_while_that_waits() -> None:
    bench = Bench()
    bench.role.open_for = {"light"}
    deliveries = read_in_order(tasks_of("heavy", 100), tasks_of("light", 3))
    await bench.read(deliveries)
    # the backlog keeps its portion of the places, the other one goes through
    assert bench.sent() == ["light-000", "light-001", "light-002"]
    assert 1 <= len([task for task in bench.role.began if task.startswith("heavy")]) < PLACES
    await bench.end()
    assert sorted(bench.sent()) == sorted(event.task for event in tasks_of("heavy", 100) + tasks_of("light", 3))
    assert deliveries[0].acked == list(range(103))
    assert list(bench.rows.scan(0)) == []


async def test_a_pool_that_stands_still_does_not_hold_up_another() -> None:
    bench = Bench()
    bench.role.open_for = {QUICK}
    await bench.read(read_in_order(tasks_of("acme", 100, SLOW), tasks_of("beta", 50, QUICK)))
    assert [task for task in bench.sent() if task.startswith("beta")] == [e.task for e in tasks_of("beta", 50)]
    await bench.end()
    assert len(bench.sent()) == len(set(bench.sent())) == 150


async def test_tenants_with_backlogs_take_turns_and_each_keeps_its_order() -> None:
    bench = Bench()
    await bench.read(read_in_order(tasks_of("a", 60), tasks_of("b", 60), tasks_of("c", 60)))
    for _ in range(60):
        bench.role.turn.release()
        await settled(30)
    # 60 ended, of the three about as many
    counts = [sum(task.startswith(tenant) for task in bench.sent()) for tenant in "abc"]
    assert sum(counts) == 60
    assert max(counts) - min(counts) <= PLACES
    await bench.end()
    for tenant in "abc":
        assert [task for task in bench.role.began if task.startswith(tenant)] == [e.task for e in tasks_of(tenant, 60)]


async def test_one_tenant_alone_is_worked_off_in_its_order() -> None:
    bench = Bench()
    bench.role.gates.set()
    await bench.read(read_in_order(tasks_of("a", 300)))
    await bench.end()
    assert bench.role.began == [event.task for event in tasks_of("a", 300)]


async def test_what_is_in_the_lot_outlives_its_worker() -> None:
    bench = Bench()
    deliveries = read_in_order(tasks_of("a", 100))
    await bench.read(deliveries)
    await bench.kill()
    # what was begun without a row holds back the acknowledgements of all behind it: both come again
    again = Bench(bench.rows)
    await again.read(read_in_order(tasks_of("a", 100))[len(deliveries[0].acked) :])
    keeping = asyncio.create_task(again.actor.keep_lot())
    await again.end()
    assert sorted(again.sent()) == [event.task for event in tasks_of("a", 100)]
    assert list(again.rows.scan(0)) == []
    keeping.cancel()


async def test_a_worker_without_a_single_record_to_read_works_off_the_lot() -> None:
    bench = Bench()
    await bench.read(read_in_order(tasks_of("a", 40)))
    parked = len(list(bench.rows.scan(0)))
    await bench.kill()
    again = Bench(bench.rows)
    again.role.gates.set()
    keeping = asyncio.create_task(again.actor.keep_lot())
    await again.end()
    assert len(again.sent()) == len(set(again.sent())) == parked > 0
    keeping.cancel()


async def test_what_waits_long_gives_way_to_what_is_read_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SHELTERED_AT", 20)
    bench = Bench(max_unfinished=60)
    deliveries = read_in_order(tasks_of("heavy", 200), tasks_of("light", 1))
    bench.role.open_for = {"light"}
    await bench.read(deliveries)
    # the first one still waits, and no event is left unread for it
    assert bench.sent() == ["light-000"]
    assert deliveries[0].acked[-1] == 200
    await bench.kill()
    again = Bench(bench.rows)
    keeping = asyncio.create_task(again.actor.keep_lot())
    await again.end()
    assert sorted(again.sent()) == [event.task for event in tasks_of("heavy", 200)]
    keeping.cancel()


async def test_a_sheltered_event_that_ends_leaves_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SHELTERED_AT", 5)
    bench = Bench()
    bench.rows.hold()
    reading = asyncio.create_task(bench.read(read_in_order(tasks_of("a", 40))))
    await settled()
    # its work ends while its row is on the way to the log
    bench.role.gates.set()
    await settled()
    bench.rows.release()
    await reading
    await bench.end()
    assert list(bench.rows.scan(0)) == []
    assert len(bench.sent()) == len(set(bench.sent())) == 40


async def test_a_full_lot_stops_the_reading_and_loses_nothing() -> None:
    bench = Bench(most=10)
    deliveries = read_in_order(tasks_of("a", 100))
    await bench.read(deliveries)
    assert 10 <= len(list(bench.rows.scan(0))) < 10 + MOST_PUT_AT_ONCE
    assert bench.actor.taken < 100
    await bench.end()
    assert sorted(bench.sent()) == [event.task for event in tasks_of("a", 100)]


async def test_an_event_that_is_in_the_lot_is_not_begun_again_when_its_topic_is() -> None:
    bench = Bench()
    deliveries = read_in_order(tasks_of("a", 40))
    await bench.read(deliveries)
    bench.actor.revoke()
    # the same worker, the same rows: the group gave the partition back
    bench.lot.forget()
    await bench.read(read_in_order(tasks_of("a", 40)))
    await bench.end()
    assert sorted(bench.sent()) == [event.task for event in tasks_of("a", 40)]
    assert list(bench.rows.scan(0)) == []


async def test_what_was_read_of_a_partition_that_goes_while_its_lot_is_opened_is_left_to_its_next_owner() -> None:
    before = Bench()
    await before.read(read_in_order(tasks_of("a", 900)))
    await before.kill()
    bench = Bench(before.rows)
    [delivery] = read_in_order(tasks_of("b", 1))
    reading = asyncio.create_task(bench.actor.run(stream([delivery])))
    # its rows are counted in several goes
    await settled(2)
    bench.actor.revoke()
    await settled()
    assert reading.done()
    assert (bench.role.began, bench.actor.snapshot().ledger.taken, delivery.acked) == ([], 0, [])


async def test_an_event_that_is_too_large_for_a_row_is_worked_on_at_once() -> None:
    bench = Bench()
    events = tasks_of("a", 20)
    large = events[-1].with_body(outputs={"prompt": {"text": "\x01" * 200_000}})
    await bench.read(deliver([*events[:-1], large], "infer"))
    assert large.task in bench.role.began
    await bench.end()
    assert len(bench.sent()) == 20


@pytest.mark.parametrize("headers", [[], [("ce_tenant", b"a")], [("ce_sequence", b"x")], [("ce_chain", b"\xff")]])
async def test_a_record_that_is_no_event_is_never_put_aside(headers: Any) -> None:
    bench = Bench()
    known = [("ce_tenant", b"a"), ("ce_chain", b"quick"), ("ce_chainversion", b"1"), ("ce_sequence", b"2")]
    given = [*known, *headers] if len(headers) != 1 or headers[0][0] != "ce_tenant" else headers
    bucket = bench.lot.bucket("callstream.infer", [] if not headers else given)
    assert bucket is None


@pytest.mark.parametrize(("key", "value"), [(b"4:acme:a", b'{"a":"\xc3\xa9"}'), (b"\xff", b"\xfe\n{"), (None, None)])
async def test_the_lot_gives_back_every_byte(key: bytes | None, value: bytes | None) -> None:
    bench = Bench()
    [event] = deliver(tasks_of("a", 1), "infer")
    bucket = bench.lot.bucket(event.topic, event.headers)
    assert bucket is not None
    kept = Parked("t", 0, 7, key, value, [*event.headers, ("x", None), ("y", b"\xff\n")], bench.rows.claim(0))
    await bench.lot.open(0)
    await bench.lot.put(bucket, kept)
    found = bench.lot.take(bucket)
    assert found is not None
    assert (found.key, found.value, found.headers, found.offset) == (key, value, kept.headers, 7)


async def test_what_is_put_at_once_is_all_found_whatever_comes_first() -> None:
    bench = Bench()
    events = deliver(tasks_of("a", 3), "infer")
    bucket = bench.lot.bucket(events[0].topic, events[0].headers)
    assert bucket is not None
    await bench.lot.open(0)
    await bench.lot.put(bucket, bench.parked(events[2]))
    last = bench.lot.take(bucket)
    assert last is not None
    assert last.offset == 2
    await bench.lot.put(bucket, bench.parked(events[0]))
    await bench.lot.put(bucket, bench.parked(events[1]))
    assert [found.offset for found in (bench.lot.take(bucket), bench.lot.take(bucket)) if found] == [0, 1]
    assert bench.lot.take(bucket) is None
