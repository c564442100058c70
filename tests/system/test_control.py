"""Cancel, pause and resume on real parts: what is told to stop does, at once, and what was paused goes on."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from callstream.streams.event import Json
from tests.support.running import OBEDIENT, QUICK, Settings, System, Worker, body, headers, running_system, until

MUG = {"product_id": "mug", "title": "A blue mug"}
ENDPOINT = ("inference", "pools", "copywriter", "endpoints", "0")
ONE_AT_ONCE: Settings = {(*ENDPOINT, "concurrency"): 1, (*ENDPOINT, "start_concurrency"): 1}
FEW: Settings = {**ONE_AT_ONCE, ("engine", "concurrency"): 1}
SOON_SECONDS = 5.0


async def post(worker: Worker, path: str, document: Json, status: int = 202) -> Json:
    """Post a command; its answer has to have that status."""
    async with worker.http.post(path, json=document) as said:
        told = await said.json(content_type=None)
        assert said.status == status, (said.status, told)
        return dict(told)


async def cancel(worker: Worker, task: str, status: int = 202) -> Json:
    """Cancel a task."""
    return await post(worker, f"/v1/tasks/{task}/cancel", {"reason": "not needed", "by": "ada"}, status)


async def calls(system: System) -> list[Json]:
    """The calls that the model server has seen the end of."""
    return list((await system.stub.calls(0))["calls"])


async def abandoned(system: System) -> list[Json]:
    """The calls whose client left: another one may be refused because it came before the server noticed."""
    return [call for call in await calls(system) if call["abandoned"]]


async def asked(system: System) -> int:
    """How many calls have come to the model server."""
    return int((await system.stub.report())["calls"])


async def reaching(system: System, count: int) -> None:
    """Wait until so many calls have come to the model server."""

    async def look() -> bool:
        return await asked(system) >= count

    await until(look, f"{count} calls have come")


async def waits(worker: Worker, task: str) -> Json:
    """What a task waits for, once it says so."""

    async def look() -> Any:
        return ((await worker.row(task)) or {}).get("waiting")

    return dict(await until(look, f"{task} says why it waits"))


def catalogue(system: System) -> list[str]:
    """The tasks that have written a row."""
    with sqlite3.connect(system.database) as database:
        return [task for (task,) in database.execute("SELECT task FROM catalogue")]


async def all_end_cancelled(worker: Worker, tasks: list[str]) -> list[Json]:
    """Their rows, once all are cancelled, which takes no longer than a moment."""
    return [
        await asyncio.wait_for(worker.reaches(task, "finished", "rejected", "failed", "cancelled"), SOON_SECONDS)
        for task in tasks
    ]


@pytest.mark.timeout(240)
async def test_a_running_call_is_cut_and_the_waiting_ones_are_never_made(tmp_path: Path) -> None:
    async with running_system(tmp_path, (QUICK,), FEW, median_ms=60_000, sigma=0.0, concurrency=1) as system:
        # given one call under way, others at the gate, and more in the lot
        worker = await system.start()
        tasks = [f"mug-{number:02d}" for number in range(30)]
        await worker.submit("quick", {"product_id": tasks[0], "title": "A mug\nstub-fail: hang"}, id=tasks[0])
        await reaching(system, 1)
        for task in tasks[1:]:
            await worker.submit("quick", {**MUG, "product_id": task}, id=task)
        assert (await waits(worker, tasks[-1]))["reason"] == "fair share"
        # when the running one is cancelled
        answer = await cancel(worker, tasks[0])
        assert (answer["state"], answer["cancel"]["by"]) == ("running", "ada")
        [row] = await all_end_cancelled(worker, tasks[:1])
        # then it ends with what it may have cost, and its request is cut
        assert row["failure"] == {"kind": "cancelled", "message": "cancelled by ada: not needed", "step": "copy"}
        assert (row["steps"][-1]["step"], row["steps"][-1]["calls"]) == ("copy", 1)
        [cut] = await until(lambda: abandoned(system), "the model server sees the client leave", SOON_SECONDS)
        assert cut["task"] == tasks[0]
        # and a list ends those that wait, one and all; unknown and ended ones are told
        many = await post(worker, "/v1/control/cancel", {"tasks": [*tasks, "nobody"], "reason": "all of it"})
        outcomes = {one["id"]: one["outcome"] for one in many["tasks"]}
        assert (outcomes[tasks[0]], outcomes["nobody"], outcomes[tasks[-1]]) == (
            "cancelled before",
            "unknown",
            "cancelled",
        )
        rows = await all_end_cancelled(worker, tasks)
        assert {row["state"] for row in rows} == {"cancelled"}
        # and nothing of them runs later: the next calls are those of a task that was not cancelled
        before = await asked(system)
        await system.settled()
        assert (await asked(system), catalogue(system)) == (before, [])
        assert before <= 3
        finished = await system.tail("finished")
        ends = await finished.find(lambda record: True, "the ends", len(tasks))
        assert len({headers(end)["ce_id"] for end in ends}) == len(ends) == len(tasks)
        assert {body(end)["end"] for end in ends} == {"cancelled"}
        # and twice is once
        assert (await cancel(worker, tasks[0], 200))["cancel"] == answer["cancel"]


@pytest.mark.timeout(240)
async def test_a_paused_chain_waits_through_a_restart_and_the_others_go_on(tmp_path: Path) -> None:
    async with running_system(tmp_path, (QUICK, OBEDIENT)) as system:
        # given a chain that is paused
        worker = await system.start()
        paused = await post(worker, "/v1/control/pause", {"scope": {"chain": "quick"}, "reason": "costs", "by": "ada"})
        again = await post(worker, "/v1/control/pause", {"scope": {"chain": "quick"}, "by": "bob"}, 200)
        assert again == paused
        tasks = [f"mug-{number:02d}" for number in range(40)]
        for task in tasks:
            await worker.submit("quick", {**MUG, "product_id": task}, id=task)
        # then nothing of it runs, and another chain goes on through the same partitions
        others = [f"other-{number}" for number in range(8)]
        for task in others:
            await worker.submit("obedient", {"do": "forward"}, id=task)
        for task in others:
            await worker.reaches(task, "finished")
        waiting = await waits(worker, tasks[0])
        assert (waiting["reason"], waiting["waits_for"]) == ("paused", "resume of chain quick")
        assert (
            waiting["paused"]
            == paused
            == {"scope": {"chain": "quick"}, "by": "ada", "reason": "costs"} | {"since": paused["since"]}
        )
        await system.settled()
        # and one of those that wait can be cancelled
        await cancel(worker, tasks[0])
        await all_end_cancelled(worker, tasks[:1])
        # when the worker is stopped and another one comes
        assert await worker.stop() == 0
        worker = await system.start(after=worker)
        assert (await waits(worker, tasks[1]))["paused"] == paused
        await system.settled()
        assert await asked(system) == 0
        # then at the end of the pause all of them are done, once
        await post(worker, "/v1/control/resume", {"scope": {"chain": "quick"}})
        for task in tasks[1:]:
            await worker.reaches(task, "finished")
        await system.settled()
        assert (await asked(system), sorted(catalogue(system))) == (39, tasks[1:])
        assert (await worker.row(tasks[0]) or {})["state"] == "cancelled"
        await post(worker, "/v1/control/resume", {"scope": {"chain": "quick"}}, 409)


@pytest.mark.timeout(240)
async def test_a_paused_pool_service_tenant_and_task_wait_and_say_why(tmp_path: Path) -> None:
    scopes: list[Json] = [{"pool": "copywriter"}, {"service": "moderate"}, {"tenant": "default"}, {"task": "mug-3"}]
    async with running_system(tmp_path, (QUICK,), {("engine", "watchdog_seconds"): 6}) as system:
        worker = await system.start()
        for number, scope in enumerate(scopes):
            # given something that is paused; a task can be once it is there
            first = {"chain": "quick"} if "task" in scope else scope
            await post(worker, "/v1/control/pause", {"scope": first})
            task = f"mug-{number}"
            await worker.submit("quick", {**MUG, "product_id": task}, id=task)
            if first != scope:
                await post(worker, "/v1/control/pause", {"scope": scope})
                await post(worker, "/v1/control/resume", {"scope": first})
            # then a task that needs it waits for that
            waiting = await waits(worker, task)
            [kind] = scope
            assert (waiting["reason"], waiting["waits_for"]) == ("paused", f"resume of {kind} {scope[kind]}")
            assert await asked(system) == (number if number != 1 else 2)
            if kind in ("pool", "service"):
                # and the watchdog knows that this is no stall
                await asyncio.sleep(9)
                assert worker.is_running
            if kind == "pool":
                async with worker.http.get("/v1/pools") as answer:
                    document = await answer.json()
                assert list(document["paused"]) == ["copywriter"]
                assert {one["reason"] for pools in document["replicas"].values() for one in pools} == {"paused"}
            # and at its end the task is done
            await post(worker, "/v1/control/resume", {"scope": scope})
            await worker.reaches(task, "finished")
        # and the pause of a task that ends otherwise is forgotten
        await post(worker, "/v1/control/pause", {"scope": {"chain": "quick"}})
        await worker.submit("quick", {**MUG, "product_id": "mug-9"}, id="mug-9")
        await post(worker, "/v1/control/pause", {"scope": {"task": "mug-9"}})
        await post(worker, "/v1/tasks/mug-9/cancel", {})
        await worker.reaches("mug-9", "cancelled")

        async def only_the_chain() -> bool:
            async with worker.http.get("/v1/control") as answer:
                pauses = (await answer.json())["pauses"]
            return [one["scope"] for one in pauses] == [{"chain": "quick"}]

        await until(only_the_chain, "the pause of the task is forgotten")


@pytest.mark.long
@pytest.mark.timeout(240)
async def test_what_a_call_waits_for_is_taken_back_when_its_chain_is_paused(tmp_path: Path) -> None:
    async with running_system(tmp_path, (QUICK,), FEW, median_ms=3_000, sigma=0.0, concurrency=1) as system:
        # given a call under way and others that wait for the one place of their pool
        worker = await system.start()
        tasks = [f"mug-{number}" for number in range(6)]
        for task in tasks:
            await worker.submit("quick", {**MUG, "product_id": task}, id=task)
        await reaching(system, 1)
        # when their chain is paused
        await post(worker, "/v1/control/pause", {"scope": {"chain": "quick"}})
        await system.settled()
        # then the one that runs has come to its end, and no other call was made
        assert await asked(system) == 1
        await post(worker, "/v1/control/resume", {"scope": {"chain": "quick"}})
        for task in tasks:
            await worker.reaches(task, "finished")
        assert await asked(system) == 6


@pytest.mark.timeout(240)
async def test_held_ended_and_unknown_tasks_and_a_filter(tmp_path: Path) -> None:
    async with running_system(tmp_path, (QUICK, OBEDIENT)) as system:
        worker = await system.start()
        boast = {"product_id": "boast", "title": "A mug", "description": "The world's best mug."}
        for task in ("held-1", "held-2", "held-3"):
            await worker.submit("quick", boast, id=task)
            await worker.reaches(task, "held")
        await worker.submit("obedient", {"do": "forward"}, id="done")
        await worker.reaches("done", "finished")
        # a held task ends at once, and takes no verdict any more
        await cancel(worker, "held-1")
        await all_end_cancelled(worker, ["held-1"])
        told = await post(worker, "/v1/reviews/held-1", {"verdict": "approve", "reviewer": "kim"}, 409)
        assert told["detail"] == "task 'held-1' waits for no verdict: its state is cancelled"
        # so does one that the timer has for an hour
        late = {"chain": "obedient", "input": {"do": "forward"}, "id": "late", "delay_seconds": 3600}
        await post(worker, "/v1/tasks", late)
        assert (await waits(worker, "late"))["reason"] == "scheduled"
        await cancel(worker, "late")
        await all_end_cancelled(worker, ["late"])
        # what has ended stays as it is, what nobody knows is told
        assert "it is finished" in (await cancel(worker, "done", 409))["detail"]
        assert (await cancel(worker, "nobody", 404))["type"].endswith("unknown-task")
        # a filter takes what was there when it was given, and nothing else
        await post(worker, "/v1/control/cancel", {"filter": {"chain": "quick", "state": "held"}})
        await all_end_cancelled(worker, ["held-2", "held-3"])
        await worker.submit("quick", boast, id="held-4")
        await worker.reaches("held-4", "held")
        # also after a kill, which leaves no command unheard
        await worker.kill()
        worker = await system.start(after=worker)
        await system.settled()
        assert [(await worker.reaches(task, "held", "cancelled"))["state"] for task in ("held-3", "held-4")] == [
            "cancelled",
            "held",
        ]


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("median_ms", "drain_seconds", "made"),
    [
        pytest.param(1_500, 4, 1, id="finished"),
        pytest.param(9_000, 20, 1, id="finished after longer than a lease", marks=pytest.mark.long),
        pytest.param(9_000, 4, 2, id="handed back"),
    ],
)
async def test_a_drain_finishes_a_call_or_hands_it_back(
    tmp_path: Path, median_ms: int, drain_seconds: int, made: int
) -> None:
    settings: Settings = {("engine", "drain_seconds"): drain_seconds, ("engine", "session_timeout_seconds"): 6}
    async with running_system(tmp_path, (QUICK,), settings, median_ms=median_ms, sigma=0.0) as system:
        # given a call under way
        worker = await system.start()
        await worker.submit("quick", MUG, id="mug-1")
        await reaching(system, 1)
        # when the worker is told to stop
        assert await worker.stop() == 0
        # then what came in time is settled and never asked again, and what did not is counted
        again = await system.start(after=worker)
        row = await again.reaches("mug-1", "finished")
        [step] = [step for step in row["steps"] if step["step"] == "copy"]
        assert (step["calls"], step["repeated"], await asked(system)) == (made, made - 1, made)
        assert catalogue(system) == ["mug-1"]
