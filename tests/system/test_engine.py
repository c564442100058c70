"""Faust's defects that take a second member, a group that gives a member up, or a process that stands still."""

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest

from callstream.streams.chain import Cell
from callstream.streams.event import Event
from callstream.streams.in_a_row import MOST_IN_A_ROW
from callstream.streams.keys import partition_of, task_key
from callstream.streams.outcome import Forward, Outcome
from callstream.streams.ownership import LostOwnership
from callstream.streams.topics import group_of, topic_of
from callstream.streams.wire import encode
from callstream.web.live import LivePort
from tests.support.kafka import evict
from tests.support.services import (
    OPTIONS,
    PARTITIONS,
    TENANT,
    Hosted,
    Workshop,
    next_of,
    pass_on,
    running,
    step_event,
    submit,
    submit_in_transaction,
    task_at,
    unique,
    until,
    worker_process,
)

BACKLOG = 200
PATIENT = OPTIONS.model_copy(update={"handover_seconds": 0.5})


async def test_8_13_a_member_that_joins_cancels_what_hangs_and_what_it_owned_is_refused(
    kafka_broker: str, tmp_path: Path
) -> None:
    # given a member with events in all partitions that hang, and that write their row when they are cancelled
    begun: list[str] = []
    late: list[str] = []

    async def hang(event: Event, state: Cell) -> Outcome:
        begun.append(event.task)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            try:
                await state.save({"late": True})
            except LostOwnership:
                late.append("refused")
            else:
                late.append("written")
            raise
        return Forward()

    shop, name = Workshop(kafka_broker, tmp_path), unique("pair")
    first = await shop.build(name, hang, True, PATIENT, folder="one", url="http://127.0.0.1:1001")
    second = await shop.build(name, hang, True, PATIENT, folder="two", url="http://127.0.0.1:1002")
    async with running(first):
        for partition in range(PARTITIONS):
            await first.submit(task_at(partition))
        await until(lambda: len(begun) == PARTITIONS, "all events hang")
        claims = [first.app.ownership.claim(partition) for partition in range(PARTITIONS)]
        # when a second one joins
        async with running(second):
            await until(lambda: shared(first, second), "the partitions are shared out")
            # then what hung was cancelled, could write nothing any more, and has begun anew with its owners
            await until(lambda: len(begun) == 2 * PARTITIONS, "all events have begun again")
            assert late == ["refused"] * PARTITIONS
            # and neither an old claim nor one on what is the other's now writes or sends anything
            gone = min(second.app.ownership.owned)
            for claim in (*claims, first.app.ownership.claim(gone)):
                await refused(first, claim, task_at(claim.partition))
            # and either of them finds the owner of any key
            finds_owners(first, second, shop)


def shared(first: Hosted, second: Hosted) -> bool:
    """Whether two members own all partitions between them, and take events."""
    mine, theirs = first.app.ownership.owned, second.app.ownership.owned
    each = bool(mine and theirs) and mine | theirs == set(range(PARTITIONS)) and not mine & theirs
    return each and first.is_ready and second.is_ready


async def refused(member: Hosted, claim: Any, task: str) -> None:
    """A claim neither writes nor sends."""
    key = task_key(TENANT, task)
    with pytest.raises(LostOwnership):
        await member.memory.write(claim, key, b"{}")
    assert member.memory.read(claim.partition, key) is None
    with pytest.raises(LostOwnership):
        await member.app.produce(encode(member.event(task), topic_of(next_of(member.service))), claim)


def finds_owners(first: Hosted, second: Hosted, shop: Workshop) -> None:
    """Defect 24: Faust's router hashes the table's serialised key; ours are the topic's raw keys."""
    for member, other in ((first, second), (second, first)):
        port = LivePort(member.app, member.memory, member.memory, shop.blobs, shop.tracing)
        for number in range(64):
            key = task_key(TENANT, f"any-{number}")
            mine = partition_of(key, PARTITIONS) in member.app.ownership.owned
            owner = str((member if mine else other).app.conf.canonical_url)
            assert str(member.app.router.key_store(member.memory.name, key)) == owner
            assert port.owner(key) == (None if mine else owner)


async def test_9_the_lag_reaches_nought_after_a_failed_commit(kafka_broker: str, tmp_path: Path) -> None:
    # given a member whose event is worked on when the group gives the member up
    gate = asyncio.Event()
    begun: list[str] = []

    async def wait(event: Event, _state: Cell) -> Outcome:
        begun.append(event.task)
        await gate.wait()
        return Forward()

    service = await Workshop(kafka_broker, tmp_path).build(unique("evicted"), wait, options=PATIENT)
    async with running(service):
        offset = await service.submit(task_at(0))
        await until(lambda: begun, "the event is begun")
        member = cast(Any, service.app.consumer)._thread._consumer._coordinator.member_id
        await evict(kafka_broker, group_of(service.service), member)
        # when it is finished, and its commit fails
        gate.set()

        async def settled() -> bool:
            return await service.committed(0) == offset + 1 and await service.app.lag() == 0

        # then it is committed in the end
        await until(settled, "nothing is left")


async def test_20_the_marker_of_a_transaction_is_no_lag(kafka_broker: str, tmp_path: Path) -> None:
    # given a service whose last records came in a transaction: behind them stands a marker, which is never committed
    service = await Workshop(kafka_broker, tmp_path).build(unique("marker"), pass_on)
    async with running(service):
        events = [service.event(task_at(0, skip)) for skip in range(2)]
        await submit_in_transaction(kafka_broker, service.service, events)
        # when they are finished
        await until(lambda: service.actor.finished == 2, "both are finished")

        # then nothing seems left, by which the watchdog would end a healthy worker
        async def nought() -> bool:
            return await service.app.lag() == 0

        await until(nought, "there is no lag")


async def test_20_a_worker_that_has_work_and_does_none_ends(kafka_broker: str, tmp_path: Path) -> None:
    # given a worker process whose one event hangs
    name = unique("stuck")
    async with worker_process(kafka_broker, name, tmp_path, watchdog_seconds=5, drain_seconds=0) as worker:
        await submit(kafka_broker, name, step_event(worker.chain, "t1", {"do": "hang", "file": "notes"}))
        # then it ends by itself, with a code for its supervisor and a reason for people
        code = await worker.ends()
    assert code == 1, worker.log()
    assert "1 records wait and nothing has finished for" in worker.log()


async def test_a_worker_that_stood_still_writes_nothing_any_more_and_ends(kafka_broker: str, tmp_path: Path) -> None:
    # given a worker process that writes a row again and again
    name = unique("paused")
    notes = tmp_path / "notes"
    async with worker_process(kafka_broker, name, tmp_path, session_timeout_seconds=6) as worker:
        given = {"do": "saves", "file": str(notes)}
        await submit(kafka_broker, name, step_event(worker.chain, "t1", given))
        await until(lambda: len(lines(notes)) > 2, "rows are written")
        # when it is stopped for longer than it may own a partition, and continued
        os.kill(worker.process.pid, signal.SIGSTOP)
        before = lines(notes)
        await asyncio.sleep(7)
        os.kill(worker.process.pid, signal.SIGCONT)
        # then it ends
        code = await worker.ends()
    assert code == 1, worker.log()
    assert "longer than engine.session_timeout_seconds lets it own partitions" in worker.log().splitlines()[-1]
    # and its next write was refused; one that was under way may have been told of as late as this
    after = lines(notes)[len(before) :]
    assert after[-1].startswith("refused: partition"), after
    assert after.count("saved") <= 1


def lines(file: Path) -> list[str]:
    """The lines of a file that may not be there yet."""
    return file.read_text().splitlines() if file.exists() else []


async def test_events_that_are_there_are_taken_in_a_row_and_others_have_their_turns(
    kafka_broker: str, tmp_path: Path
) -> None:
    # given a backlog, and something that counts the turns of the loop
    turns, taken_in = 0, []

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async def look(_event: Event, _state: Cell) -> Outcome:
        taken_in.append(turns)
        return Forward()

    service = await Workshop(kafka_broker, tmp_path).build(unique("row"), look, options=PATIENT)
    for number in range(BACKLOG):
        await service.submit(task_at(0, number))
    counting = asyncio.create_task(count())
    # when it is worked on
    async with running(service):
        await until(lambda: len(taken_in) == BACKLOG, "all are done")
    counting.cancel()
    # then one turn serves many, and none serves all
    of_a_turn = Counter(taken_in)
    assert len(of_a_turn) < BACKLOG / 4
    assert max(of_a_turn.values()) <= MOST_IN_A_ROW
