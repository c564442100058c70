import asyncio
from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry

from callstream.agents.delivery import Away, Refused
from callstream.agents.delivery.fakes import MemorySink
from callstream.agents.delivery.lane import LOOK_SECONDS, Lane
from callstream.agents.delivery.metrics import SinkMetrics
from callstream.agents.delivery.sink import Entry
from callstream.agents.delivery.sinks import Sinks
from callstream.streams.event import Body, Event, Submission
from tests.support.clock import Clock


def entry(task: str, key: str = "mug", **value: object) -> Entry:
    body = Body(submission=Submission(chain="shop", input={}), digest="0" * 64)
    event = Event(tenant="acme", task=task, chain="shop", version=1, sequence=4, body=body, time=9.0)
    return Entry(event, "deliver", key, value or {"of": task})


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def lane(sink: MemorySink, clock: Clock) -> AsyncIterator[Lane]:
    lane = Lane("sink shop", sink, clock=clock)
    yield lane
    await lane.close()


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_writes_share_a_batch_and_a_bad_one_fails_alone(lane: Lane, sink: MemorySink) -> None:
    bad = entry("b", "jug", text=float("nan"))
    results = await asyncio.gather(*map(lane.put, (entry("a"), bad, entry("c", "pot"))), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), Refused, type(None)]
    assert sink.batches == [["mug", "jug", "pot"]]
    assert (sink.value("acme", "mug"), sink.value("acme", "jug")) == ({"of": "a"}, None)


async def test_a_store_that_is_away_is_asked_by_one_probe_while_the_others_wait(
    lane: Lane, sink: MemorySink, clock: Clock
) -> None:
    sink.away = Away("gone")
    with pytest.raises(Away, match="gone"):
        await lane.put(entry("a"))
    assert lane.away() == "gone"
    # when many come meanwhile
    waiting = [asyncio.create_task(lane.put(entry(f"t-{number}", f"k-{number}"))) for number in range(500)]
    undo = asyncio.create_task(lane.undo(entry("a")))
    await settled()
    # then nobody asks before its pause is over
    assert sink.calls == 1
    assert not any(task.done() for task in waiting)
    clock.now += 1.0
    sink.away = None
    # and all is written in a few batches once it is back
    await asyncio.wait_for(asyncio.gather(*waiting, undo), 5)
    assert sink.calls <= 1 + 1 + -(-500 // 64)
    assert lane.away() is None


async def test_the_pauses_grow_and_end_somewhere(lane: Lane, sink: MemorySink, clock: Clock) -> None:
    sink.away = Away("gone")
    asked: list[float] = []
    for _ in range(8):
        with pytest.raises(Away):
            await lane.put(entry("a"))
        before = clock.now
        while lane.away() is not None:
            clock.now += 0.5
        asked.append(clock.now - before)
    assert asked == [1, 2, 4, 8, 15, 15, 15, 15]


async def test_what_the_store_asks_for_is_granted_within_bounds(lane: Lane, sink: MemorySink, clock: Clock) -> None:
    sink.away = Away("busy", after_seconds=40.0)
    with pytest.raises(Away):
        await lane.put(entry("a"))
    clock.now += 39
    assert lane.away() == "busy"
    clock.now += 1
    assert lane.away() is None
    sink.away = Away("busy", after_seconds=1e9)
    with pytest.raises(Away):
        await lane.put(entry("a"))
    clock.now += 300
    assert lane.away() is None


async def test_asking_whether_it_is_there_does_not_wait(lane: Lane, sink: MemorySink) -> None:
    await lane.put(entry("a"))
    assert await lane.has(entry("a"))
    sink.away = Away("gone")
    with pytest.raises(Away):
        await lane.has(entry("a"))
    calls = sink.calls
    with pytest.raises(Away):
        await lane.has(entry("a"))
    assert sink.calls == calls


async def test_who_waits_when_the_worker_ends_is_let_go(sink: MemorySink, clock: Clock) -> None:
    lane = Lane("sink shop", sink, clock=clock)
    sink.away = Away("gone")
    with pytest.raises(Away):
        await lane.put(entry("a"))
    waiting = asyncio.create_task(lane.put(entry("b")))
    await settled()
    await asyncio.wait_for(lane.close(), LOOK_SECONDS * 5)
    with pytest.raises(Away):
        await waiting
    assert sink.calls == 1


async def test_a_store_that_hangs_is_away() -> None:
    class Hanging(MemorySink):
        async def write(self, entries: object) -> list[Refused | Away | None]:
            await asyncio.Event().wait()
            return []

    lane = Lane("sink shop", Hanging(), timeout_seconds=0.01)
    with pytest.raises(Away, match=r"no answer in 0\.01 s"):
        await lane.put(entry("a"))
    await lane.close()


async def test_one_that_alone_is_not_taken_closes_nothing(clock: Clock) -> None:
    class Choosy(MemorySink):
        async def write(self, entries: object) -> list[Refused | Away | None]:
            return [Away("500"), None]

    lane = Lane("sink shop", Choosy(), clock=clock)
    results = await asyncio.gather(lane.put(entry("a")), lane.put(entry("b")), return_exceptions=True)
    assert [type(result) for result in results] == [Away, type(None)]
    assert lane.away() is None
    await lane.close()


async def test_metrics_tell_what_came_of_writes_and_whether_the_store_is_away(sink: MemorySink, clock: Clock) -> None:
    registry = CollectorRegistry()
    lane = Lane("sink shop", sink, clock=clock, metrics=SinkMetrics(registry), label="shop")

    def told(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"callstream_sink_{name}", {"sink": "shop", **labels})

    # when one of two rows is bad
    await asyncio.gather(lane.put(entry("a")), lane.put(entry("b", text=float("nan"))), return_exceptions=True)
    assert (told("writes_total", result="written"), told("writes_total", result="refused")) == (1, 1)
    assert (told("write_seconds_count"), told("away")) == (1, 0)
    # when the store goes
    sink.away = Away("gone")
    with pytest.raises(Away):
        await lane.put(entry("c"))
    assert (told("writes_total", result="failed"), told("away")) == (1, 1)
    await lane.close()


async def test_sinks_that_steps_bring_are_told_apart_by_their_class_only(sink: MemorySink) -> None:
    registry = CollectorRegistry()
    sinks = Sinks(registry=registry)
    lanes = [sinks.lane(sink), sinks.lane(MemorySink())]
    labels = {sample.labels["sink"] for one in registry.collect() for sample in one.samples if "sink" in sample.labels}
    assert (len(set(lanes)), labels) == (2, {"MemorySink"})
    await sinks.close()
