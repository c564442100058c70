"""The timer at work: tasks that start later, retries with a long pause, and what a kill or a pause makes of them."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from callstream.streams.event import Json
from callstream.streams.topics import TIMER, TIMERS, changelog_of
from tests.support.running import (
    Found,
    Settings,
    System,
    Worker,
    as_record,
    headers,
    running_system,
    submission,
    until,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHAIN = f"{Path(__file__).parents[1] / 'support' / 'timed.py'}:hesitant"
SETTINGS: Settings = {
    ("engine", "commit_interval_seconds"): 0.2,
    ("engine", "held_pause_seconds"): 0.5,
    ("engine", "concurrency"): 2,
    ("engine", "session_timeout_seconds"): 6,
}
BEFORE_DUE_SECONDS = 30
WITHOUT_TIMER = ("gateway", "intake", "hesitant", "review", "notify")
COMING = "callstream.task"
ENDED = "callstream.task.finished"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    async with running_system(tmp_path_factory.mktemp("timer"), (CHAIN,), SETTINGS) as running:
        await running.start()
        yield running


async def test_a_task_with_a_delay_is_told_as_scheduled_and_starts_at_that_time(system: System) -> None:
    # when a task is handed in for later, twice
    now = time.time()
    told = await system.worker.submit("hesitant", {}, id="later", delay_seconds=4)
    await system.worker.submit("hesitant", {}, id="later", delay_seconds=9, status=200)
    # then it is taken at once, and says what it waits for
    row = await waits(system.worker, told["id"])
    assert row["state"] == "accepted"
    assert row["waiting"] == {"reason": "scheduled", "until": row["run_at"]}
    assert now + 4 <= row["run_at"] <= time.time() + 4
    # and its first step starts then, and not before
    row = await system.worker.reaches("later", "finished")
    intake, step = row["steps"]
    assert intake["ended"] < row["run_at"] <= step["started"]
    assert "waiting" not in row


async def test_a_run_at_of_the_past_starts_at_once_and_one_from_kafka_counts_too(system: System) -> None:
    await system.worker.submit("hesitant", {}, id="old", run_at="1970-01-01T00:00:00Z")
    await system.worker.reaches("old", "finished")
    event = submission("hesitant", {}, "by-kafka", run_at=time.time() + 3)
    await system.put("intake", as_record(event, "intake"))
    row = await system.worker.reaches("by-kafka", "finished")
    assert row["steps"][1]["started"] >= event.run_at


async def test_a_run_at_that_kafka_brings_from_the_year_3000_fails_the_task_and_says_why(system: System) -> None:
    far = datetime(3000, 1, 1, tzinfo=UTC).timestamp()
    await system.put("intake", as_record(submission("hesitant", {}, "far", run_at=far), "intake"))
    late = submission("hesitant", {}, "late", run_at=time.time() + 60, deadline=time.time() + 30)
    await system.put("intake", as_record(late, "intake"))
    for task, why in (("far", "run_at: must lie within a year from now"), ("late", "at or after the deadline")):
        row = await system.worker.reaches(task, "failed")
        assert row["failure"]["kind"] == "invalid-input"
        assert why in row["failure"]["message"]


async def test_a_long_pause_between_attempts_holds_no_place(system: System) -> None:
    # given more tasks with a long pause ahead than the service works on at once
    slow = [f"slow-{number}" for number in range(6)]
    for task in slow:
        await system.worker.submit("hesitant", {"fails": 1, "pause_seconds": 8}, id=task)
    rows = [await waits(system.worker, task) for task in slow]
    for row in rows:
        assert row["state"] == "running"
        assert row["waiting"]["reason"] == "retry"
        assert row["waiting"]["attempts"] == 1
        assert row["waiting"]["failure"] == {"kind": "busy", "message": "the oven is full", "step": ""}
    # when one comes that needs none
    await system.worker.submit("hesitant", {}, id="quick")
    # then it ends before any of them
    quick = await system.worker.reaches("quick", "finished")
    ends = [await system.worker.reaches(task, "finished") for task in slow]
    for before, row in zip(rows, ends, strict=True):
        assert quick["updated"] < row["updated"]
        # and each began again when it was due, and tells of both attempts
        step = row["steps"][1]
        assert step["ended"] >= before["waiting"]["until"]
        assert (step["attempts"], step["notes"]) == (2, ["attempt 1: busy: the oven is full"])


async def test_attempts_before_a_pause_count(system: System) -> None:
    await system.worker.submit("hesitant", {"fails": 9, "pause_seconds": 1}, id="hopeless")
    row = await system.worker.reaches("hopeless", "failed")
    step = row["steps"][1]
    assert step["attempts"] == 4
    assert [note[:9] for note in step["notes"]] == ["attempt 1", "attempt 2", "attempt 3", "attempt 4", "busy: the"]


async def test_a_pause_beyond_the_deadline_ends_at_the_deadline(system: System) -> None:
    await system.worker.submit("hesitant", {"fails": 1, "pause_seconds": 3_600}, id="no-time", deadline=3)
    row = await system.worker.reaches("no-time", "failed")
    assert row["failure"]["kind"] == "deadline"
    assert row["steps"][1]["notes"][0] == "attempt 1: busy: the oven is full"


async def test_a_record_that_is_no_timer_is_buried_with_the_reason(system: System) -> None:
    await system.put("timer", as_record(submission("hesitant", {}, "aimless"), "timer"))
    [record] = await (await system.tail("dead")).of_task("aimless", "callstream.task.dead")
    assert b"the header callstream-due is missing" in (record.value or b"")


async def test_each_timer_is_released_and_has_its_effect_once_through_kills_and_a_rebalance(tmp_path: Path) -> None:
    async with running_system(tmp_path, (CHAIN,), SETTINGS) as system:
        first = await system.start()
        await system.start()
        # given tasks that are due one after another
        tasks = [f"task-{number}" for number in range(300)]
        start = time.time() + 4
        for number, task in enumerate(tasks):
            event = submission("hesitant", {"fails": number % 2, "pause_seconds": 2}, task, run_at=start + number / 30)
            await system.put("intake", as_record(event, "intake"))
        # when a worker is killed in their midst, and comes again
        await asyncio.sleep(max(0.0, start + 3 - time.time()))
        await first.kill()
        await system.start(after=first)
        # then all end, each once: what was sent again bears the id that it had
        finished = await system.tail("finished")

        async def all_ended() -> bool:
            ended = await finished.find(is_end, "ends")
            return {headers(record)["ce_subject"].decode() for record in ended} == set(tasks)

        await until(all_ended, "all have ended")
        await system.settled()
        assert len({headers(record)["ce_id"] for record in await finished.find(is_end, "ends")}) == 300
        # none before its time
        steps = await (await system.tail("hesitant")).find(lambda one: True, "steps")
        assert len({headers(record)["ce_id"] for record in steps}) == 450
        for record in steps:
            number = int(headers(record)["ce_subject"].removeprefix(b"task-"))
            assert record.timestamp / 1_000 >= start + number / 30 - 0.01
        # and no row is left
        assert await until(lambda: nothing_pending(system), "no timer is left")


async def test_what_is_overdue_is_released_in_its_order_when_the_service_comes_back(tmp_path: Path) -> None:
    async with running_system(tmp_path, (CHAIN,), {**SETTINGS, ("partitions",): 1}) as system:
        # given timers that come due after the worker that took them is gone
        await system.start(WITHOUT_TIMER)
        timer = await system.start(("timer",), has_gateway=False)
        start = time.time() + BEFORE_DUE_SECONDS
        tasks = [f"task-{number}" for number in (3, 1, 4, 0, 2)]
        for task in tasks:
            event = submission("hesitant", {}, task, run_at=start + int(task[-1]) / 10)
            await system.put("intake", as_record(event, "intake"))
        rows = await system.tail(changelog_of(TIMER, TIMERS))

        async def all_kept() -> bool:
            return len({record.key for record in await rows.find(lambda one: True, "rows of timers")}) == len(tasks)

        await until(all_kept, "all timers have a row")
        await timer.kill()
        await asyncio.sleep(max(0.0, start + 1 - time.time()))
        # when the service comes back
        await system.start(after=timer, has_gateway=False)
        # then they go at once, the first first
        found = await (await system.tail("hesitant")).find(lambda one: True, "steps", count=5)
        order = Counter(headers(record)["ce_subject"].decode() for record in found)
        assert set(order) == set(tasks)
        assert sorted(order) == list(order)


async def waits(worker: Worker, task: str) -> Json:
    """The row of a task that the timer has."""

    async def look() -> Json | None:
        row = await worker.row(task)
        return row if row is not None and "waiting" in row else None

    return dict(await until(look, f"{task} waits"))


def is_end(record: Found) -> bool:
    return headers(record).get("ce_type") == ENDED.encode()


async def nothing_pending(system: System) -> bool:
    """Whether no table of timers has a row."""
    for worker in system.workers:
        async with worker.http.get("/v1/tables") as answer:
            tables = {table["name"]: table for table in (await answer.json())["tables"]}
        if any(part["keys"] for part in tables["timers"]["partitions"]):
            return False
    return True
