"""A cancelled task takes its sub-tasks with it, over the real engine, also through a kill."""

import asyncio
from pathlib import Path

import pytest

from callstream.streams.event import Json
from tests.support.running import ROOT, Settings, System, Worker, body, headers, running_system, until

FLOWS = f"{Path(__file__).parents[1] / 'support' / 'flows.py'}:flows"
CANDIDATES = f"{ROOT / 'examples' / 'candidates' / 'chain.py'}:chain"
QUICKLY: Settings = {("engine", "commit_interval_seconds"): 0.2}
ONE_PLACE: Settings = {**QUICKLY, ("engine", "concurrency"): 1}


async def cancel(worker: Worker, task: str) -> None:
    async with worker.http.post(f"/v1/tasks/{task}/cancel", json={"reason": "not needed", "by": "ada"}) as said:
        assert said.status == 202, await said.text()


async def ends(system: System) -> dict[str, Json]:
    """How each task ended, by its id: the first end that has an event's id is the one that counts."""
    records = await (await system.tail("finished")).all()
    assert len({headers(one)["ce_id"] for one in records}) == len({headers(one)["ce_subject"] for one in records})
    return {headers(one)["ce_subject"].decode(): body(one) for one in reversed(records)}


@pytest.mark.timeout(240)
async def test_running_calls_of_sub_tasks_are_cut_and_counted_and_the_join_does_not_wait(tmp_path: Path) -> None:
    async with running_system(tmp_path, (CANDIDATES,), QUICKLY) as system:
        # given a task whose three sub-tasks are at calls that never end
        worker = await system.start()
        await worker.submit("best-copy", {"title": "Blue mug\nstub-fail: hang"}, id="best")

        async def asked() -> bool:
            return int((await system.stub.report())["calls"]) == 3

        await until(asked, "three calls have come")
        # when the task is cancelled
        await cancel(worker, "best")
        # then it ends at its join, and each sub-task with what it may have cost
        row = await worker.reaches("best", "cancelled")
        assert (row["steps"][-1]["step"], row["failure"]["message"]) == ("best", "cancelled by ada: not needed")
        children = [await worker.reaches(f"best~1.{number}", "cancelled") for number in (1, 2, 3)]
        assert [child["steps"][-1]["calls"] for child in children] == [1, 1, 1]
        await system.settled()
        assert await asked()
        assert {task: one["end"] for task, one in (await ends(system)).items()} == dict.fromkeys(
            ("best", *(f"best~1.{number}" for number in (1, 2, 3))), "cancelled"
        )
        assert await (await system.tail("dead")).all() == []


@pytest.mark.timeout(300)
async def test_none_of_the_sub_tasks_begins_after_the_cancel_of_their_task_through_a_kill(tmp_path: Path) -> None:
    async with running_system(tmp_path, (FLOWS,), ONE_PLACE) as system:
        # given thirty sub-tasks with one place to run in, which one of them holds for ever
        worker = await system.start()
        await worker.submit("wide", {"number": 30}, id="wide")

        async def spread() -> bool:
            return len(await (await system.tail("double")).all()) == 30

        await until(spread, "all sub-tasks are at their second step")
        await asyncio.sleep(1)
        before = await ends(system)
        assert 0 < len(before) < 30
        # when their task is cancelled and the worker killed at once
        await cancel(worker, "wide")
        await worker.kill()
        worker = await system.start(after=worker)
        # then it ends, and so do all that had not, none of which has begun meanwhile
        assert (await worker.reaches("wide", "cancelled"))["steps"][-1]["step"] == "total"
        for number in range(1, 31):
            await worker.reaches(f"wide~1.{number}", "cancelled", "finished")
        await system.settled()
        after = await ends(system)
        assert len(after) == 31
        assert {task for task, one in after.items() if one["end"] == "finished"} == set(before)
