"""The services that no chain names, paused: the timer and notify hold what they have, say so, and survive a restart."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from callstream.streams.event import Json
from tests.support.running import OBEDIENT, Settings, System, Worker, headers, running_system, until

SECRET = "whsec_" + "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="
NOTIFYING: Settings = {
    ("notify", "secret"): SECRET,
    ("notify", "allow_private"): "true",
    ("notify", "first_pause_seconds"): 4,
    ("notify", "longest_pause_seconds"): 4,
    ("engine", "held_pause_seconds"): 0,
    ("engine", "concurrency"): 1,
}
NO_STALL_SECONDS = 24.0


async def command(worker: Worker, what: str, service: str) -> None:
    async with worker.http.post(f"/v1/control/{what}", json={"scope": {"service": service}}) as said:
        assert said.status == 202, await said.text()


@asynccontextmanager
async def callbacks(told: list[str], refused: set[str]) -> AsyncIterator[str]:
    """Callers: keeps who was told, and is busy for those that are refused. Gives the URL before the name."""

    async def take(request: web.Request) -> web.Response:
        told.append(request.path[1:])
        return web.Response(status=503 if request.path[1:] in refused else 204)

    app = web.Application()
    app.router.add_post("/{name}", take)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


async def delivered(worker: Worker, task: str) -> Json:
    async def look() -> Json | None:
        return ((await worker.row(task)) or {}).get("callback")

    return dict(await until(look, f"{task} is told"))


@pytest.mark.timeout(240)
async def test_a_paused_timer_holds_what_is_due_and_says_so_through_a_restart(tmp_path: Path) -> None:
    async with running_system(tmp_path, (OBEDIENT,), {("engine", "watchdog_seconds"): 20}) as system:
        # given a task that is to start in two seconds, and a timer that is paused
        worker = await system.start()
        await worker.submit("obedient", {"do": "forward"}, id="late", delay_seconds=2)
        await command(worker, "pause", "timer")
        await asyncio.sleep(NO_STALL_SECONDS)

        # then it waits for the timer, also behind a restart, and so does one that comes meanwhile
        for start in (False, True):
            if start:
                await worker.kill()
                worker = await system.start(after=worker)
                await worker.submit("obedient", {"do": "forward"}, id="later", delay_seconds=0.5)
                await asyncio.sleep(3)
            row = await worker.reaches("late", "accepted")
            assert (row["waiting"]["reason"], row["waiting"]["waits_for"]) == ("paused", "resume of service timer")
        # and both go on when it does
        await command(worker, "resume", "timer")
        for task in ("late", "later"):
            await worker.reaches(task, "finished")


@pytest.mark.timeout(300)
async def test_a_callback_that_is_tried_again_holds_no_place_and_waits_out_a_pause(tmp_path: Path) -> None:
    told, refused = list[str](), {"busy"}
    async with callbacks(told, refused) as url, running_system(tmp_path, (OBEDIENT,), NOTIFYING) as system:
        # given one place for callbacks, and a caller that is busy
        worker = await system.start()
        await worker.submit("obedient", {"do": "forward"}, id="busy", callback=f"{url}busy")
        await until(lambda: said(told, "busy"), "it is called")
        # then others are told meanwhile
        for task in ("mug-1", "mug-2"):
            await worker.submit("obedient", {"do": "forward"}, id=task, callback=f"{url}{task}")
        assert [(await delivered(worker, task))["attempts"] for task in ("mug-1", "mug-2")] == [1, 1]
        # when the service is paused, nobody is told, and a kill changes nothing
        await command(worker, "pause", "notify")
        await asyncio.sleep(1)
        calls = len(told)
        await worker.submit("obedient", {"do": "forward"}, id="mug-3", callback=f"{url}mug-3")
        assert (await worker.reaches("mug-3", "finished"))["callback"] is None
        await asyncio.sleep(2)
        await worker.kill()
        worker = await system.start(after=worker)
        await worker.reaches("mug-3", "finished")
        assert len(told) == calls
        # then, when it is resumed, each caller is told, and no end stands twice for those who read them
        refused.clear()
        await command(worker, "resume", "notify")
        assert (await delivered(worker, "mug-3"))["attempts"] == 1
        assert (await delivered(worker, "busy"))["attempts"] > 1
        await system.settled()
        assert await ends(system, "busy") == 1


async def said(told: list[str], name: str) -> bool:
    return name in told


async def ends(system: System, task: str) -> int:
    tail = await system.tail("finished")
    return len([one for one in await tail.all() if headers(one)["ce_subject"] == task.encode()])
