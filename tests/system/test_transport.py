"""What the transport does where aiokafka and Faust leave a worker behind: fails when it is taken out."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from aiokafka.conn import AIOKafkaConnection

from callstream.streams.broker import BrokerOptions, EmbeddedKafka
from callstream.streams.chain import Act, Cell
from callstream.streams.event import Event
from callstream.streams.outcome import Forward, Outcome
from callstream.streams.transport import METADATA_SECONDS
from tests.support.services import OPTIONS, PARTITIONS, Hosted, Workshop, pass_on, running, task_at, unique, until


class Gated:
    """An `act` that waits until its gate is open, and counts how often it began for each task."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.begun: Counter[str] = Counter()

    async def act(self, event: Event, _state: Cell) -> Outcome:
        """Wait, then forward."""
        self.begun[event.task] += 1
        await self.gate.wait()
        return Forward()

    def act_for(self, slow: str) -> Act:
        """An `act` that waits for one task only."""

        async def act(event: Event, state: Cell) -> Outcome:
            if event.task == slow:
                return await self.act(event, state)
            self.begun[event.task] += 1
            return Forward()

        return act


@pytest_asyncio.fixture
async def workshop(kafka_broker: str, tmp_path: Path) -> AsyncIterator[Workshop]:
    """Builds services on the shared broker."""
    yield Workshop(kafka_broker, tmp_path)


async def passed(service: Hosted, number: int) -> list[str]:
    """The tasks that it has sent on, once there are so many."""

    async def look() -> bool:
        return len(await service.passed()) >= number

    await until(look, f"{number} events sent on")
    return sorted(dict(record.headers)["ce_subject"].decode() for record in await service.passed())


async def test_the_first_record_of_a_partition_is_not_lost_in_a_rebalance(workshop: Workshop) -> None:
    # given a partition of which nothing was committed, whose reader waits for records
    gated, task = Gated(), task_at(3)
    service = await workshop.build(unique("fresh"), gated.act)
    async with running(service):
        # when its first record arrives while the flow is stopped, as it is during a rebalance
        service.app.consumer.stop_flow()
        await service.submit(task)
        await asyncio.sleep(2)
        service.app.consumer.resume_flow()
        # then the record is worked on once it flows again
        await until(lambda: gated.begun[task] == 1, "the first record is worked on")
        gated.gate.set()


async def test_what_a_fetch_took_of_a_partition_that_went_meanwhile_is_given_back(workshop: Workshop) -> None:
    # given a fetch that waits for the records of a partition
    gated, task = Gated(), task_at(3)
    service = await workshop.build(unique("given"), gated.act)
    async with running(service):
        consumer: Any = service.app.consumer
        active = set(consumer._get_active_partitions())
        (tp,) = [one for one in active if one.partition == 3]
        consumer._active_partitions = active - {tp}
        await asyncio.sleep(1.5)
        fetching = asyncio.create_task(consumer._thread.getmany({tp}, timeout=10.0))
        await asyncio.sleep(0.5)
        # when its record comes while it is none that flows, as in a rebalance
        await service.submit(task)
        # then nobody is handed the record, and it is there when the partition flows again
        assert await fetching == {}
        consumer._active_partitions = active
        await until(lambda: gated.begun[task] == 1, "the record is worked on")
        gated.gate.set()


async def test_what_streams_read_flows_when_it_has_been_sought(workshop: Workshop) -> None:
    service = await workshop.build(unique("sought"), Gated().act)
    async with running(service):
        consumer: Any = service.app.consumer
        (tp,) = [one for one in consumer.assignment() if one.partition == 3]
        consumer.pause_partitions({tp})
        consumer.resume_partitions({tp})
        assert tp not in consumer._get_active_partitions()
        await consumer.perform_seek()
        assert tp in consumer._get_active_partitions()


async def test_what_is_under_way_when_the_reader_goes_back_is_neither_committed_nor_begun_again(
    workshop: Workshop,
) -> None:
    # given an event under way and two behind it that are finished, nothing of them committed
    gated = Gated()
    slow, *others = (task_at(4, number) for number in range(4))
    service = await workshop.build(unique("back"), gated.act_for(slow))
    async with running(service):
        offsets = [await service.submit(task) for task in (slow, *others[:2])]
        await until(lambda: service.actor.finished == 2, "the two are finished")
        # when the reader goes back to what was committed, as at the end of a recovery, and reads on
        await service.app.consumer.perform_seek()
        await service.submit(others[2])
        await until(lambda: service.actor.finished == 3, "the one behind them is finished")
        await service.commits()
        # then the event under way is not passed, and was begun once
        assert await service.committed(4) <= offsets[0]
        assert gated.begun == Counter([slow, *others])
        gated.gate.set()
        assert len(await passed(service, 4)) == 4


async def test_work_is_finished_before_its_partition_goes_to_a_new_worker(workshop: Workshop) -> None:
    # given a worker with an event under way in each partition
    gated, service = Gated(), unique("handed")
    tasks = sorted(task_at(partition) for partition in range(PARTITIONS))
    one = await workshop.build(service, gated.act)
    other = await workshop.build(service, gated.act, folder="other")
    async with running(one):
        for task in tasks:
            await one.submit(task)
        await until(lambda: len(gated.begun) == PARTITIONS, "every event is under way")
        # when another worker joins, and the work ends while it waits for its partitions
        await other.start()
        await until(lambda: one.app.rebalancing, "the group shares out its partitions")
        gated.gate.set()
        await other.ready()
        # then nothing is done twice, by either
        assert await passed(one, PARTITIONS) == tasks
        assert gated.begun == Counter(tasks)
        await other.stop()


async def test_work_that_does_not_end_holds_up_the_group_for_a_bounded_time_only(workshop: Workshop) -> None:
    # given a worker with an event that does not end, and half a second for it when its partition is asked for
    gated, service, task = Gated(), unique("stuck"), task_at(0)
    options = OPTIONS.model_copy(update={"handover_seconds": 0.5})
    one = await workshop.build(service, gated.act, options=options)
    other = await workshop.build(service, gated.act, options=options, folder="other")
    async with running(one):
        await one.submit(task)
        await until(lambda: gated.begun[task] == 1, "the event is under way")
        # when another worker joins
        await other.start()
        await other.ready()
        # then the event is worked on again by whoever owns its partition now
        await until(lambda: gated.begun[task] == 2, "the event is begun again")
        gated.gate.set()
        assert await passed(one, 1) == [task]
        await other.stop()


async def test_a_rebalance_at_a_stop_closes_no_connection_of_another_thread(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a worker whose consumer has its connections in a thread of its own
    service = await workshop.build(unique("stopped"), pass_on)
    closed_in: list[asyncio.AbstractEventLoop] = []
    async with running(service):
        thread = cast(Any, service.app.consumer)._thread
        connections = {id(each) for each in thread._consumer._client._conns.values()}
        close = AIOKafkaConnection.close

        def noted(connection: AIOKafkaConnection, *given: Any, **more: Any) -> Any:
            if id(connection) in connections:
                closed_in.append(asyncio.get_running_loop())
            return close(connection, *given, **more)

        monkeypatch.setattr(AIOKafkaConnection, "close", noted)
        # when the group shares out its partitions while the worker stops
        service.app._on_rebalance_when_stopped()
        await asyncio.sleep(1)
    # then they are closed, and by that thread: uvloop's memory is not safe in the hands of two
    assert closed_in
    assert set(closed_in) == {thread.thread_loop}


async def test_a_client_asks_an_absent_broker_at_a_steady_pace(tmp_path: Path) -> None:
    # given a service whose broker has gone in an orderly way, so that its partitions have no leader
    with EmbeddedKafka(BrokerOptions(folder=tmp_path / "kafka")) as broker:
        service = await Workshop(broker.bootstrap, tmp_path).build(unique("alone"), Gated().act)
        await service.start()
        await service.ready()
        await asyncio.to_thread(broker.stop)
        client = service.app.consumer._thread._ensure_consumer()._client  # type: ignore[attr-defined]
        asked = 0
        ask = client._metadata_update

        async def counted(*arguments: object) -> bool:
            nonlocal asked
            asked += 1
            answered: bool = await ask(*arguments)
            return answered

        client._metadata_update = counted
        # when it is away for two seconds
        began = time.monotonic()
        await asyncio.sleep(2)
        # then it was asked for no more often than the pace allows
        assert asked <= (time.monotonic() - began) / METADATA_SECONDS + 2
        await asyncio.to_thread(broker.start)
        await service.stop()
