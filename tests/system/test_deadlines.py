"""Deadlines and failures of steps on real parts: a chain's own deadline, what is skipped, what a crash leaves."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.running import ROOT, System, as_record, body, running_system, submission

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHAINS = f"{ROOT / 'tests' / 'support' / 'hurried.py'}:chains"
BURIED = "callstream.task.dead"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    folder: Path = tmp_path_factory.mktemp("deadlines")
    async with running_system(folder, [CHAINS], key="stub-key-123456") as made:
        endpoint = {"name": "stub", "base_url": made.stub.url, "model": "m", "api_key": "stub-key-123456"}
        made.settings[("inference", "pools")] = {"copywriter": {"endpoints": [endpoint]}}
        await made.start()
        yield made


async def test_a_task_that_ran_out_says_where_its_time_went(system: System) -> None:
    told = await system.worker.submit("brief", {"do": "wait"})
    row = await system.worker.reaches(told["id"], "failed")
    assert row["deadline"] == pytest.approx(row["created"] + 1.2, abs=0.001)
    assert (row["failure"]["kind"], row["failure"]["step"]) == ("deadline", "second")
    assert "its time went into" in row["failure"]["message"]
    assert "first (" in row["failure"]["message"]
    assert "worked 1.5 s" in row["failure"]["message"]
    first = next(step for step in row["steps"] if step["step"] == "first")
    assert first["worked"] == pytest.approx(1.5, abs=0.4)
    assert first["retried"] == 0


async def test_an_optional_step_that_would_be_late_is_skipped(system: System) -> None:
    told = await system.worker.submit("hurried", {"do": "forward"})
    row = await system.worker.reaches(told["id"], "finished")
    assert set(row["result"]) == {"first", "copy"}
    polish, copy = row["steps"][-2:]
    assert polish["notes"][0].startswith("polish was skipped: ")
    assert (polish["calls"], copy["calls"]) == (None, 1)


async def test_with_time_enough_it_is_not(system: System) -> None:
    told = await system.worker.submit("hurried", {"do": "forward"}, deadline=600)
    row = await system.worker.reaches(told["id"], "finished")
    assert set(row["result"]) == {"first", "polish", "copy"}


async def test_a_step_that_would_end_the_process_is_buried_and_leaves_no_secret(system: System) -> None:
    told = await system.worker.submit("hurried", {"do": "exit"})
    row = await system.worker.reaches(told["id"], "failed")
    assert (row["failure"]["kind"], row["steps"][-1]["attempts"]) == ("bug", 2)
    [letter] = await (await system.tail("dead")).of_task(told["id"], BURIED)
    assert "SystemExit" in body(letter)["failure"]["traceback"]
    for secret in (b"tall-hedge-4", b"stub-key-123456"):
        assert secret not in (letter.value or b"")
    assert await system.worker.live()
    async with system.worker.http.get("/metrics") as answer:
        assert 'callstream_step_retries_total{class="bug",decision="again",service="work"} 1.0' in await answer.text()


@pytest.mark.parametrize(
    ("seconds", "kind", "said"),
    [(-1.0, "deadline", "before 'intake' could start"), (10**9, "invalid-input", "must lie within a year")],
)
async def test_a_deadline_on_the_topic_that_is_none_is_told_of(
    system: System, seconds: float, kind: str, said: str
) -> None:
    event = submission("hurried", {"do": "forward"}, f"none-{kind}", deadline=time.time() + seconds)
    await system.put("intake", as_record(event, "intake"))
    row = await system.worker.reaches(event.task, "failed")
    assert row["failure"]["kind"] == kind
    assert said in row["failure"]["message"]
