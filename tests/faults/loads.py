"""The loads under which a worker is killed at a point: each brings it to some points, and says what has to come out.

A load makes what it needs, arms the point, and puts its tasks and commands in, each repeated until it is accepted.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta

from callstream.agents.delivery import Latest
from callstream.agents.schedules.schedule import Schedule, suffix_of
from callstream.streams import strict_json
from callstream.streams.event import Json
from callstream.streams.keys import partition_of, task_key
from callstream.streams.topics import SCHEDULE, SCHEDULES, TASKS, changelog_of
from tests.faults.chains import COPIES, UNWATCHED
from tests.faults.rig import Rig
from tests.faults.verdict import Want
from tests.support.kafka import read_all
from tests.support.running import TENANT
from tests.support.workers import READY_SECONDS, WorkerProcess, until_ready

COPIED = ("intake", "prompt", "copy", "moderate", "catalogue")
LISTED = ("intake", "first", "second", "third")
OBEYED = ("intake", "first", "second")
UNDONE = ("undo second", "undo first")
LARGE_CHARACTERS = 300_000
"""More than an event takes with it: its body lies in the blob store."""
MOST_TASKS, BETWEEN_SECONDS = 150, 0.2
YEARLY = "30 2 1 1 *"

Wants = tuple[list[Want], dict[str, str]]
"""What has to become of each task, and of which task the row of each product has to be."""
Load = Callable[[Rig], Awaitable[Wants]]


def names(rig: Rig, count: int) -> list[str]:
    """Ids of as many tasks of this run."""
    return [f"{rig.run}-{number}" for number in range(count)]


def product(task: str, **more: str) -> Json:
    """An input whose product is called as the task is."""
    return {"product_id": task, "title": "A blue mug", **more}


def copied(tasks: list[str], told: bool = False) -> Wants:
    """Tasks of the chain `quick`, all finished."""
    return [Want(task, COPIED, calls=True, told=told) for task in tasks], {task: task for task in tasks}


async def all_of(work: list[Awaitable[object]]) -> None:
    """Side by side; the first error ends it."""
    await asyncio.gather(*work)


async def submit_plain(rig: Rig, tasks: list[str]) -> None:
    """Tasks of the chain `quick` whose callers are to be told."""
    await all_of([rig.submit("quick", product(task), task, callback=rig.caller.url(task)) for task in tasks])


async def plain(rig: Rig) -> Wants:
    """Six tasks, each with a model call, a row in the catalogue and a caller that is told."""
    tasks = names(rig, 6)
    rig.arm()
    await submit_plain(rig, tasks)
    return copied(tasks, told=True)


async def large(rig: Rig) -> Wants:
    """Two tasks whose bodies lie in the blob store."""
    tasks = names(rig, 2)
    rig.arm()
    await all_of([rig.submit("quick", product(task, remarks="." * LARGE_CHARACTERS), task) for task in tasks])
    return copied(tasks)


async def backlog(rig: Rig) -> Wants:
    """So many tasks at once that some are put aside before they call the model."""
    tasks = names(rig, 30)
    rig.arm()
    await all_of([rig.submit("quick", product(task), task) for task in tasks])
    return copied(tasks)


async def later(rig: Rig) -> Wants:
    """Four tasks whose step fails twice and leaves the pauses to the timer, and two that start in a second."""
    tasks = names(rig, 6)
    rig.arm()
    start: list[Json] = [{}] * 4 + [{"delay_seconds": 1.0}] * 2
    chains = ["later"] * 4 + ["listing"] * 2
    await all_of(
        [rig.submit(chain, product(task), task, **more) for chain, task, more in zip(chains, tasks, start, strict=True)]
    )
    steps = {"later": ("intake", "unsteady", "catalogue"), "listing": LISTED}
    return [Want(task, steps[chain]) for chain, task in zip(chains, tasks, strict=True)], {task: task for task in tasks}


async def told(rig: Rig) -> Wants:
    """Four tasks that write onto a topic of others, where each of them stands when it has ended."""
    tasks, latest = names(rig, 4), Latest()
    rig.arm()
    await all_of([rig.submit("told", product(task), task) for task in tasks])
    await all_of([rig.until(task, "finished") for task in tasks])
    for record in await read_all(rig.system.bootstrap, COPIES):
        latest.take(record.key or b"", record.value or b"", record.headers)
    assert [latest.value(TENANT, task) for task in tasks] == [{"title": "A blue mug"}] * len(tasks)
    return [Want(task, ("intake", "told")) for task in tasks], {}


async def schedule(rig: Rig) -> Wants:
    """A schedule that is set and triggered twice."""
    rig.arm()
    spec: Json = {"chain": "obedient", "input": {}, "cron": YEARLY}
    path = f"/v1/schedules/{rig.run}"
    await rig.ask("PUT", path, spec)
    told = [await rig.ask("POST", f"{path}/trigger", key=f"{rig.run}-{number}") for number in range(2)]
    return [Want(one["task"], OBEYED) for one in told], {}


async def overdue(rig: Rig) -> Wants:
    """A schedule of three moments of the hour before, which nobody has fired: no worker was there."""
    moments = [_an_hour_ago(minute) for minute in (10, 20, 30)]
    cron = f"10,20,30 {moments[0].hour} {moments[0].day} {moments[0].month} *"
    spec: Json = {"chain": "obedient", "input": {}, "cron": cron, "misfire": "all"}
    await rig.ask("PUT", f"/v1/schedules/{rig.run}", spec)
    told = await rig.ask("GET", f"/v1/schedules/{rig.run}")
    await rig.quiet()
    await rig.worker.stop()
    members = {name: value for name, value in told.items() if name != "next"}
    due = moments[0].timestamp()
    row = Schedule.model_validate({**members, "next_due": due, "last_fired": None}).row()
    await put_row(rig, changelog_of(SCHEDULE, SCHEDULES), task_key(TENANT, rig.run), row)
    rig.arm()
    await rig.worker.start()
    tasks = [f"{rig.run}.{suffix_of(moment.timestamp())}" for moment in moments]
    return [Want(task, OBEYED) for task in tasks], {}


def _an_hour_ago(minute: int) -> datetime:
    return (datetime.now(UTC) - timedelta(hours=1)).replace(minute=minute, second=0, microsecond=0)


async def swept(rig: Rig) -> Wants:
    """The row of a task that ended long ago, which nobody has swept, and two tasks of today."""
    old, *tasks = names(rig, 3)
    await rig.quiet()
    await rig.worker.stop()
    row: Json = {"tenant": TENANT, "id": old, "chain": "quick", "version": 1, "state": "finished", "updated": 1.0}
    await put_row(rig, changelog_of("gateway", TASKS), task_key(TENANT, old), row)
    rig.arm()
    await rig.worker.start()
    await submit_plain(rig, tasks)
    wants, rows = copied(tasks, told=True)
    return [Want(old, state="unknown"), *wants], rows


async def put_row(rig: Rig, changelog: str, key: bytes, row: Json) -> None:
    """A row as the log would have it from an earlier time."""
    partition = partition_of(key, int(str(rig.system.settings["partitions",])))
    await rig.system.producer.send_and_wait(changelog, strict_json.dumps(row), key=key, partition=partition)


async def undo(rig: Rig) -> Wants:
    """Three products that one task each has written, and another one writes and then fails for good."""
    products = names(rig, 3)
    await _list(rig, products)
    rig.arm()
    await all_of(
        [rig.submit("listing", {**product(one), "title": "No lamp", "do": "raise"}, f"{one}-bad") for one in products]
    )
    bad = [Want(f"{one}-bad", (*LISTED, *UNDONE), state="failed", letters=1) for one in products]
    return [*(Want(f"{one}-good", LISTED) for one in products), *bad], {one: f"{one}-good" for one in products}


async def withdrawn(rig: Rig) -> Wants:
    """The same, where the second task of each product is cancelled."""
    products, gate = names(rig, 3), rig.folder / f"gate-{rig.run}"
    gate.touch()
    await _list(rig, products)
    bad = [f"{one}-bad" for one in products]
    given = [{**product(one), "gate": str(gate)} for one in products]
    await all_of([rig.submit("withdrawn", one, task) for one, task in zip(given, bad, strict=True)])
    await all_of([rig.until(task, step="stay") for task in bad])
    rig.arm()
    await all_of([rig.ask("POST", f"/v1/tasks/{task}/cancel", {"reason": "not needed"}) for task in bad])
    steps = ("intake", "first", "second", "stay", *UNDONE)
    # Where the event before was not acknowledged, it comes again, and whichever meets the command first ends the task.
    also = ("intake", "first", "second", *UNDONE)
    wants = [Want(task, steps, state="cancelled", also=also) for task in bad]
    return [*(Want(f"{one}-good", LISTED) for one in products), *wants], {one: f"{one}-good" for one in products}


async def _list(rig: Rig, products: list[str]) -> None:
    await all_of([rig.submit("listing", product(one), f"{one}-good") for one in products])
    await all_of([rig.until(f"{one}-good", "finished") for one in products])


async def redrive(rig: Rig) -> Wants:
    """Four dead letters, which one job redrives when their cause is gone."""
    tasks, gate = names(rig, 4), rig.folder / f"gate-{rig.run}"
    gate.touch()
    await all_of([rig.submit("gated", product(task, gate=str(gate)), task) for task in tasks])
    await all_of([rig.until(task, "failed") for task in tasks])
    await rig.quiet()
    gate.unlink()
    rig.arm()
    where = f"task.startsWith('{rig.run}-')"
    await rig.ask("POST", "/v1/dead/redrive", {"where": where, "rate": 100, "reason": "open"}, key=rig.run)
    steps = ("intake", "prompt", "copy", "redrive", "gate", "catalogue")
    wants = [Want(task, steps, run=1, calls=True, letters=1, redriven=True) for task in tasks]
    return wants, {task: task for task in tasks}


async def spread(rig: Rig) -> Wants:
    """Two tasks that start four sub-tasks each and wait for all."""
    tasks = names(rig, 2)
    rig.arm()
    await all_of([rig.submit("wide", {"number": 4}, task) for task in tasks])
    return [Want(task, ("intake", "spread", "total", "two"), subtasks=4) for task in tasks], {}


async def in_time(rig: Rig) -> Wants:
    """Two tasks that wait for a while for three sub-tasks each, one of which is late."""
    tasks = names(rig, 2)
    rig.arm()
    await all_of([rig.submit("in-time", {"number": 3}, task) for task in tasks])
    return [Want(task, ("intake", "scatter", "total"), subtasks=3) for task in tasks], {}


async def review(rig: Rig) -> Wants:
    """Five tasks that are held; two are claimed and approved, two rejected, and one nobody looks at until it is due."""
    *tasks, left = names(rig, 5)
    rig.arm()
    await all_of([rig.submit("reviewed", product(task), task) for task in tasks])
    await rig.submit("reviewed", product(left, title=UNWATCHED), left)
    await all_of([_decide(rig, task, "reject" if number % 2 else "approve") for number, task in enumerate(tasks)])
    wants = [
        Want(task, ("intake", "ask", "review"), state="rejected")
        if number % 2
        # The verdict is a step of the trail, too.
        else Want(task, ("intake", "ask", "review", "catalogue"))
        for number, task in enumerate(tasks)
    ]
    wants.append(Want(left, ("intake", "ask", "review", "catalogue")))
    return wants, {task: task for number, task in enumerate(tasks) if number % 2 == 0} | {left: left}


async def _decide(rig: Rig, task: str, verdict: str) -> None:
    await rig.until(task, "held")
    await rig.ask("POST", f"/v1/reviews/{task}/claim", {"reviewer": "ada"})
    # 409: a try whose answer was lost has decided.
    said = {"verdict": verdict, "reviewer": "ada", "reason": "looked at"}
    await rig.ask("POST", f"/v1/reviews/{task}", said, enough=(202, 409))


async def paused(rig: Rig) -> Wants:
    """Four tasks of a chain that is paused, and goes on when all of them wait."""
    tasks, scope = names(rig, 4), {"scope": {"chain": "quick"}}
    rig.arm()
    await rig.ask("POST", "/v1/control/pause", scope)
    await all_of([rig.submit("quick", product(task), task) for task in tasks])
    await rig.quiet()
    # 409: a try whose answer was lost has resumed it.
    await rig.ask("POST", "/v1/control/resume", scope, enough=(202, 409))
    return copied(tasks)


async def stop(rig: Rig) -> Wants:
    """Six tasks, in the midst of which the worker is told to stop."""
    tasks = names(rig, 6)
    rig.arm()
    await submit_plain(rig, tasks)
    await rig.worker.alive()
    os.kill(rig.worker.pid or 0, signal.SIGTERM)
    return copied(tasks, told=True)


async def start(rig: Rig) -> Wants:
    """Six tasks, in the midst of which the worker is killed, to be killed again as it takes its partitions back."""
    tasks = names(rig, 6)
    await submit_plain(rig, tasks)
    rig.arm()
    await rig.kill()
    return copied(tasks, told=True)


async def join(rig: Rig) -> Wants:
    """One task after the other, in the midst of which another worker joins the groups; it goes when all is done."""
    tasks: list[str] = []
    other = WorkerProcess("other", rig.folder / f"other-{rig.run}", rig.environment, program="tests.faults.trap")
    rig.arm()
    await other.start()
    try:
        async with asyncio.TaskGroup() as submitting:
            while not await other.is_ready(rig.http) and len(tasks) < MOST_TASKS:
                tasks.append(f"{rig.run}-{len(tasks)}")
                submitting.create_task(submit_plain(rig, tasks[-1:]))
                await asyncio.sleep(BETWEEN_SECONDS)
        await until_ready([other], rig.http, READY_SECONDS)
        await all_of([rig.until(task, "finished") for task in tasks])
    finally:
        await other.stop()
    await until_ready([rig.worker], rig.http, READY_SECONDS)
    return copied(tasks, told=True)


LOADS: Mapping[str, Load] = {
    "plain": plain,
    "large": large,
    "backlog": backlog,
    "told": told,
    "later": later,
    "schedule": schedule,
    "overdue": overdue,
    "swept": swept,
    "undo": undo,
    "withdrawn": withdrawn,
    "redrive": redrive,
    "spread": spread,
    "in-time": in_time,
    "review": review,
    "paused": paused,
    "stop": stop,
    "start": start,
    "join": join,
}
