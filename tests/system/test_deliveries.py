"""Nothing is acknowledged before everything that it caused is on the log: Faust's defects 4, 5 and 6."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from callstream.streams.broker import BrokerOptions, EmbeddedKafka
from callstream.streams.chain import Cell
from callstream.streams.event import Event
from callstream.streams.keys import partition_of
from callstream.streams.outcome import Forward, Outcome
from callstream.streams.topics import topic_of
from callstream.streams.wire import LogUnavailable
from tests.support.bench import standing_still
from tests.support.kafka import read_all
from tests.support.services import (
    OPTIONS,
    PARTITIONS,
    Workshop,
    changelog,
    configure,
    next_of,
    running,
    step_event,
    submit,
    task_at,
    unique,
    until,
    worker_process,
)


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """A broker that a test may stop, which all others would feel."""
    with EmbeddedKafka(BrokerOptions(folder=tmp_path_factory.mktemp("own-kafka"))) as broker:
        yield broker


async def test_4_what_is_not_yet_delivered_is_not_acknowledged(own_broker: EmbeddedKafka, tmp_path: Path) -> None:
    # given a service that works on two events, of which the first saves a row
    gate = asyncio.Event()
    begun: list[str] = []
    saved: list[str] = []

    async def save_and_pass(event: Event, state: Cell) -> Outcome:
        begun.append(event.task)
        await gate.wait()
        if event.input["saves"]:
            await state.save({"task": event.task})
            saved.append(event.task)
        return Forward()

    service = await Workshop(own_broker.bootstrap, tmp_path).build(unique("pending"), save_and_pass, remembers=True)
    async with running(service):
        for task, saves in (("saves", True), ("passes", False)):
            await service.submit(task, saves=saves)
        await until(lambda: len(begun) == 2, "both are begun")
        # when the broker stands still and they are done
        with standing_still(own_broker):
            gate.set()
            await service.commits()
            # then neither the row nor the next event counts as written, and nothing as finished
            assert saved == []
            assert service.actor.finished == 0
        # and both do once the broker has them
        await until(lambda: service.actor.finished == 2, "both are finished")
        assert saved == ["saves"]
        assert len(await service.passed()) == 2
        assert len(await read_all(service.bootstrap, changelog(service.service))) == 1


async def test_6_a_record_that_is_not_delivered_in_time_stops_the_worker(
    own_broker: EmbeddedKafka, tmp_path: Path
) -> None:
    # given a service that has passed an event on, and is about to pass on the next
    gate = asyncio.Event()

    async def wait(event: Event, _state: Cell) -> Outcome:
        if event.task == "second":
            await gate.wait()
        return Forward()

    options = OPTIONS.model_copy(update={"delivery_timeout_seconds": 5.0})
    service = await Workshop(own_broker.bootstrap, tmp_path).build(unique("expired"), wait, options=options)
    async with running(service):
        for task in ("first", "second"):
            offset = await service.submit(task)
        await until(lambda: service.actor.taken == 2 and service.actor.finished == 1, "one is passed on, one begun")
        # when the broker stands still
        with standing_still(own_broker):
            gate.set()
            failure = await until(lambda: service.app.failure, "the worker ends")
        # then the worker ends after the time that is set, with nothing acknowledged
        assert isinstance(failure, LogUnavailable)
        assert "within 5 s" in str(failure)
        assert service.actor.finished == 1
    assert await service.committed(partition_of(service.event("second").key, PARTITIONS)) <= offset


@pytest.mark.parametrize("refuses", ["changelog", "next"])
async def test_5_a_refused_record_stops_the_worker_and_acknowledges_nothing(
    kafka_broker: str, tmp_path: Path, refuses: str
) -> None:
    # given a service whose changelog, or next topic, takes no record of this size
    async def grow(_event: Event, state: Cell) -> Outcome:
        await state.save({"text": "x" * 5_000})
        return Forward({"text": "x" * 5_000})

    service = await Workshop(kafka_broker, tmp_path).build(unique("refused"), grow, remembers=True)
    topic = changelog(service.service) if refuses == "changelog" else topic_of(next_of(service.service))
    await configure(kafka_broker, topic, max_message_bytes="1000")
    async with running(service):
        # when an event is worked on
        offset = await service.submit(task_at(0))
        failure = await until(lambda: service.app.failure, "the worker ends")
    # then the worker has ended, saying why, and the event will come again
    assert isinstance(failure, LogUnavailable)
    assert "the broker did not take a record" in str(failure)
    assert service.actor.finished == 0
    assert await service.committed(0) <= offset


async def test_7_a_row_ahead_of_its_changelog_swallows_no_work(own_broker: EmbeddedKafka, tmp_path: Path) -> None:
    # given a worker process that has used its table, and holds an event
    bootstrap, name, notes, go = own_broker.bootstrap, unique("ahead"), tmp_path / "notes", tmp_path / "go"
    async with worker_process(bootstrap, name, tmp_path / "one", session_timeout_seconds=6) as worker:
        await submit(bootstrap, name, step_event(worker.chain, "warm", {"do": "remember"}))
        await until(lambda: rows_of(bootstrap, name), "the changelog has a first row")
        given = {"do": "save", "file": str(notes), "go": str(go)}
        await submit(bootstrap, name, step_event(worker.chain, "held", given))
        await until(lambda: notes.exists(), "the event is begun")
        # when the broker stands still, the event's row is written, and both processes are killed
        with standing_still(own_broker):
            go.touch()
            await until(lambda: notes.exists() and "saving" in notes.read_text(), "the row is about to be written")
            await asyncio.sleep(2)
            worker.process.kill()
            await worker.process.wait()
            # It may hold the row in a socket's buffer, which must not reach it any more.
            os.kill(own_broker.pid, signal.SIGKILL)
    await asyncio.to_thread(own_broker.stop)
    await asyncio.to_thread(own_broker.start)
    # then the changelog lacks the row, the disk has it
    assert len(await rows_of(bootstrap, name)) == 1
    seen: list[Any] = []

    async def look(event: Event, state: Cell) -> Outcome:
        if event.task == "held":
            seen.append(state.value)
        return Forward()

    service = await Workshop(bootstrap, tmp_path).build(name, look, remembers=True, folder="one/data")
    async with running(service):
        # and the event, which comes again, is passed on
        await until(lambda: seen, "the event comes again")
        assert [row["saved"] for row in seen] == ["held"]

        async def passed() -> bool:
            return any(record.key == service.event("held").key for record in await service.passed())

        await until(passed, "the event is passed on")


async def rows_of(bootstrap: str, service: str) -> list[Any]:
    """What the changelog of a service's table holds."""
    return list(await read_all(bootstrap, changelog(service)))
