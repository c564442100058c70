"""Dead letters at work: listed, grouped, edited, redriven after their cause is gone, through kills, once each."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from callstream.streams.event import Json
from tests.support.running import QUICK, ROOT, TENANT, Settings, System, Worker, running_system, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

GATED = f"{ROOT / 'tests' / 'support' / 'chains.py'}:gated"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    settings: Settings = {("engine", "commit_interval_seconds"): 0.2}
    async with running_system(tmp_path_factory.mktemp("dead"), (QUICK, GATED), settings) as running:
        await running.start()
        yield running


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A gate that is shut."""
    file = tmp_path / "gate"
    file.touch()
    return file


@pytest.fixture
def stubborn(tmp_path: Path) -> Path:
    """A gate that is shut, which is tried three times."""
    file = tmp_path / "again"
    file.touch()
    return file


def open_gate(gate: Path) -> None:
    """Take the cause away."""
    gate.unlink()


def product(task: str, gate: Path) -> Json:
    return {"product_id": task, "title": "A blue mug", "gate": str(gate)}


async def ask(worker: Worker, method: str, path: str, status: int = 200, body: Json | None = None, **query: str) -> Any:
    async with worker.http.request(method, f"/v1/dead{path}", json=body, params=query) as said:
        told = await said.json(content_type=None)
        assert said.status == status, (said.status, told)
        return told


async def letter(worker: Worker, task: str, **wanted: object) -> Json:
    """The letter of a task, once its members are as wanted."""

    async def look() -> Json | None:
        async with worker.http.get(f"/v1/dead/{task}") as said:
            told: Json = await said.json(content_type=None)
        return told if said.status == 200 and all(told[name] == value for name, value in wanted.items()) else None

    return dict(await until(look, f"a letter of {task} with {wanted}"))


async def fail(worker: Worker, task: str, gate: Path) -> Json:
    await worker.submit("gated", product(task, gate), id=task)
    await worker.reaches(task, "failed")
    return await letter(worker, task, state="waiting")


def rows(system: System, task: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(system.database) as database:
        return database.execute("select product, event from catalogue where task = ?", (task,)).fetchall()


async def test_a_letter_tells_why_and_where_and_each_attempt(system: System, stubborn: Path) -> None:
    told = await fail(system.worker, "told-1", stubborn)
    assert (told["step"], told["kind"], told["state"], told["run"]) == ("gate", "gate-shut", "waiting", 0)
    assert told["from"]["topic"] == "callstream.gate"
    assert [(one["attempt"], one["kind"]) for one in told["tried"]] == [
        (1, "gate-shut"),
        (2, "gate-shut"),
        (3, "gate-shut"),
    ]
    assert told["tried"][0]["ended"] <= told["tried"][1]["ended"] <= told["tried"][2]["ended"]
    assert told["input"] == product("told-1", stubborn) | {"description": "", "remarks": ""}
    assert told["can_begin_at"] == ["prompt", "copy", "gate"]
    assert told["tokens_out"] > 0


async def test_letters_are_listed_filtered_and_grouped_by_cause(system: System, gate: Path) -> None:
    for number in range(3):
        await fail(system.worker, f"many-{number}", gate)
    where = "chain == 'gated' && task.startsWith('many-') && age < 600.0"
    first = await ask(system.worker, "GET", "", where=where, limit="2")
    rest = await ask(system.worker, "GET", "", where=where, limit="2", cursor=first["next"])
    assert [row["task"] for row in first["letters"] + rest["letters"]] == ["many-0", "many-1", "many-2"]
    groups = (await ask(system.worker, "GET", "", where=where, group="cause"))["groups"]
    assert [(group["cause"], group["letters"]) for group in groups] == [
        ("gate / gate-shut / order # stands before a shut gate", 3)
    ]
    for wrong in ("chain ==", "nope == 1", "chain.name == 'x'", "age"):
        problem = await ask(system.worker, "GET", "", 400, where=wrong)
        assert problem["type"].endswith("bad-condition"), problem


async def test_a_redriven_task_finishes_without_another_call_and_is_written_once(system: System, gate: Path) -> None:
    await fail(system.worker, "back-1", gate)
    open_gate(gate)
    told = await ask(system.worker, "POST", "/back-1/redrive", body={"reason": "the gate is open", "by": "kim"})
    assert told["done"] | {"at": 0} == {
        "at": 0,
        "by": "kim (default)",
        "action": "redrive",
        "command": told["command"],
        "reason": "the gate is open",
        "run": 1,
    }
    row = await system.worker.reaches("back-1", "finished")
    assert (row["run"], row["failure"]) == (1, None)
    assert [step["step"] for step in row["steps"]] == ["intake", "prompt", "copy", "redrive", "gate", "catalogue"]
    assert (await system.stub.task(TENANT, "back-1"))["calls"] == 1
    assert len(rows(system, "back-1")) == 1
    assert (await letter(system.worker, "back-1"))["state"] == "redriven"
    for path in ("/back-1/redrive", "/back-1/discard"):
        problem = await ask(system.worker, "POST", path, 409, {"reason": "once more"})
        assert "it was redriven already" in problem["detail"]


async def test_from_an_earlier_step_paid_answers_are_used_again_unless_asked_anew(system: System, gate: Path) -> None:
    await fail(system.worker, "early-1", gate)
    await fail(system.worker, "early-2", gate)
    open_gate(gate)
    await ask(system.worker, "POST", "/early-1/redrive", body={"from_step": "prompt"})
    await ask(system.worker, "POST", "/early-2/redrive", body={"from_step": "prompt", "ask_again": True})
    for task, calls in (("early-1", 1), ("early-2", 2)):
        await system.worker.reaches(task, "finished")
        assert (await system.stub.task(TENANT, task))["calls"] == calls


async def test_a_task_that_fails_again_is_a_letter_again(system: System, gate: Path) -> None:
    await fail(system.worker, "twice-1", gate)
    await ask(system.worker, "POST", "/twice-1/redrive", body={})
    again = await letter(system.worker, "twice-1", run=1, state="waiting")
    assert [one["run"] for one in again["tried"]] == [0, 1]
    assert [entry["action"] for entry in again["audit"]] == ["redrive"]
    assert (await system.worker.reaches("twice-1", "failed"))["run"] == 1


async def test_an_edited_input_is_checked_and_asked_anew(system: System, gate: Path) -> None:
    await fail(system.worker, "edit-1", gate)
    problem = await ask(system.worker, "PUT", "/edit-1/input", 422, {"product_id": "x"})
    assert "title" in problem["detail"]
    changed = {"product_id": "edit-1", "title": "A red mug"}
    await ask(system.worker, "PUT", "/edit-1/input", body=changed)
    dry = await ask(system.worker, "POST", "/edit-1/dry-run", body={})
    assert [step["step"] for step in dry["steps"]] == ["prompt", "copy"]
    assert dry["steps"][1]["would_send"]["request"]["messages"][0]["content"] == "Product: A red mug"
    assert (await system.stub.task(TENANT, "edit-1"))["calls"] == 1
    await ask(system.worker, "POST", "/edit-1/redrive", body={})
    await system.worker.reaches("edit-1", "finished")
    assert (await system.stub.task(TENANT, "edit-1"))["calls"] == 2


async def test_what_cannot_be_done_says_why(system: System, gate: Path) -> None:
    await fail(system.worker, "cannot-1", gate)
    problem = await ask(system.worker, "POST", "/cannot-1/redrive", 409, {"from_step": "catalogue"})
    assert "it can at: prompt, copy, gate" in problem["detail"]
    assert (await ask(system.worker, "POST", "/cannot-1/dry-run", 409, {}))["type"].endswith("not-rehearsable")
    assert (await ask(system.worker, "POST", "/cannot-1/discard", 422, {}))["detail"].startswith("reason")
    await ask(system.worker, "POST", "/cannot-1/discard", body={"reason": "a trial"})
    problem = await ask(system.worker, "POST", "/cannot-1/redrive", 409, {})
    assert "it was discarded already by default" in problem["detail"]
    await ask(system.worker, "GET", "/nobody", 404)
    place = await system.put_raw("gate", b"no json", b"who-1")
    name = f"callstream.gate~{place[0]}~{place[1]}"
    told = await letter(system.worker, name)
    assert (told["letter"], told["head"], told["bytes"]) == ("unreadable", "no json", 7)
    problem = await ask(system.worker, "POST", f"/{name}/redrive", 409, {})
    assert "nobody could read the record" in problem["detail"]
    await ask(system.worker, "POST", f"/{name}/discard", body={"reason": "noise"})


async def test_a_bulk_redrive_through_a_kill_does_each_once(system: System, gate: Path) -> None:
    worker, tasks = system.worker, [f"bulk-{number}" for number in range(200)]
    await asyncio.gather(*(worker.submit("gated", product(task, gate), id=task) for task in tasks))
    where = "task.startsWith('bulk-')"

    async def count(state: str) -> int:
        told = await ask(system.workers[-1], "GET", "", where=where, state=state, group="cause")
        return sum(group["letters"] for group in told["groups"])

    async def all_dead() -> bool:
        return await count("waiting") == len(tasks)

    await until(all_dead, "200 letters")
    open_gate(gate)
    job = (await ask(worker, "POST", "/redrive", 202, {"where": where, "rate": 60, "reason": "open"}))["job"]

    async def some() -> bool:
        return await count("redriven") >= 40

    await until(some, "some are redriven")
    await ask(worker, "POST", f"/jobs/{job}/pause", 202)

    async def is_state(state: str) -> bool:
        return bool((await ask(system.workers[-1], "GET", f"/jobs/{job}"))["state"] == state)

    await until(lambda: is_state("paused"), "paused")
    assert await count("waiting") > 0
    await ask(worker, "POST", f"/jobs/{job}/resume", 202)
    await asyncio.sleep(0.7)
    assert await count("waiting") > 0
    await worker.kill()
    after = await system.start(after=worker)
    await until(lambda: is_state("done"), "the job is done", 120)
    for task in tasks:
        row = await after.reaches(task, "finished")
        assert row["run"] == 1
        assert len(rows(system, task)) == 1
    told = await ask(after, "GET", f"/jobs/{job}")
    assert (told["matched"], told["missing"]) == (200, 0)
    assert await count("redriven") == 200
    calls = [(await system.stub.task(TENANT, task))["calls"] for task in tasks]
    assert calls == [1] * 200
    problem = await ask(after, "POST", f"/jobs/{job}/cancel", 409)
    assert problem["type"].endswith("job-ended")


async def test_a_selection_is_discarded_and_edited_by_the_commands(system: System, gate: Path, tmp_path: Path) -> None:
    # given five letters
    worker, tasks = system.workers[-1], [f"chosen-{number}" for number in range(5)]
    await asyncio.gather(*(worker.submit("gated", product(task, gate), id=task) for task in tasks))
    for task in tasks:
        await letter(worker, task, state="waiting")
    # when two are discarded by name, and the inputs of the others are patched so that their gate is open
    told = await command(worker, "discard", *tasks[:2], "--reason", "sold out", "--wait")
    assert "done: 2 of 2 discarded, of 2 tasks" in told
    patch = tmp_path / "patch.json"
    patch.write_text('{"gate": "", "title": "A better mug"}')
    told = await command(worker, "patch", str(patch), "--where", "task.startsWith('chosen-')", "--wait")
    assert "done: 3 of 3 edited" in told
    patch.write_text('{"title": null}')
    told = await command(worker, "patch", str(patch), "--where", "task == 'chosen-4'", "--wait")
    assert "done: 0 of 1 edited, 1 left" in told
    assert "chosen-4: the input model of chain gated refuses it" in told
    # then what was discarded stays so, and the others finish with what they were given
    for task in tasks[:2]:
        kept = await letter(worker, task, state="discarded")
        assert [(entry["action"], entry["reason"]) for entry in kept["audit"]] == [("discard", "sold out")]
    await command(worker, "redrive", "--where", "task.startsWith('chosen-')", "--wait")
    for task in tasks[2:]:
        await worker.reaches(task, "finished")
    assert (await worker.reaches(tasks[0], "failed"))["run"] == 0


async def test_the_commands_do_the_same(system: System, gate: Path) -> None:
    worker = system.workers[-1]
    await worker.submit("gated", product("cli-1", gate), id="cli-1")
    await worker.reaches("cli-1", "failed")
    await letter(worker, "cli-1", state="waiting")
    listed = await command(worker, "list", "--where", "task == 'cli-1'")
    assert "gate-shut" in listed
    assert "can begin at: prompt, copy, gate" in await command(worker, "show", "cli-1")
    open_gate(gate)
    assert "redrive by kim (default), run 1" in await command(worker, "redrive", "cli-1", "--by", "kim")
    await worker.reaches("cli-1", "finished")


async def command(worker: Worker, *words: str) -> str:
    code, out, err = await worker.command("dead", *words)
    assert code == 0, out + err
    return out + err
