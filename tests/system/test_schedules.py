"""Schedules of a real worker: by HTTP and from the command line, missed, killed in the middle, paused, removed."""

import time
from collections import Counter
from pathlib import Path

import pytest

from callstream.agents.schedules.schedule import Schedule, suffix_of
from callstream.streams import strict_json
from callstream.streams.event import Json
from callstream.streams.keys import partition_of, task_key
from callstream.streams.topics import SCHEDULE, SCHEDULES, changelog_of
from tests.support.running import PATIENCE_SECONDS, QUICK, TENANT, System, Worker, headers, running_system, until

MUG = {"product_id": "mug", "title": "A blue mug"}
EACH = {"chain": "quick", "input": MUG, "cron": "* * * * *", "misfire": "all"}
QUIET = {"chain": "quick", "input": MUG, "cron": "30 2 * * *", "zone": "Europe/Berlin"}
MISSED = 20
MINUTE = 60


async def ask(worker: Worker, method: str, path: str, body: Json | None = None) -> tuple[int, Json]:
    async with worker.http.request(method, f"/v1/schedules{path}", json=body) as answer:
        return answer.status, await answer.json(content_type=None)


async def until_known(worker: Worker, name: str) -> Json:
    async def look() -> Json | None:
        status, told = await ask(worker, "GET", f"/{name}")
        return told if status == 200 else None

    return dict(await until(look, f"the gateway knows schedule {name}"))


async def put_row(system: System, told: Json, due: float) -> None:
    """Put a schedule's row onto its log as it was before anything from `due` on was fired."""
    members = {name: value for name, value in told.items() if name != "next"}
    row = Schedule.model_validate({**members, "next_due": due, "last_fired": None}).row()
    key = task_key(TENANT, told["name"])
    topic, partition = changelog_of(SCHEDULE, SCHEDULES), partition_of(key, 4)
    await system.producer.send_and_wait(topic, strict_json.dumps(row), key=key, partition=partition)


async def handed_in(system: System, wanted: set[str], times: int) -> Counter[str]:
    """How often each task of schedule `each` was handed in, once all that are wanted were as often as that."""
    tail = await system.tail("intake")
    seen: Counter[str] = Counter()

    async def look() -> bool:
        await tail.find(lambda _: True, "anything at all")
        named = (headers(record)["ce_subject"].decode() for record in tail.records)
        seen.clear()
        seen.update(name for name in named if name.startswith("each."))
        return all(seen[task] >= times for task in wanted)

    # A worker that comes back loads its dictionaries first, and waits for its place in the group.
    await until(look, f"every occurrence is handed in {times} times", 2 * PATIENCE_SECONDS)
    return seen


async def calls(system: System, tasks: set[str]) -> dict[str, tuple[int, int]]:
    """How often each task's model was asked, and how often that was paid for."""
    counts = {task: await system.stub.task(TENANT, task) for task in tasks}
    return {task: (count["calls"], count["paid"]) for task, count in counts.items()}


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_each_occurrence_is_one_task_whatever_is_killed(tmp_path: Path) -> None:
    # A call that is under way as its worker is killed is asked again: only an endpoint that keeps answers charges once.
    async with running_system(tmp_path, (QUICK,), idempotent=True) as system:
        # given a schedule of every minute, and one that is paused, triggered by hand
        worker = await system.start()
        for name, body in (("each", EACH), ("quiet", QUIET)):
            status, told = await ask(worker, "PUT", f"/{name}", body)
            assert (status, told["in_effect"]) == (202, True), (told, worker.log()[-3000:])
        assert (await ask(worker, "POST", "/quiet/pause"))[1]["in_effect"]
        triggered = (await ask(worker, "POST", "/quiet/trigger"))[1]["task"]
        await worker.reaches(triggered, "finished")
        each = await until_known(worker, "each")
        # when the worker is killed and comes back after twenty minutes, and is killed again as it makes up for them
        await worker.kill()
        due = time.time() // MINUTE * MINUTE - (MISSED - 1) * MINUTE
        occurrences = {f"each.{suffix_of(due + number * MINUTE)}" for number in range(MISSED)}
        await put_row(system, each, due)
        worker = await system.start(after=worker, has_gateway=False)
        await handed_in(system, set(list(occurrences)[:1]), 1)
        await worker.kill()
        worker = await system.start(after=worker)
        # then each of them becomes one task, and so does none else
        for task in sorted(occurrences):
            await worker.reaches(task, "finished")
        seen = await handed_in(system, occurrences, 1)
        assert {task for task in seen if task <= max(occurrences)} == occurrences
        created = {task: (await worker.row(task) or {})["created"] for task in occurrences}
        before = await calls(system, occurrences)
        assert {paid for _, paid in before.values()} == {1}
        # and when the log has only the row from before, as after a kill between the tasks and the row
        each = await until_known(worker, "each")
        await worker.kill()
        counted = await handed_in(system, occurrences, 1)
        await put_row(system, each, due)
        worker = await system.start(after=worker)
        await handed_in(system, occurrences, max(counted.values()) + 1)
        await system.settled()
        # then all are handed in again and are the tasks that they were: nothing is asked again
        assert {task: (await worker.row(task) or {})["created"] for task in occurrences} == created
        assert await calls(system, occurrences) == before
        # and the pause has outlived the kills
        quiet = await until_known(worker, "quiet")
        assert (quiet["paused"], quiet["next"]) == (True, [])
        await steer_from_the_command_line(system, worker)


async def steer_from_the_command_line(system: System, worker: Worker) -> None:
    code, shown, _ = await worker.command("schedule", "list")
    assert code == 0
    assert "Europe/Berlin" in shown
    assert "paused" in shown
    assert await worker.command("schedule", "resume", "quiet") == (0, "quiet: resumed\n", "")
    code, task, _ = await worker.command("schedule", "trigger", "quiet")
    assert code == 0
    await worker.reaches(task.strip(), "finished")
    words = ("set", "bad", "--chain", "quick", "--cron", "0 0 30 2 *", "--input", '{"product_id": "a", "title": "b"}')
    code, shown, error = await worker.command("schedule", *words)
    assert (code, shown) == (1, "")
    assert "never fires" in error
    assert len(error.splitlines()) == 1
    for name in ("each", "quiet"):
        assert await worker.command("schedule", "remove", name) == (0, f"{name}: removed\n", "")
    assert (await ask(worker, "GET", "/each"))[0] == 404
    assert (await ask(worker, "GET", ""))[1]["schedules"] == []
    # What nobody can read goes to the dead letters, and the service goes on.
    partition, offset = await system.put_raw(SCHEDULES, b"{", key=b"x")
    dead = await system.tail("dead")
    place = f"callstream.{SCHEDULES}/{partition}/{offset}".encode()
    await dead.find(lambda record: headers(record).get("ce_subject") == place, "the dead letter")
    assert (await ask(worker, "PUT", "/again", QUIET))[1]["in_effect"]
