"""Two whole workers on one broker: each answers for every task, and when one goes the other answers for all."""

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from callstream.streams.event import Json
from callstream.streams.keys import partition_of, task_key
from tests.support.running import OBEDIENT, QUICK, TENANT, Settings, System, Worker, running_system, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

PARTITIONS = 4
MUG = {"product_id": "mug", "title": "A blue mug"}
BOAST = {"product_id": "mug", "title": "A blue mug", "description": "The world's best mug."}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    settings: Settings = {("engine", "commit_interval_seconds"): 0.2}
    async with running_system(tmp_path_factory.mktemp("two"), (QUICK, OBEDIENT), settings) as running:
        first = await running.start()
        second = await running.start()
        await until(lambda: shared(first, second), "each gateway has half of the partitions")
        yield running


async def owned(worker: Worker) -> set[int]:
    """The partitions of the table of tasks that a worker says it has."""
    async with worker.http.get("/v1/tables") as answer:
        if answer.status != 200:
            return set()
        (tasks,) = [table for table in (await answer.json())["tables"] if table["name"] == "tasks"]
    return {part["partition"] for part in tasks["partitions"] if part["owner"] is None}


async def shared(first: Worker, second: Worker) -> bool:
    mine, others = await owned(first), await owned(second)
    ready = []
    for worker in (first, second):
        async with worker.http.get("/v1/health/ready") as answer:
            ready.append(answer.status == 200)
    return all(ready) and bool(mine) and bool(others) and mine | others == set(range(PARTITIONS)) and not mine & others


def names(prefix: str) -> list[str]:
    """One task id for each partition."""
    found: dict[int, str] = {}
    for number in range(10_000):
        name = f"{prefix}-{number}"
        found.setdefault(partition_of(task_key(TENANT, name), PARTITIONS), name)
        if len(found) == PARTITIONS:
            return [found[partition] for partition in range(PARTITIONS)]
    raise AssertionError("no name for some partition")


async def test_each_gateway_takes_tasks_of_every_partition_and_tells_of_them(system: System) -> None:
    first, second = system.workers
    for taker, other in ((first, second), (second, first)):
        tasks = names(f"by-{system.workers.index(taker)}")
        for task in tasks:
            told = await taker.submit("quick", MUG, id=task)
            assert told["state"] == "accepted"
            # the other recognises it at once, whoever has its row
            assert (await other.submit("quick", MUG, id=task, status=200))["id"] == task
            await other.submit("quick", {**MUG, "title": "Other"}, id=task, status=409)
        for task in tasks:
            rows = [await worker.reaches(task, "finished") for worker in (taker, other)]
            assert rows[0] == rows[1]
            assert (await system.stub.task(TENANT, task))["calls"] == 1


async def test_a_key_is_the_same_task_at_either_gateway(system: System) -> None:
    first, second = system.workers
    for number in range(8):
        told = await first.submit("quick", MUG, key=f"key-{number}")
        assert (await second.submit("quick", MUG, key=f"key-{number}", status=200))["id"] == told["id"]


async def test_a_race_over_both_gateways_is_one_task(system: System) -> None:
    async def post(number: int) -> tuple[int, str]:
        sent = {"Idempotency-Key": "race"}
        http = system.workers[number % 2].http
        async with http.post("/v1/tasks", json={"chain": "quick", "input": MUG}, headers=sent) as said:
            return said.status, (await said.json(content_type=None))["id"]

    answers = await asyncio.gather(*(post(number) for number in range(20)))
    assert sorted(status for status, _ in answers) == [200] * 19 + [202]
    (task,) = {task for _, task in answers}
    await system.worker.reaches(task, "finished")
    await system.settled()
    assert (await system.stub.task(TENANT, task))["calls"] == 1


async def test_each_gateway_streams_tasks_of_every_partition(system: System) -> None:
    async def stream(worker: Worker, task: str) -> None:
        await worker.submit("obedient", {"do": "wait"}, id=task)
        async with worker.http.get(f"/v1/tasks/{task}/events") as answer:
            assert answer.status == 200, await answer.text()
            found = [json.loads(line[6:]) async for line in answer.content if line.startswith(b"data: ")]
        assert found[-1]["state"] == "finished"
        assert len(found) > 2

    await asyncio.gather(
        *(stream(worker, task) for number, worker in enumerate(system.workers) for task in names(f"sse-{number}"))
    )


async def test_a_websocket_at_either_gateway_hears_of_all_tasks_of_a_chain(system: System) -> None:
    for worker in system.workers:
        tasks = names(f"ws-{system.workers.index(worker)}")
        async with worker.http.ws_connect("/v1/stream") as stream:
            await stream.send_json({"subscribe": {"chain": "obedient"}})
            assert "subscribed" in await stream.receive_json(timeout=30)
            for task in tasks:
                await worker.submit("obedient", {}, id=task)
            ended: set[str] = set()
            async with asyncio.timeout(60):
                while ended != set(tasks):
                    ended |= await end_in(stream, set(tasks))


async def end_in(stream: aiohttp.ClientWebSocketResponse, tasks: set[str]) -> set[str]:
    message = await stream.receive_json(timeout=60)
    update: Json = message.get("update", {})
    return {update["task"]} & tasks if update.get("state") == "finished" else set()


async def test_held_tasks_of_both_are_listed_and_decided_at_either(system: System) -> None:
    first, second = system.workers
    tasks = names("held")
    for task in tasks:
        await first.submit("quick", BOAST, id=task)
        await first.reaches(task, "held")
    for worker in system.workers:

        async def listed(worker: Worker = worker) -> bool:
            # the list has a row once the log has it, the status a moment before
            async with worker.http.get("/v1/reviews") as answer:
                told = await answer.json()
            assert told["silent_gateways"] == 0
            return set(tasks) <= {row["id"] for row in told["reviews"]}

        await until(listed, "all of them are listed")
    for task in tasks:
        said = {"verdict": "approve", "reviewer": "ann"}
        async with second.http.post(f"/v1/reviews/{task}", json=said) as answer:
            assert answer.status == 202, await answer.text()
    for task in tasks:
        await first.reaches(task, "finished")


async def test_dead_letters_of_both_are_listed_and_decided_at_either(system: System) -> None:
    first, second = system.workers
    tasks = names("dead")
    for task in tasks:
        await first.submit("obedient", {"do": "hang"}, id=task)
    for task in tasks:
        await first.reaches(task, "failed")

    async def listed(worker: Worker, **query: str) -> Json:
        where = {"where": "task.startsWith('dead-')", "limit": "3", **query}
        async with worker.http.get("/v1/dead", params=where) as answer:
            assert answer.status == 200, await answer.text()
            told: Json = await answer.json()
        return told

    async def all_kept() -> bool:
        found: int = sum(group["letters"] for group in (await listed(second, group="cause"))["groups"])
        return found == len(tasks)

    await until(all_kept, "a letter of each task")
    for worker in system.workers:
        page = await listed(worker)
        rest = await listed(worker, cursor=page["next"])
        assert [row["task"] for row in page["letters"] + rest["letters"]] == sorted(tasks)
        assert page["silent_gateways"] == 0
    for task in tasks:
        async with second.http.put(f"/v1/dead/{task}/input", json={"do": "forward"}) as answer:
            assert answer.status == 200, await answer.text()
    async with second.http.post("/v1/dead/redrive", json={"where": "task.startsWith('dead-')", "rate": 100}) as answer:
        job = (await answer.json())["job"]
    for task in tasks:
        assert (await first.reaches(task, "finished"))["run"] == 1

    async def done() -> bool:
        async with first.http.get(f"/v1/dead/jobs/{job}") as answer:
            told = await answer.json()
        return bool(told["state"] == "done" and (told["matched"], told["sent"]) == (len(tasks), len(tasks)))

    await until(done, "the job is done")


async def test_when_one_stops_the_other_answers_for_all(system: System) -> None:
    first, second = system.workers
    # given tasks that have ended, and tasks under way, of every partition
    ended = names("by-0") + names("by-1")
    before = {task: await first.reaches(task, "finished") for task in ended}
    under_way = names("under-way")
    for task in under_way:
        await first.submit("obedient", {"do": "wait"}, id=task)
    # when the first is told to end
    assert await first.stop() == 0
    # then it ends in order, and the second has all partitions
    assert "Traceback" not in first.log()

    async def has_all() -> bool:
        async with second.http.get("/v1/health/ready") as answer:
            return answer.status == 200 and await owned(second) == set(range(PARTITIONS))

    await until(has_all, "the second gateway has all partitions")
    for task, row in before.items():
        assert await second.reaches(task, "finished") == row
    for task in under_way:
        await second.reaches(task, "finished")
    for task in names("after"):
        await second.submit("quick", MUG, id=task)
        await second.reaches(task, "finished")
        assert (await system.stub.task(TENANT, task))["calls"] == 1
    await system.settled()
    assert await second.live()
    assert "Traceback" not in second.log()
