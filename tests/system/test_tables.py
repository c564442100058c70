"""Tables on a real broker: what comes back, where from, what expires, and what they take of memory."""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from callstream.agents.ports import Policy
from callstream.agents.roles import ActRole
from callstream.streams.chain import Cell, Chains
from callstream.streams.event import Event
from callstream.streams.keys import partition_of
from callstream.streams.outcome import Forward, Outcome
from callstream.streams.topics import PROFILES, changelog_of, topic_of
from callstream.tables.durable import store_options
from callstream.tables.latency import Window, WindowKey
from callstream.tables.profiles import Profiles, profile_key
from callstream.tables.sweep import Sweeper, window_over
from tests.support.kafka import Send, create_topics, produce, read_all
from tests.support.services import (
    PARTITIONS,
    ROOT,
    TENANT,
    Hosted,
    Workshop,
    changelog,
    pass_on,
    running,
    step_event,
    submit,
    task_at,
    unique,
    until,
    worker_process,
)

MOST_MEMORY_BYTES = 256 * 1024**2
HOUR, DAY = 3_600, 86_400


async def test_10_expired_windows_are_swept_also_those_that_were_recovered(kafka_broker: str, tmp_path: Path) -> None:
    # given latency windows, of which some expired days ago, written by a worker that is gone
    shop, name, now = Workshop(kafka_broker, tmp_path), unique("windows"), time.time()
    writer = await shop.build(name, pass_on, remembers=True, folder="one")
    old = [window(now - 9 * DAY, f"step-{number}") for number in range(3)]
    fresh = [window(now, f"step-{number}") for number in range(3)]
    row = json.dumps(Window().to_row()).encode()
    async with running(writer):
        for partition in (0, 5):
            claim = writer.app.ownership.claim(partition)
            for key in (*old, *fresh):
                await writer.memory.write(claim, key, row)
            # Where the next recovery on this disk begins.
            assert writer.memory.size(partition)[2] == await last_offset(kafka_broker, changelog(name), partition)
    # when another worker, with an empty disk, takes over and sweeps
    taker = await shop.build(name, pass_on, remembers=True, folder="two")
    taker.app.background.append(Sweeper(taker.memory, window_over, time.time).run)
    async with running(taker):
        # then the fresh ones came back from the changelog, and the expired ones go, here and there
        await until(lambda: keys(taker, 0) == keys(taker, 5) == sorted(fresh), "the expired windows are gone")
    last = {(one.partition, one.key): one.value for one in await read_all(kafka_broker, changelog(name))}
    assert {key for (partition, key), value in last.items() if partition == 5 and value is not None} == set(fresh)


async def test_rows_come_back_on_the_same_disk_and_nothing_is_open_before(kafka_broker: str, tmp_path: Path) -> None:
    # given a row, and the offset up to which this disk has the changelog
    shop, name = Workshop(kafka_broker, tmp_path), unique("disk")
    first = await shop.build(name, pass_on, remembers=True)
    async with running(first):
        await first.memory.write(first.app.ownership.claim(3), b"key", b'{"n": 1}')
        told = first.memory.size(3)[2]
    # when the worker starts again
    again = await shop.build(name, pass_on, remembers=True)
    async with running(again):
        # then it has both
        assert again.memory.read(3, b"key") == b'{"n": 1}'
        assert again.memory.size(3)[2] == told
        assert again.memory.open_partitions() == list(range(PARTITIONS))
        # and opens nothing to sweepers while partitions are shared out or recovered
        again.app.rebalancing = True
        assert again.memory.open_partitions() == []
        again.app.rebalancing = False


async def test_a_saved_row_outlives_a_kill(kafka_broker: str, tmp_path: Path) -> None:
    # given a worker process that has saved a row for an event, and not finished it
    name, task, notes = unique("killed"), task_at(2), tmp_path / "notes"
    go = tmp_path / "go"
    go.touch()
    async with worker_process(kafka_broker, name, tmp_path / "one") as worker:
        given = {"do": "save", "file": str(notes), "go": str(go)}
        offset = await submit(kafka_broker, name, step_event(worker.chain, task, given))
        await until(lambda: notes.exists() and "saved" in notes.read_text(), "the row is saved")
        # when it is killed
        worker.process.kill()
    # then the next worker, on another disk, has the row when the event comes again
    seen: list[Any] = []

    async def look(_event: Event, state: Cell) -> Outcome:
        seen.append(state.value)
        return Forward()

    service = await Workshop(kafka_broker, tmp_path).build(name, look, remembers=True, folder="two")
    async with running(service):
        await until(lambda: seen, "the event comes again")
        assert [row["saved"] for row in seen] == [task]

        async def committed() -> bool:
            return await service.committed(2) > offset

        await until(committed, "it is finished")


async def test_a_profile_put_on_the_changelog_is_seen_at_once_and_erased(kafka_broker: str, tmp_path: Path) -> None:
    # given a service with the global table of profiles, of which one was put on the changelog before it started
    name = unique("profiles")
    topic = changelog_of(name, PROFILES)
    await create_topics(kafka_broker, {topic: PARTITIONS}, {"cleanup.policy": "compact"})
    await create_topics(kafka_broker, {topic_of(name): PARTITIONS})
    await put_profile(kafka_broker, topic, "early", b'{"tone": "plain"}')
    shop = Workshop(kafka_broker, tmp_path)
    app = shop.app(name)
    profiles = Profiles(app, store_options())
    role = ActRole(name, pass_on, stateful=False, policy=Policy(step=name))
    service = shop.join(app, role, None, Chains([]), (name,), "none")
    async with running(service):
        # then it is there
        await until(lambda: profiles.get(TENANT, "early") == {"tone": "plain"}, "the first profile is there")
        # and one that is put there while it runs is seen without a second one behind it
        await put_profile(kafka_broker, topic, "late", b'{"tone": "warm"}')
        await until(lambda: profiles.get(TENANT, "late") == {"tone": "warm"}, "the second profile is there")
        # and a tombstone erases it
        await put_profile(kafka_broker, topic, "late", None)
        await until(lambda: profiles.get(TENANT, "late") is None, "the second profile is erased")
        assert profiles.get(TENANT, "early") == {"tone": "plain"}


@pytest.mark.long
async def test_14_the_tables_of_a_worker_keep_their_memory_and_are_swept(tmp_path: Path) -> None:
    # given a process with every table of a worker, each open in all partitions
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.memory", str(tmp_path / "data")),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    # when far more is written and read than may stay in memory
    said, _ = await process.communicate()
    assert process.returncode == 0
    told = json.loads(said.splitlines()[-1])
    # then it did not stay
    assert told["databases"] == 13 * PARTITIONS
    assert told["written_bytes"] > 1.5 * MOST_MEMORY_BYTES
    assert told["memory_bytes"] < MOST_MEMORY_BYTES
    # and no table is left out by the sweepers (defect 10)
    # an event that was put aside or paused is worked on, a timer is released, a schedule is removed: the row goes then
    assert told["unswept"] == ["infer/parked", "paused/paused", "schedule/schedules", "timer/timers"]
    # and each finds the owner of a key, for which its keys have to be the topics' bytes (defect 24)
    assert told["keyed_otherwise"] == []


def window(moment: float, step: str) -> bytes:
    """Key of the hour's window at that moment."""
    return WindowKey(HOUR, int(moment // HOUR) * HOUR, step, "").encode()


def keys(service: Hosted, partition: int) -> list[bytes]:
    """The keys of a partition's rows."""
    return [key for key, _ in service.memory.scan(partition)]


async def last_offset(bootstrap: str, topic: str, partition: int) -> int:
    """The offset of the last record of a partition."""
    return max(int(one.offset) for one in await read_all(bootstrap, topic) if one.partition == partition)


async def put_profile(bootstrap: str, topic: str, user: str, value: bytes | None) -> None:
    """Put a profile on the changelog, as whoever keeps them does."""
    key = profile_key(TENANT, user)
    await produce(bootstrap, topic, [Send(value, key, (), partition_of(key, PARTITIONS))])
