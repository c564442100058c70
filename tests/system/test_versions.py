"""Two versions of a chain, and two of the program, at work in one group."""

import asyncio
import shutil
import sys
from pathlib import Path

import pytest

from tests.support.running import (
    ROOT,
    Settings,
    System,
    Worker,
    as_record,
    body,
    headers,
    running_system,
    submission,
    until,
)

FLOWS = Path(__file__).parents[1] / "support" / "flows.py"
OLDER, NEWER = f"{FLOWS}:older", f"{FLOWS}:newer"
QUICKLY: Settings = {("engine", "commit_interval_seconds"): 0.2, ("engine", "session_timeout_seconds"): 6}
FRONT = ("gateway", "intake", "double", "timer", "review", "notify")


async def versions(worker: Worker) -> dict[int, int]:
    async with worker.http.get("/v1/chains?tasks=true") as answer:
        told = await answer.json()
    assert told["complete"]
    return {one["version"]: one["tasks"] for one in told["unfinished"]}


@pytest.mark.long
async def test_a_worker_without_the_version_keeps_its_tasks_for_one_that_has_it(tmp_path: Path) -> None:
    async with running_system(tmp_path, (NEWER,), QUICKLY) as system:
        # Given a gateway that starts tasks on version 2, and a worker of `prepare` that has version 1 alone
        front = await system.start(FRONT)
        older = await system.start(("prepare",), {("chains",): [OLDER]}, has_gateway=False)
        # when tasks of both versions are handed in
        tasks = [(await front.submit("sums", {"number": number}))["id"] for number in range(6)]
        past = await old_task(system, "from-before")
        # then those of version 1 finish, past those of version 2, which say what they wait for
        row = await front.reaches(past, "finished")
        assert (row["version"], row["result"]["two"]) == (1, {"number": 4})

        async def told() -> bool:
            rows = [await front.row(task) for task in tasks]
            return all(row is not None and row.get("missing") for row in rows)

        await until(told, "the status of each says which version is missing")
        row = await front.reaches(tasks[0], "running")
        assert (row["missing"]["version"], row["missing"]["service"]) == (2, "prepare")
        assert row["missing"]["since"] > row["created"]
        assert await versions(front) == {2: 6}
        shown = await program("chains", "--url", front.base, cwd=tmp_path)
        assert "current" in shown
        # and when a worker comes that has it, and the older one goes, they finish on it
        await system.start(("prepare",), has_gateway=False)
        await older.stop()
        for number, task in enumerate(tasks):
            row = await front.reaches(task, "finished")
            assert (row["version"], row["result"]["two"]) == (2, {"number": 2 * (number + 2)})
            assert row["missing"] is None
        assert await versions(front) == {}
        assert not await (await system.tail("dead")).all()


async def old_task(system: System, task: str) -> str:
    """A task that started on version 1, as it stands before its first step."""
    event = submission("sums", {"number": 1}, task)
    started = as_record(event, "prepare")
    changed = {"ce_chainversion": b"1", "ce_sequence": b"0001"}
    await system.put_raw(
        "prepare", started.value, started.key, [(n, changed.get(n, raw)) for n, raw in started.headers]
    )
    return task


async def program(*arguments: str, cwd: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "callstream", *arguments), cwd=cwd, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


def newer_program(folder: Path) -> Path:
    """This program as a later one could be: it notes in every event that it was there, in ways that are new."""
    for name in ("streams", "agents", "tables", "callstream"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    settle = folder / "agents" / "settle.py"
    text = settle.read_text()
    done = "    return _next(event.with_body(outputs"
    assert done in text
    noted = (
        '    hop = hop.model_copy(update={"notes": ("by the newer program",)})\n'
        '    event = event.extended(flavour="newer").with_body(additions={"flavour": {"is": "newer"}})\n'
    )
    settle.write_text(text.replace(done, noted + done))
    return folder


async def test_an_older_and_a_newer_program_work_in_one_group_and_lose_nothing_new(tmp_path: Path) -> None:
    async with running_system(tmp_path, (NEWER,), QUICKLY) as system:
        # Given workers of this program and of a newer one, that share the partitions of each service
        older = await system.start()
        await system.start(tree=newer_program(tmp_path / "newer"))
        # when many tasks run through both
        tasks = [(await older.submit("sums", {"number": 1}, id=f"mixed-{number}"))["id"] for number in range(40)]
        for task in tasks:
            await older.reaches(task, "finished")
        # then what the newer one wrote is still there at the end, whoever took the steps after it
        tail = await system.tail("finished")
        ended = await tail.find(lambda one: headers(one)["ce_subject"].startswith(b"mixed-"), "the ends", len(tasks))
        new, mixed = 0, 0
        for record in ended:
            by_newer = ["by the newer program" in hop.get("notes", ()) for hop in body(record)["trail"]]
            if any(by_newer):
                new += 1
                mixed += not all(by_newer) and not by_newer[-1]
                assert headers(record)["ce_flavour"] == b"newer"
                assert body(record)["additions"] == {"flavour": {"is": "newer"}}
        assert new > 0
        assert mixed > 0
        assert not await (await system.tail("dead")).all()
