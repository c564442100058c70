"""Limits on real parts: kept through a kill, shared by two workers, and told to whoever asks why a task waits."""

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.running import QUICK, TENANT, Settings, System, Worker, as_record, running_system, submission, until

LIMIT = 1_500
ENDPOINT = ("inference", "pools", "copywriter", "endpoints", "0")
LIMITED: Settings = {
    (*ENDPOINT, "limits"): {"tokens_per_minute": LIMIT},
    # What is reserved for an answer: most of these take half of it.
    (*ENDPOINT, "max_answer_tokens"): 80,
}
TASKS = 90
MINUTE_SECONDS = 60.0


async def submit_all(worker: Worker) -> list[str]:
    """Many more tasks than a minute's tokens are enough for."""
    tasks = [f"mug-{number}" for number in range(TASKS)]
    for task in tasks:
        await worker.submit("quick", {"product_id": task, "title": "A blue mug"}, id=task)
    return tasks


async def spent(system: System) -> tuple[int, int]:
    """The most tokens of any 60 seconds, and the calls, as the endpoint counts them."""
    report = await system.stub.report()
    return report["window"]["most_tokens"], report["calls"]


async def until_used_up(system: System) -> int:
    """Wait until the endpoint has had nothing for two seconds, and most of the limit before; gives the calls."""

    async def look() -> int:
        _, before = await spent(system)
        await asyncio.sleep(2)
        most, calls = await spent(system)
        return calls if calls == before and most > LIMIT / 2 else 0

    return int(await until(look, "the limit is used up"))


@pytest.mark.timeout(240)
async def test_a_limit_holds_through_a_kill_and_who_waits_is_told_why(tmp_path: Path) -> None:
    async with running_system(tmp_path, (QUICK,), LIMITED) as system:
        # given a worker that has spent a minute's tokens, and tasks that wait
        worker, began = await system.start(), time.monotonic()
        tasks = await submit_all(worker)
        calls = await until_used_up(system)
        assert calls < TASKS

        async def told() -> list[dict[str, object]]:
            rows = [await worker.row(task) for task in tasks]
            return [row["waiting"] for row in rows if row is not None and "waiting" in row]

        waiting = await until(told, "the tasks that wait say why")
        assert {one["reason"] for one in waiting} <= {"tokens", "fair share"}
        assert all(one["waits_for"] == "tokens of stub" for one in waiting)
        async with worker.http.get("/v1/pools") as answer:
            ((replica, pools),) = (await answer.json())["replicas"].items()
        (limit,) = pools[0]["endpoints"][0]["limits"]
        assert (limit["limit"], limit["most"], limit["share"]) == ("tokens/minute", LIMIT, LIMIT)
        # when it is killed and another one has its partitions
        await worker.kill()
        again = await system.start()
        await until(lambda: _shares(again, 4, gone=replica), "the new worker has all shares")
        await asyncio.sleep(3)
        # then that one begins with what was spent: nothing more was sent, as long as the minute has not passed
        most, after = await spent(system)
        assert most <= LIMIT
        assert after == calls or time.monotonic() - began > MINUTE_SECONDS


@pytest.mark.long
@pytest.mark.timeout(240)
async def test_two_workers_share_a_limit(tmp_path: Path) -> None:
    async with running_system(tmp_path, (QUICK,), LIMITED) as system:
        one, two = await system.start(), await system.start()
        await until(lambda: _shares(two, 2), "both have a share")
        await submit_all(one)
        await until_used_up(system)
        most, calls = await spent(system)
        assert most <= LIMIT
        assert calls < TASKS


@pytest.mark.long
@pytest.mark.timeout(240)
async def test_a_killed_worker_takes_its_own_place_again_and_nobody_else_stops(tmp_path: Path) -> None:
    # Longer than a worker takes to start, on a machine with much else to do as well.
    patient = {**LIMITED, ("engine", "session_timeout_seconds"): 60}
    async with running_system(tmp_path, (QUICK,), patient) as system:
        # given two workers that share a limit, each with calls that wait for it
        one, two = await system.start(), await system.start()
        await until(lambda: _shares(two, 2), "both have a share")
        said = len(one.log())
        await submit_all(one)
        await until_used_up(system)
        # when one is killed and started again
        await two.kill()
        again = await system.start(after=two)
        await until(lambda: _shares(again, 2), "it has its share again")
        # then the other one has put nothing down meanwhile, and no more was spent
        assert "revoked" not in one.log()[said:]
        most, _ = await spent(system)
        assert most <= LIMIT
        # and one that is stopped leaves at once
        await again.stop()
        await until(lambda: _shares(one, 4), "the other one has all")


@pytest.mark.timeout(240)
async def test_a_backlog_keeps_no_other_tenant_waiting_and_outlives_a_kill(tmp_path: Path) -> None:
    # 43 events of a lane are worked on at once: a backlog of 300 would be read to its end before the other tenant.
    # Ten calls a second at most: the steps before are faster on any machine.
    few = {("engine", "concurrency"): 8, (*ENDPOINT, "concurrency"): 4}
    async with running_system(tmp_path, (QUICK,), few, concurrency=4, median_ms=400, sigma=0.0) as system:
        # given a backlog of one tenant, and tasks of another that come after it
        worker = await system.start()
        backlog, light = [f"h-{number}" for number in range(300)], [f"l-{number}" for number in range(3)]
        events = [submission("quick", {"product_id": task, "title": "A blue mug"}, task) for task in backlog + light]
        of_tenants = [replace(event, tenant="light") if event.task in light else event for event in events]
        await asyncio.gather(*(system.put("intake", as_record(event, "intake")) for event in of_tenants))

        async def answered(tenant: str) -> int:
            return int((await system.stub.report())["tenants"].get(tenant, {}).get("answered", 0))

        # then those are answered while most of the backlog waits
        await until(lambda: _is(answered("light"), 3), "the light tenant has its answers")
        assert await answered(TENANT) < 150
        # and one that was put aside says so
        row = await until(lambda: _waiting(worker, backlog[-1]), "the last of the backlog says why it waits")
        assert (row["pool"], row["reason"], row["lane"]) == ("copywriter", "fair share", "normal")
        assert row["put_aside"] > 100
        # and when the worker is killed, what had been put aside is found and done
        await worker.kill()
        await system.start()
        await until(lambda: _is(answered(TENANT), 300), "the backlog is worked off", 90)
        report = await system.stub.report()
        # calls in flight at the kill are asked again, and those whose answer was not on the log yet: no others
        assert report["call_ids"] == 303
        assert report["admitted"] <= 303 + 2 * 4


async def _waiting(worker: Worker, task: str) -> dict[str, Any] | None:
    row = await worker.row(task)
    return row.get("waiting") if row is not None else None


async def _is(count: Awaitable[int], at_least: int) -> bool:
    return await count >= at_least


async def _shares(worker: Worker, partitions: int, gone: str = "") -> bool:
    """Whether a replica that the worker hears of owns so many partitions, and none of them is left."""
    async with worker.http.get("/v1/pools") as answer:
        replicas = (await answer.json())["replicas"].items()
    owned = [pools[0]["share"][0] for name, pools in replicas if name != gone]
    return partitions in owned and sum(owned) >= 4


@pytest.mark.timeout(120)
async def test_a_call_that_hangs_is_told_with_its_endpoint_and_what_is_behind_it_waits(tmp_path: Path) -> None:
    one_place: Settings = {(*ENDPOINT, "concurrency"): 1}
    async with running_system(tmp_path, (QUICK,), one_place, median_ms=60_000, sigma=0.0) as system:
        worker = await system.start()
        for number in range(2):
            await worker.submit("quick", {"product_id": f"{number}", "title": "A mug"}, id=f"mug-{number}")

        async def told() -> list[dict[str, Any]]:
            rows = [await worker.row(f"mug-{number}") or {} for number in range(2)]
            return rows if {"calling", "waiting"} <= rows[0].keys() | rows[1].keys() else []

        rows = await until(told, "one is called and one waits")
        (called,) = [row for row in rows if "calling" in row]
        assert called["calling"]["endpoint"] == "stub"
        assert called["calling"]["since"] <= time.time()
        assert "waiting" not in called
        (behind,) = [row for row in rows if "waiting" in row]
        assert behind["waiting"]["waits_for"] == "concurrency of stub"
