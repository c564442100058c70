"""Tasks that part and spread: routes, sub-tasks and joins over the real engine, also killed."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer

from callstream.streams.event import Json
from tests.support.running import QUICK, ROOT, Settings, System, Worker, body, headers, running_system, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

FLOWS = f"{Path(__file__).parents[1] / 'support' / 'flows.py'}:flows"
CANDIDATES = f"{ROOT / 'examples' / 'candidates' / 'chain.py'}:chain"
QUICKLY: Settings = {("engine", "commit_interval_seconds"): 0.2, ("engine", "session_timeout_seconds"): 6}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    async with running_system(tmp_path_factory.mktemp("flows"), (FLOWS, CANDIDATES), QUICKLY) as running:
        await running.start()
        yield running


async def test_three_candidates_are_written_and_the_best_is_taken(system: System) -> None:
    await system.worker.submit("best-copy", {"title": "Blue stoneware mug"}, id="best-1")
    row = await system.worker.reaches("best-1", "finished")
    assert row["subtasks"] == {"of": 3, "done": 3, "failed": 0}
    assert [step["step"] for step in row["steps"]] == ["intake", "ask", "best", "moderate"]
    assert row["steps"][2]["notes"] == ["took 3 of 3 sub-tasks"]
    child = await system.worker.row(row["result"]["candidate"])
    assert child is not None
    assert (child["parent"], child["chain"], child["state"]) == ("best-1", "candidate", "finished")
    assert child["result"]["text"] == row["result"]["text"]


async def test_the_status_counts_sub_tasks_while_the_task_waits_for_the_last_one(system: System) -> None:
    # Given a hundred sub-tasks, one of which is stuck
    await system.worker.submit("wide", {"number": 100}, id="wide-100", deadline=25)

    async def counted() -> bool:
        row = await system.worker.row("wide-100")
        return row is not None and row["subtasks"] == {"of": 100, "done": 99, "failed": 0}

    # then the status says how many are done, and what the task waits for
    await until(counted, "all but one are done")
    row = await system.worker.reaches("wide-100", "running")
    assert row["next"] == {"step": "total", "service": "join"}
    # and past its deadline it fails with what was there
    row = await system.worker.reaches("wide-100", "failed")
    assert row["failure"]["kind"] == "join"
    assert "in time 99 of 100 sub-tasks finished; it takes 100" in row["failure"]["message"]


async def test_those_by_a_deadline_are_taken(system: System) -> None:
    await system.worker.submit("hurried", {"number": 8}, id="hurried-8")
    row = await system.worker.reaches("hurried-8", "finished")
    assert row["result"]["total"] == {"number": sum(n + 2 for n in range(1, 9) if n != 7), "of": 7}
    assert row["subtasks"] == {"of": 8, "done": 7, "failed": 0}


async def test_the_first_is_taken_and_the_others_come_too_late(system: System) -> None:
    await system.worker.submit("eager", {"number": 5}, id="eager-5")
    row = await system.worker.reaches("eager-5", "finished")
    assert row["result"]["total"]["of"] == 1


@pytest.mark.parametrize("number", [0, 100_000])
async def test_too_few_and_too_many_sub_tasks_are_told_in_full(system: System, number: int) -> None:
    await system.worker.submit("wide", {"number": number}, id=f"wide-{number}")
    row = await system.worker.reaches(f"wide-{number}", "failed")
    assert row["failure"]["kind"] == "fan-out"
    assert f"{number:,} sub-tasks; a step starts 1 to 1,000" in row["failure"]["message"]
    assert len(await (await system.tail("dead")).of_task(f"wide-{number}", "callstream.task.dead")) == 1


@pytest.mark.parametrize(
    ("number", "steps"),
    [(101, ["intake", "one", "two"]), (50, ["intake", "one"]), (30, ["intake", "one", "more", "two"])],
)
async def test_a_task_goes_where_its_rules_send_it(system: System, number: int, steps: list[str]) -> None:
    await system.worker.submit("routed", {"number": number}, id=f"routed-{number}")
    row = await system.worker.reaches(f"routed-{number}", "finished")
    assert [step["step"] for step in row["steps"]] == steps
    assert row["steps"][1]["notes"][0].startswith("route: ")


async def test_a_route_by_topic_copies_or_hands_over_once_to_a_topic_of_others(system: System) -> None:
    for number, topic, steps in ((60, "audit.numbers", ["one", "two"]), (61, "partner.numbers", ["one"])):
        await system.worker.submit("routed", {"number": number}, id=f"routed-{number}")
        row = await system.worker.reaches(f"routed-{number}", "finished")
        assert [step["step"] for step in row["steps"]] == ["intake", *steps]
        assert f"to topic '{topic}'" in row["steps"][1]["notes"][0]
        async with AIOKafkaConsumer(topic, bootstrap_servers=system.bootstrap, auto_offset_reset="earliest") as reader:
            record = await asyncio.wait_for(reader.getone(), 30)
            assert body(record)["outputs"]["one"] == {"number": number + 1}
            assert headers(record)["ce_subject"] == f"routed-{number}".encode()
            assert not await reader.getmany(timeout_ms=500)


async def test_a_circle_and_a_missing_field_fail_and_say_so(system: System) -> None:
    for number, kind, says in ((13, "hop-limit", "circle"), (14, "route", "no such field: missing")):
        await system.worker.submit("routed", {"number": number}, id=f"routed-{number}")
        row = await system.worker.reaches(f"routed-{number}", "failed")
        assert row["failure"]["kind"] == kind
        assert says in row["failure"]["message"]


async def test_a_shadow_has_a_result_of_its_own(system: System) -> None:
    await system.worker.submit("routed", {"number": 20}, id="shadowed")
    row = await system.worker.reaches("shadowed", "finished")
    assert row["result"] == {"one": {"number": 21}, "more": {"number": 22}, "two": {"number": 42}}
    copy = await system.worker.reaches("shadowed~2.shadow", "finished")
    assert (copy["parent"], copy["priority"], copy["result"]) == ("shadowed", "low", {"number": 42})
    assert [step["step"] for step in copy["steps"]] == ["two"]


@asynccontextmanager
async def auditing(system: System, folder: Path) -> AsyncIterator[Path]:
    """The audit of the examples, in a folder without callstream, until the block ends; gives its file."""
    lines = folder / "audit.jsonl"
    with lines.open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", str(ROOT / "examples" / "audit" / "audit.py"), "--broker", system.bootstrap),
            stdout=out,
            cwd=folder,
        )
        try:
            yield lines
        finally:
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0


async def test_an_independent_group_audits_every_task_and_goes_on_where_it_stopped(
    system: System, tmp_path: Path
) -> None:
    async def audited(task: str) -> None:
        async def look() -> bool:
            lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
            kinds = {line["type"] for line in lines if line.get("subject") == task}
            return {"callstream.task", "callstream.task.finished"} <= kinds

        await until(look, f"{task} is audited")

    for task in ("audit-1", "audit-2"):
        async with auditing(system, tmp_path):
            await system.worker.submit("routed", {"number": 50}, id=task)
            await audited(task)
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    places = [(line["topic"], line["partition"], line["offset"]) for line in lines]
    assert len(places) == len(set(places))


async def handed_in(worker: Worker, task: str) -> bool:
    """Hand in a fan-out of six; the gateway may be without its partitions for a moment."""
    async with worker.http.post("/v1/tasks", json={"chain": "wide", "input": {"number": 6}, "id": task}) as answer:
        return answer.status in (200, 202)


@pytest.mark.long
@pytest.mark.timeout(400)
async def test_killed_again_and_again_no_sub_task_is_lost_and_none_counts_twice(tmp_path: Path) -> None:
    async with running_system(tmp_path, (FLOWS,), QUICKLY) as system:
        # Given fan-outs under way
        worker: Worker = await system.start()
        tasks = [f"killed-{number}" for number in range(30)]
        for task in tasks:
            await until(partial(handed_in, worker, task), f"{task} is handed in")
        # when the worker is killed while they spread, run and join
        for _ in range(3):
            await asyncio.sleep(0.7)
            await worker.kill()
            worker = await system.start(after=worker)
        # then each task has the sum of all of its sub-tasks, once
        for task in tasks:
            row = await worker.reaches(task, "finished")
            assert row["result"]["total"] == {"number": sum(n + 2 for n in range(1, 7)), "of": 6}
            assert row["subtasks"] == {"of": 6, "done": 6, "failed": 0}
        await system.settled()
        tail = await system.tail("finished")
        ended = [(headers(one)["ce_id"], body(one).get("result")) for one in await tail.all()]
        results = dict(ended)
        assert len(results) == 30 * 7
        assert all(result == results[id_] for id_, result in ended)
        assert not await (await system.tail("dead")).all()


async def test_bodies_are_swept_after_their_time_and_a_task_without_one_ends_and_says_why(tmp_path: Path) -> None:
    # Given a worker that keeps blobs for some seconds, and a task whose body is one
    short: Settings = {**QUICKLY, ("retention_hours",): 0.001, ("seen_hours",): 0.001, ("blobs", "keep_hours"): 0.001}
    async with running_system(tmp_path, (QUICK,), short) as system:
        held = await system.start()
        boast = {"product_id": "mug", "title": "A blue mug", "description": "The world's best mug."}
        await held.submit("quick", {**boast, "remarks": "x" * 300_000}, id="large")
        await held.reaches("large", "held")
        (waiting,) = await (await system.tail("review")).of_task("large", "callstream.task.held")
        assert waiting.value == b""
        reference = headers(waiting)["ce_dataref"].decode()
        blob = tmp_path / "blobs" / reference[5:7] / reference[5:]
        kept = blob.read_bytes()
        await asyncio.sleep(4)
        # when a worker starts, which sweeps at once
        await held.stop()
        worker = await system.start(after=held)

        async def swept() -> bool:
            return not blob.exists()

        await until(swept, "the blob is swept")
        # and the same task comes to a step once more
        again = {"ce_type": b"callstream.task", "ce_sequence": b"0004", "ce_subject": b"gone"}
        told = [(name, again.get(name, raw)) for name, raw in waiting.headers]
        await system.put_raw("deliver", b"", None, told)
        # then it has failed, and the letter names what is missing
        row = await worker.reaches("gone", "failed")
        assert row["failure"]["kind"] == "blob-missing"
        assert f"{reference} is not in" in row["failure"]["message"]
        letter = await letter_of(worker, "gone")
        named = [letter[name] for name in ("letter", "tenant", "task", "chain", "service", "kind")]
        assert named == ["task", "default", "gone", "quick", "deliver", "blob-missing"]
        assert reference in letter["message"]
        # and goes on once it is back
        blob.parent.mkdir(exist_ok=True)
        blob.write_bytes(kept)
        async with worker.http.post("/v1/dead/gone/redrive", json={"reason": "it is back"}) as said:
            assert said.status == 200, await said.text()
        row = await worker.reaches("gone", "finished")
        assert row["run"] == 1


async def letter_of(worker: Worker, task: str) -> Json:
    """The dead letter of a task, once it is kept."""
    found: Json = {}

    async def kept() -> bool:
        async with worker.http.get(f"/v1/dead/{task}") as said:
            found.update(await said.json())
            return said.status == 200

    await until(kept, f"the letter of {task} is kept")
    return found
