"""Replays on real parts: what is done again, what is paid again, what is told to nobody, what is gone."""

import asyncio
import contextlib
import json
import os
import sqlite3
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiokafka.admin import RecordsToDelete
from aiokafka.structs import TopicPartition

from callstream.settings.gather import PREFIX, environment_name
from callstream.streams.event import Json
from callstream.streams.keys import partition_of, task_key
from callstream.streams.replay.run import moment
from callstream.streams.topics import topic_of
from tests.support.running import (
    OBEDIENT,
    QUICK,
    TENANT,
    Found,
    Settings,
    System,
    as_record,
    headers,
    running_system,
    submission,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = "whsec_" + "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="
MUG = {"product_id": "mug", "title": "A blue mug"}


@dataclass
class Shop:
    """A system at work, and who is called back about its tasks."""

    system: System
    callback: str
    told: list[str]

    async def finished(self, name: str, **given: object) -> Json:
        """The row of a new task of the chain `quick` that has finished."""
        await self.system.worker.submit("quick", {**MUG, "product_id": name, **given}, id=name, callback=self.callback)
        return await self.system.worker.reaches(name, "finished")

    async def calls(self, task: str) -> int:
        """How often the model was called for a task."""
        return int((await self.system.stub.task(TENANT, task))["calls"])

    def catalogue(self, task: str) -> list[tuple[object, ...]]:
        """The rows that a task has in the catalogue and in its logs."""
        with contextlib.closing(sqlite3.connect(self.system.database, timeout=10)) as database:
            return [
                row
                for table in ("catalogue", "inference_log", "chain_log")
                for row in database.execute(f"select task from {table} where task = ?", (task,)).fetchall()
            ]

    async def command(self, *words: str, code: int = 0) -> str:
        """What a command says; its exit code has to be that one."""
        worker = self.system.worker
        told = {**self.system.settings, ("data_folder",): worker.folder / "data"}
        told[("web", "port")] = int(worker.base.rpartition(":")[2])
        environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        environment |= {
            environment_name(path): json.dumps(value) if isinstance(value, dict | list | tuple) else str(value)
            for path, value in told.items()
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "callstream", *words),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**environment, "COLUMNS": "200"},
        )
        try:
            async with asyncio.timeout(150):
                out, err = (each.decode() for each in await process.communicate())
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        assert process.returncode == code, (words, process.returncode, out, err)
        return out + err

    async def replays(self, *words: str, code: int = 0) -> Json:
        """What `callstream replay … --json` says."""
        return dict(json.loads(await self.command("replay", *words, "--json", code=code)))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    """Everything in one process, and a server to call back."""
    told: list[str] = []

    async def hear(request: web.Request) -> web.Response:
        told.append((await request.json())["data"]["id"])
        return web.Response()

    app = web.Application()
    app.router.add_post("/told", hear)
    settings: Settings = {
        ("engine", "commit_interval_seconds"): 0.2,
        ("notify", "secret"): SECRET,
        ("notify", "allow_private"): True,
    }
    async with (
        TestServer(app) as server,
        running_system(tmp_path_factory.mktemp("replay"), (QUICK, OBEDIENT), settings) as running,
    ):
        await running.start()
        yield Shop(running, str(server.make_url("/told")), told)


async def test_a_finished_task_is_replayed_from_a_later_step(shop: Shop) -> None:
    # given a finished task
    before = await shop.finished("mug-1")
    assert await shop.calls("mug-1") == 1
    # when it is replayed from the step after its model call
    said = await shop.replays("--task", "mug-1", "--from", "moderate", "--reuse-answers")
    # then a task of its own takes the steps from there, without a call
    assert (said["found"], said["started"], said["already"], said["refused"]) == (1, 1, 0, 0)
    (child,) = said["tasks"]
    row = await shop.system.worker.reaches(child, "finished")
    assert child.startswith("mug-1~")
    assert (row["parent"], row["inherited"], row["sandbox"]) == ("mug-1", 3, False)
    assert row["result"] == before["result"]
    # of the first step the wait is counted from when its task was accepted
    assert [{**step, "waited": 0} for step in row["steps"][:3]] == [
        {**step, "waited": 0} for step in before["steps"][:3]
    ]
    assert await shop.calls(child) == 0
    # and its effects are its own: a row of the catalogue, and a call back
    assert len(shop.catalogue(child)) == 1 + 0 + len(row["steps"])
    await shop.system.settled()
    assert shop.told.count(child) == 1
    # when the same is asked for again, by either door
    again = await shop.replays("--task", "mug-1", "--from", "moderate", "--reuse-answers")
    asked = {"from": "moderate", "reuse_answers": True}
    async with shop.system.worker.http.post("/v1/tasks/mug-1/replay", json=asked) as answer:
        told = await answer.json()
        assert (answer.status, answer.headers.get("Idempotent-Replayed")) == (200, "true")
    # then it is that one task
    assert (again["started"], again["already"], again["tasks"], told["id"]) == (0, 1, [child], child)
    assert "replay of mug-1" in await shop.command("status", child)


async def test_an_answer_is_paid_again_or_taken_from_the_parents_receipt(shop: Shop) -> None:
    # given a finished task
    before = await shop.finished("mug-2")
    # when its model call is replayed with its answer
    with_answer = (await shop.replays("--task", "mug-2", "--from", "copy", "--reuse-answers"))["tasks"][0]
    row = await shop.system.worker.reaches(with_answer, "finished")
    # then nobody is called, and the step says whose answer it has
    assert await shop.calls(with_answer) == 0
    step = next(step for step in row["steps"] if step["step"] == "copy")
    assert (step["calls"], step["tokens_in"], step["model"]) == (0, 0, "stub-writer")
    assert "the answer that task mug-2 paid for" in step["notes"]
    assert row["result"] == before["result"]
    # when the replay is replayed so, then the answer is the same one
    third = (await shop.replays("--task", with_answer, "--from", "copy", "--reuse-answers"))["tasks"][0]
    assert (await shop.system.worker.reaches(third, "finished"))["result"] == before["result"]
    assert await shop.calls(third) == 0
    # when it is replayed without, then the model is asked once more
    without = (await shop.replays("--task", "mug-2", "--from", "copy"))["tasks"][0]
    await shop.system.worker.reaches(without, "finished")
    assert (await shop.calls(without), await shop.calls("mug-2")) == (1, 1)
    # and the difference is shown
    shown = await shop.command("diff", "mug-2", with_answer)
    assert "replay of mug-2" in shown
    assert "calls 1 → 0" in shown
    told = json.loads(await shop.command("diff", "mug-2", without, "--json"))
    sections = {section["section"]: section for section in told["sections"]}
    assert (told["a"], told["b"]) == ("mug-2", without)
    assert sections["prompt"] == {**sections["prompt"], "same": True, "inherited": True}
    assert sections["copy"]["a"]["tokens_in"] == sections["copy"]["b"]["tokens_in"] > 0


async def test_a_sandbox_writes_nothing_and_calls_nobody(shop: Shop) -> None:
    # given a finished task whose caller was told
    await shop.finished("mug-3")
    await shop.system.settled()
    assert shop.told.count("mug-3") == 1
    # when it is replayed in a sandbox, over HTTP
    asked = {"from": "moderate", "sandbox": True}
    async with shop.system.worker.http.post("/v1/tasks/mug-3/replay", json=asked) as answer:
        told = await answer.json()
        assert (answer.status, told["parent"], answer.headers["Location"]) == (202, "mug-3", told["status_url"])
    row = await shop.system.worker.reaches(told["id"], "finished")
    await shop.system.settled()
    # then it says what it would have done, and has done nothing
    assert row["sandbox"] is True
    assert "sandbox: the catalogue's row of 'mug-3' was not written" in row["steps"][-1]["notes"]
    row = await shop.system.worker.row(told["id"]) or {}
    assert row["callback"] == {"state": "sandbox", "attempts": 0, "url": shop.callback}
    assert shop.catalogue(told["id"]) == []
    assert told["id"] not in shop.told


@pytest.mark.long
async def test_a_chains_tasks_are_chosen_by_time_and_rule_and_started_once(shop: Shop) -> None:
    # given tasks of which some are meant
    since = moment(time.time())
    for number in range(6):
        await shop.finished(f"cup-{number}", title="A red cup" if number % 2 else "A blue cup")
    # when those are replayed
    rule = 'input.title.contains("red") && state == "finished" && outputs.copy.text != ""'
    words = ("--chain", "quick", "--from", "moderate", "--since", since, "--where", rule, "--dry", "--rate", "50")
    said = await shop.replays(*words)
    # then they are started once, in a sandbox, also when it is asked for again
    assert (said["found"], said["started"], said["refused"]) == (3, 3, 0)
    for child in said["tasks"]:
        row = await shop.system.worker.reaches(child, "finished")
        assert (row["parent"] in {"cup-1", "cup-3", "cup-5"}, row["sandbox"]) == (True, True)
    again = await shop.replays(*words)
    assert (again["found"], again["started"], again["already"], again["tasks"]) == (3, 0, 3, said["tasks"])
    # and under another name it is another replay
    other = await shop.replays(*words, "--name", "second")
    assert (other["started"], set(other["tasks"]) & set(said["tasks"])) == (3, set())


async def test_what_was_cut_off_goes_on_where_it_was(shop: Shop) -> None:
    # given a slow replay of some tasks that is killed in the middle
    since = moment(time.time())
    for number in range(8):
        await shop.finished(f"cut-{number}")
    words = ("--chain", "quick", "--from", "moderate", "--since", since)
    tail = await shop.system.tail("moderate")

    def begun(record: Found) -> bool:
        return headers(record).get("ce_parent", b"").startswith(b"cut-")

    cut = asyncio.create_task(shop.command("replay", *words, "--rate", "1"))
    await tail.find(begun, "some replays", count=2)
    cut.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cut
    # when it is given again, then each task has one replay
    said = await shop.replays(*words)
    assert (said["found"], said["started"] + said["already"]) == (8, 8)
    assert 2 <= said["already"] < 8
    found = [headers(record)["ce_parent"] for record in await tail.find(begun, "all replays", count=8)]
    assert sorted(found) == [b"cut-%d" % number for number in range(8)]


async def test_a_rule_that_asks_for_what_an_event_has_not_refuses_that_event(shop: Shop) -> None:
    # given two tasks, of which one has no remarks in the rule's sense
    since = moment(time.time())
    await shop.finished("plain")
    # when a rule asks for a field that is not there, then it says which, and how to ask
    said = await shop.replays(
        *("--chain", "quick", "--since", since, "--where", 'input.colour == "red"', "--dry"), code=1
    )
    assert (said["found"], said["started"], said["refused"]) == (0, 0, 1)
    assert "plain: --where: no such field: colour; guard it with has(…)" in said["reasons"][0]


async def test_what_cannot_be_replayed_is_said(shop: Shop) -> None:
    # given a task that failed in its first step
    await shop.system.worker.submit("obedient", {"do": "raise"}, id="fire")
    await shop.system.worker.reaches("fire", "failed")

    async def refused(*words: str) -> str:
        return await shop.command("replay", *words, code=1)

    # when steps are asked for that it never reached, or that nobody knows, then that is what is said
    assert "never reached step 'second': it took intake, first, and it ended failed" in await refused(
        "--task", "fire", "--from", "second"
    )
    assert "no chain here has a step 'third'; steps: prompt" in await refused("--task", "fire", "--from", "third")
    assert "no task 'ash' of tenant 'default' is on the topics" in await refused("--task", "ash", "--from", "second")
    async with shop.system.worker.http.post("/v1/tasks/fire/replay", json={"from": "second"}) as answer:
        assert (answer.status, (await answer.json())["type"]) == (409, "urn:callstream:problem:not-reached")
    # and a task begun behind a step sends one to its parent
    child = (await shop.replays("--task", "fire", "--from", "first"))["tasks"][0]
    await shop.system.worker.reaches(child, "failed")
    unknown = await shop.command("diff", "fire", "ash", code=1)
    assert "no task 'ash' is known" in unknown
    await shop.finished("pot")
    assert "only tasks of one chain" in await shop.command("diff", "fire", "pot", code=1)


async def test_a_version_that_is_gone_and_a_body_that_was_swept_are_refused(shop: Shop) -> None:
    # given an event of a version that no worker has any more
    since = moment(time.time())
    old = replace(submission("quick", MUG, "old-1"), version=7, sequence=3)
    await shop.system.put("moderate", as_record(old, "moderate"), partition_of(old.key, 4))
    # when it is replayed, then it is refused
    said = await shop.replays("--chain", "quick", "--from", "moderate", "--since", since, code=1)
    assert (said["started"], said["refused"]) == (0, 1)
    assert "this worker has no 'quick' version 7" in said["reasons"][0]
    # given a task whose body is a claim check, and is swept
    await shop.finished("large", remarks="x" * 400_000)
    (record,) = await (await shop.system.tail("moderate")).of_task("large", "callstream.task")
    reference = dict(record.headers)["ce_dataref"].decode().removeprefix("blob:")
    (shop.system.folder / "blobs" / reference[:2] / reference).unlink()
    said = await shop.replays("--task", "large", "--from", "moderate", code=1)
    assert (said["started"], said["refused"]) == (0, 1)
    assert f"its body was a claim check, and blob:{reference} is not in" in said["reasons"][0]


async def test_what_was_swept_is_said_and_nothing_is_started(shop: Shop) -> None:
    # given a task whose input of a step was swept, and a later one that is there
    since = moment(time.time())
    await shop.finished("early")
    partition = partition_of(task_key(TENANT, "early"), 4)
    number = next(n for n in range(1_000) if partition_of(task_key(TENANT, f"late-{n}"), 4) == partition)
    place = TopicPartition(topic_of("moderate"), partition)
    end = (await shop.system.reader.end_offsets([place]))[place]
    await shop.finished(f"late-{number}")
    await shop.system.settled()
    await shop.system.admin.delete_records({place: RecordsToDelete(end)}, 10_000)
    # when it, or its time, is asked for, then it is said since when there are records
    one = await shop.command("replay", "--task", "early", "--from", "moderate", code=1)
    assert "the input of step 'moderate' of task 'early': not there any more; callstream.moderate has records" in one
    assert "(kept for 168 h), so nothing was started" in one
    many = await shop.command("replay", "--chain", "quick", "--from", "moderate", "--since", since, code=1)
    assert f"records since {since}: not there any more; callstream.moderate has records since " in many
    async with shop.system.worker.http.post("/v1/tasks/early/replay", json={"from": "moderate"}) as answer:
        told = await answer.json()
        assert (answer.status, told["type"]) == (410, "urn:callstream:problem:not-recorded")
    # and so does --reach
    reach = {one["topic"]: one for one in json.loads(await shop.command("replay", "--reach", "--json"))}
    assert (reach["callstream.moderate"]["swept"], reach["callstream.intake"]["swept"]) == (True, False)
    assert reach["callstream.moderate"]["complete_since"] > reach["callstream.intake"]["oldest"]
    assert reach["callstream.moderate"]["retention_seconds"] == 168 * 3_600
    # while a later one is still found
    later = await shop.replays("--task", f"late-{number}", "--from", "moderate")
    assert later["started"] == 1
