"""Events that are only looked at: no task for each, the same promises."""

import asyncio
from collections.abc import Iterable
from typing import Any

from callstream.agents.actor import Actor
from callstream.agents.fakes import FakeDelivery, FakePorts, deliver, stream
from callstream.agents.ports import Policy
from callstream.streams.chain import Attempts, Cell
from callstream.streams.event import Event
from callstream.streams.letters import is_unreadable
from callstream.streams.outcome import Keep, Outcome
from callstream.streams.ownership import LostOwnership
from callstream.streams.wire import LogUnavailable
from tests.support.events import CHAINS, an_event


class Watcher:
    """An observer whose looks are done when a test says so; it refuses the tasks named in `odd`."""

    service = "gateway"
    stateful = False

    def __init__(self, odd: Iterable[str] = ()) -> None:
        self.looks: dict[str, asyncio.Future[None]] = {}
        self.acted: list[str] = []
        self._odd = set(odd)

    def policy(self, event: Event) -> Policy:
        return Policy("gateway", Attempts(most=1), ends_task=False, traced=False)

    def observe(self, event: Event, state: Cell) -> "asyncio.Future[None]":
        if event.task in self._odd:
            raise KeyError(event.task)
        self.looks[event.task] = asyncio.get_running_loop().create_future()
        return self.looks[event.task]

    async def act(self, event: Event, state: Cell) -> Outcome:
        self.acted.append(event.task)
        return Keep()


async def watched(
    *tasks: str, odd: Iterable[str] = (), **bounds: int
) -> tuple[Watcher, FakePorts, Actor, list[FakeDelivery]]:
    """An actor that has been given an event of each task."""
    watcher, ports = Watcher(odd), FakePorts()
    actor = Actor(watcher, ports, CHAINS, **({"concurrency": 8, "max_unfinished": 16} | bounds))
    deliveries = deliver([an_event(task=task) for task in tasks], "infer")
    await actor.run(stream(deliveries))
    return watcher, ports, actor, deliveries


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_look_is_acknowledged_when_it_is_done_and_in_the_order_of_offsets() -> None:
    watcher, ports, actor, deliveries = await watched("a", "b", "c")
    watcher.looks["b"].set_result(None)
    await settled()
    assert (deliveries[0].acked, actor.snapshot().running) == ([], 2)
    watcher.looks["a"].set_result(None)
    await settled()
    assert (deliveries[0].acked, actor.finished, ports.spans) == ([0, 1], 2, [])
    assert (watcher.acted, ports.crashes) == ([], [])


async def test_no_more_are_looked_at_than_may() -> None:
    watcher, ports = Watcher(), FakePorts()
    actor = Actor(watcher, ports, CHAINS, concurrency=2, max_unfinished=16)
    deliveries = deliver([an_event(task=task) for task in "abcd"], "infer")
    run = asyncio.create_task(actor.run(stream(deliveries)))
    await settled()
    assert list(watcher.looks) == ["a", "b"]
    watcher.looks["b"].set_result(None)
    await settled()
    assert list(watcher.looks) == ["a", "b", "c"]
    run.cancel()


async def test_what_takes_more_than_a_look_gets_a_task() -> None:
    watcher, ports, actor, deliveries = await watched("odd", odd=["odd"])
    assert await actor.drain(5.0)
    assert (watcher.acted, deliveries[0].acked, ports.crashes) == (["odd"], [0], [])


async def test_what_cannot_be_read_is_buried_as_everywhere() -> None:
    watcher, ports = Watcher(), FakePorts()
    actor = Actor(watcher, ports, CHAINS, concurrency=2, max_unfinished=16)
    deliveries = deliver([an_event()], "infer")
    deliveries[0].value = b"?"
    await actor.run(stream(deliveries))
    assert await actor.drain(5.0)
    assert [is_unreadable(record.headers) for record in ports.sent] == [True]
    assert (deliveries[0].acked, watcher.looks) == ([0], {})


async def test_a_revocation_drops_what_is_looked_at() -> None:
    watcher, ports, actor, deliveries = await watched("a", "b")
    watcher.looks["a"].set_result(None)
    actor.revoke()
    await settled()
    assert watcher.looks["b"].cancelled()
    assert (deliveries[0].acked, ports.crashes, actor.snapshot().running) == ([], [], 0)


async def test_a_look_that_does_not_reach_the_log_ends_the_worker() -> None:
    failures: list[Any] = [LogUnavailable("no broker"), LostOwnership("revoked")]
    watcher, ports, _, deliveries = await watched("a", "b")
    for look, failure in zip(watcher.looks.values(), failures, strict=True):
        look.set_exception(failure)
    await settled()
    assert (ports.crashes, deliveries[0].acked) == (failures, [])


async def test_a_look_that_is_dropped_while_the_partition_stays_ends_the_worker() -> None:
    watcher, ports, _, deliveries = await watched("a")
    watcher.looks["a"].cancel()
    await settled()
    assert ([type(crash) for crash in ports.crashes], deliveries[0].acked) == ([LogUnavailable], [])


async def test_a_drain_leaves_what_is_not_done_unacknowledged() -> None:
    watcher, ports, actor, deliveries = await watched("a")
    assert not await actor.drain(0.0)
    assert (watcher.looks["a"].cancelled(), deliveries[0].acked, ports.crashes) == (True, [], [])


async def test_the_others_of_the_process_get_their_turn() -> None:
    watcher, ports = Watcher(), FakePorts()
    actor = Actor(watcher, ports, CHAINS, concurrency=1_000, max_unfinished=1_000)
    deliveries = deliver([an_event(task=f"t{n}") for n in range(200)], "infer")
    run = asyncio.create_task(actor.run(stream(deliveries)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert 0 < len(watcher.looks) < 200
    await run
    assert len(watcher.looks) == 200
