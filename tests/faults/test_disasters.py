"""What hurts more than a kill: the broker away, a full disk, a folder lost or out of date, a process that stood still.

Each is done to one of two workers (or to the broker) under load, and judged as the kills are.
"""

import asyncio
import io
import json
import random
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from PIL import Image

from callstream.streams.broker import BrokerOptions, EmbeddedKafka
from callstream.stub import running_stub
from tests.faults.load import CHAIN
from tests.faults.scenario import Fault, Plan, Scenario
from tests.support.disks import fill, make_room, small_disk
from tests.support.judge import Verdict, judge
from tests.support.workers import READY_SECONDS, WorkerProcess, running_workers, until_ready

PLAN = Plan(0, 1, rate=12, seed=11)
BEFORE_SECONDS = 8.0
AFTER_SECONDS = 8.0
AWAY_SECONDS = 60.0
FROZEN_SECONDS = 30.0
LOOK_SECONDS = 0.05
FAILED = 1
ACCEPTED = 202
UNAVAILABLE = 503
Do = Callable[["Disaster"], Awaitable[None]]


class Disaster(Scenario):
    """A load on two workers, and one disaster in its middle."""

    do: Do
    more: dict[str, str]

    def _settings(self) -> dict[str, str]:
        return {**super()._settings(), **self.more}

    async def _break(self) -> None:
        await asyncio.sleep(BEFORE_SECONDS)
        await type(self).do(self)
        await asyncio.sleep(AFTER_SECONDS)

    def happened(self, kind: str, target: str, moment: float) -> None:
        """Note what was done, for the judge."""
        self.made.append(Fault(0.0, kind, target))
        self.moments.append(moment)

    async def ready(self, *workers: WorkerProcess) -> None:
        """Wait until these take tasks again."""
        async with aiohttp.ClientSession() as http:
            await until_ready(list(workers), http, READY_SECONDS)

    async def says(self, worker: WorkerProcess, words: str, seconds: float) -> float:
        """The moment at which a worker has said this."""
        end = time.monotonic() + seconds
        while words not in whole_log(worker):
            assert time.monotonic() < end, f"{worker.name} has not said {words!r} in {seconds:g} s:\n{worker.said()}"
            await asyncio.sleep(LOOK_SECONDS)
        return time.time()

    async def ends(self, worker: WorkerProcess, times: int) -> None:
        """Wait until a worker has ended so many times."""
        end = time.monotonic() + READY_SECONDS * times
        while len(worker.exits) < times:
            assert time.monotonic() < end, f"{worker.name} has ended {len(worker.exits)} times:\n{worker.said()}"
            await asyncio.sleep(LOOK_SECONDS)

    def tables(self, worker: WorkerProcess) -> Path:
        """Where a worker keeps its tables."""
        return worker.folder / "data" / "tables"


def whole_log(worker: WorkerProcess) -> str:
    """All that a worker's runs have said."""
    return worker.log.read_text("utf-8", "replace")


async def judged(folder: Path, do: Do, **more: str) -> tuple[Disaster, Verdict]:
    """Run a disaster, show what came of it, and fail for whatever is not as it must be."""
    kind = type("One", (Disaster,), {"do": staticmethod(do), "more": more})
    async with (
        EmbeddedKafka(BrokerOptions(folder=folder / "kafka", start_timeout_seconds=300)) as broker,
        running_stub(seed=PLAN.seed, median_ms=400, sigma=0.5, concurrency=64) as stub,
    ):
        one = kind(PLAN, folder, f"sqlite:///{folder}/catalogue.db", broker, stub)
        verdict = judge(await one.run())
    exits = [(end.worker, end.code) for worker in one.workers.values() for end in worker.exits]
    (folder / "figures.json").write_text(json.dumps({**verdict.figures, "exits": exits, "faults": verdict.faults}))
    print(f"\n{verdict.table()}\nexits {exits}")
    assert not verdict.faults, "\n".join(verdict.faults)
    return one, verdict


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_broker_that_is_away_for_a_minute(tmp_path: Path) -> None:
    async def stop_the_broker(one: Disaster) -> None:
        # when the broker is stopped, and started a minute later
        one.happened("stop", "broker", time.time())
        await asyncio.to_thread(one.broker.stop)
        await asyncio.sleep(AWAY_SECONDS)
        await asyncio.to_thread(one.broker.start)
        await one.ready(*one.workers.values())

    one, verdict = await judged(tmp_path, stop_the_broker, CALLSTREAM_ENGINE__WATCHDOG_SECONDS="120")
    # then clients were told so in time, what they sent again and again was not kept for later
    told = [json.loads(body) for status, body in one.load.refusals if status == UNAVAILABLE]
    print(f"answers 503: {len(told)}, none in time: {one.load.unanswered}")
    assert told
    assert all(document["detail"] and document["status"] == UNAVAILABLE for document in told)
    assert one.load.unanswered < len(told)
    assert verdict.figures["redelivered"] < 10 * len(one.load.orders)
    # and whoever ended said why
    assert all(end.code == FAILED for worker in one.workers.values() for end in worker.exits)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_disk_that_is_full_under_the_tables(tmp_path: Path) -> None:
    async def fill_the_disk(one: Disaster) -> None:
        # when one worker's disk is full
        worker = one.workers["worker-a"]
        fill(disk)
        # then it ends, also each time that it is started, and says why
        await one.ends(worker, 2)
        for end in worker.exits:
            one.happened("full", worker.name, end.at)
        # and goes on once there is room
        make_room(disk)
        await one.ready(worker)

    with small_disk(tmp_path / "worker-a" / "data", megabytes=128) as disk:
        one, _ = await judged(tmp_path, fill_the_disk)
        ended, said = one.workers["worker-a"].exits, whole_log(one.workers["worker-a"])
    assert {end.code for end in ended} == {FAILED}
    assert not one.workers["worker-b"].exits
    for told in ("No space left on device", str(disk), "bytes are free there", "make room"):
        assert told in said


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_folder_of_tables_that_is_deleted(tmp_path: Path) -> None:
    async def delete_folders(one: Disaster) -> None:
        # when the tables of a worker that is down are deleted
        worker, other = one.workers["worker-a"], one.workers["worker-b"]
        one.happened("kill", worker.name, await worker.end())
        await asyncio.to_thread(shutil.rmtree, one.tables(worker))
        await worker.start()
        await one.ready(worker)
        # and those of one that runs, which is killed some time later
        await asyncio.to_thread(shutil.rmtree, one.tables(other))
        one.happened("gone", other.name, time.time())
        await asyncio.sleep(AFTER_SECONDS)
        if not other.exits:
            one.happened("kill", other.name, other.kill())
        await one.ready(other)

    one, _ = await judged(tmp_path, delete_folders)
    assert all(end.killed or end.code == FAILED for worker in one.workers.values() for end in worker.exits)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_folder_of_an_older_state_that_is_restored(tmp_path: Path) -> None:
    async def restore(one: Disaster) -> None:
        # given a copy of a worker's folder, after which work went on
        worker = one.workers["worker-a"]
        tables, copy = one.tables(worker), tmp_path / "copy"
        one.happened("kill", worker.name, await worker.end())
        await asyncio.to_thread(shutil.copytree, tables, copy)
        await worker.start()
        await one.ready(worker)
        await asyncio.sleep(BEFORE_SECONDS)
        # when it is killed and finds that copy
        one.happened("kill", worker.name, await worker.end())
        await asyncio.to_thread(shutil.rmtree, tables)
        await asyncio.to_thread(shutil.move, copy, tables)
        await worker.start()
        await one.ready(worker)

    await judged(tmp_path, restore)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_worker_that_stands_still_for_longer_than_its_session(tmp_path: Path) -> None:
    async def freeze(one: Disaster) -> None:
        # when a worker stands still until its partitions have gone to the other, and goes on then
        worker = one.workers["worker-a"]
        one.happened("freeze", worker.name, worker.freeze())
        await asyncio.sleep(FROZEN_SECONDS)
        worker.thaw()
        await one.says(worker, "stood still for", 30)
        await one.ready(worker)

    one, _ = await judged(tmp_path, freeze)
    # then it ended, and said why
    assert [end.code for end in one.workers["worker-a"].exits] == [FAILED]
    assert not one.workers["worker-b"].exits


@asynccontextmanager
async def one_worker(folder: Path) -> AsyncIterator[tuple[Disaster, WorkerProcess]]:
    """A broker, a stub and a worker that is ready, without a load."""
    async with (
        EmbeddedKafka(BrokerOptions(folder=folder / "kafka", start_timeout_seconds=300)) as broker,
        running_stub(seed=PLAN.seed, median_ms=20) as stub,
    ):
        one = Disaster(PLAN, folder, f"sqlite:///{folder}/catalogue.db", broker, stub)
        one.more = {}
        worker = WorkerProcess("worker-a", folder / "worker-a", one._settings())
        async with running_workers([worker], READY_SECONDS):
            yield one, worker


async def finish(http: aiohttp.ClientSession, task: str) -> int:
    """Hand in a task and wait for its end; gives the status of the first answer."""
    body = {"chain": CHAIN, "id": task, "input": {"product_id": task, "title": "A mug"}}
    async with http.post("/v1/tasks", json=body) as answer:
        status = answer.status
    state = None
    while state != "finished":
        async with http.get(f"/v1/tasks/{task}", params={"wait": "5"}) as answer:
            state = (await answer.json()).get("state")
        assert state not in ("failed", "rejected"), state
    return status


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_broker_that_has_lost_its_data_is_another_cluster(tmp_path: Path) -> None:
    async with one_worker(tmp_path) as (one, worker), aiohttp.ClientSession(worker.url) as http:
        # given tasks that are settled in the worker's tables
        tasks = [f"lost-{number}" for number in range(5)]
        assert [await finish(http, task) for task in tasks] == [ACCEPTED] * 5
        # when the broker has lost all that it had, and the worker has its folder still
        await worker.end()
        await asyncio.to_thread(one.broker.stop)
        await asyncio.to_thread(shutil.rmtree, one.broker.home.data)
        await asyncio.to_thread(one.broker.start)
        await worker.start()
        await one.ready(worker)
        # then the worker says so and knows nothing of them: they are new, and are done anew
        assert "is of another cluster" in whole_log(worker)
        async with http.get(f"/v1/tasks/{tasks[0]}") as answer:
            assert answer.status == 404
        assert [await finish(http, task) for task in tasks] == [ACCEPTED] * 5
        assert (await one.stub.report())["calls"] == 10


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_blob_store_that_is_full_says_so_at_the_door(tmp_path: Path) -> None:
    noise = Image.frombytes("RGB", (400, 400), random.Random(1).randbytes(400 * 400 * 3))
    photo = io.BytesIO()
    noise.save(photo, "PNG")
    with small_disk(tmp_path / "blobs", megabytes=4) as disk:
        async with one_worker(tmp_path) as (_, worker), aiohttp.ClientSession(worker.url) as http:
            # when the store is full
            fill(disk)
            async with http.post("/v1/blobs", data=photo.getvalue(), headers={"Content-Type": "image/png"}) as answer:
                told = await answer.json(content_type=None)
            # then the client is told, and the worker goes on
            assert (answer.status, told["status"]) == (UNAVAILABLE, UNAVAILABLE)
            assert "cannot write" in told["detail"]
            assert await finish(http, "meanwhile") == ACCEPTED
            # and once there is room the same is taken
            make_room(disk)
            async with http.post("/v1/blobs", data=photo.getvalue(), headers={"Content-Type": "image/png"}) as answer:
                assert answer.status in (200, 201)
            assert not worker.exits
