"""Alarms at work: dead letters ring once, a signed webhook tells of it, and it falls silent; also through a kill."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from standardwebhooks import Webhook

from callstream.agents.alarms.incident import ENDED, RANG
from callstream.streams.event import Json
from tests.support.running import (
    OBEDIENT,
    QUICK,
    Found,
    Settings,
    System,
    Tail,
    Worker,
    body,
    headers,
    running_system,
    until,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = "whsec_" + "bXkgdmVyeSBzZWNyZXQgc2VjcmV0IGZvciB0ZXN0cyE="
WINDOW_SECONDS, QUIET_SECONDS = 8, 15
LETTERS = {
    "name": "fires",
    "kind": "dead_letters",
    "threshold": 60 / WINDOW_SECONDS * 2,
    "window_seconds": WINDOW_SECONDS,
    "quiet_seconds": QUIET_SECONDS,
    "chain": "obedient",
}
"""Two letters within the window."""
NOBODY = {"name": "nobody", "base_url": "http://127.0.0.1:1/v1", "model": "m"}
LAG = {"name": "behind", "kind": "lag", "threshold": 5, "service": "obey", "quiet_seconds": 0}
BREAKER = {"name": "shut", "kind": "breaker", "threshold": 1, "pool": "copywriter"}


@dataclass
class Receiver:
    """Who is told by webhook: what came, verified, and what it answers."""

    url: str = ""
    received: list[tuple[str, Json]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        raw = await request.read()
        told: Any = Webhook(SECRET).verify(raw, dict(request.headers))
        self.received.append((request.headers["webhook-id"], dict(told)))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 204)

    async def about(self, incident: str, kind: str) -> list[str]:
        """Ids of the webhooks of a type about an incident."""
        return [one for one, told in self.received if (told["data"]["id"], told["type"]) == (incident, kind)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    app = web.Application()
    app.router.add_post("/hook", found.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield found
    await runner.cleanup()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> AsyncIterator[System]:
    settings: Settings = {
        ("alarms", "rules"): [LETTERS, LAG, BREAKER],
        # Nobody listens there.
        ("inference", "pools"): {"copywriter": {"endpoints": [NOBODY]}},
        ("alarms", "webhooks"): [{"url": receiver.url, "secret": SECRET}],
        ("notify", "allow_private"): True,
        ("notify", "first_pause_seconds"): 0.1,
    }
    async with running_system(tmp_path_factory.mktemp("alarms"), (OBEDIENT, QUICK), settings) as running:
        await running.start()
        yield running


async def burn(worker: Worker, count: int = 2) -> None:
    """As many tasks that fail for good."""
    for _ in range(count):
        told = await worker.submit("obedient", {"do": "raise"})
        await worker.reaches(told["id"], "failed")


async def alarms(worker: Worker) -> Json:
    async with worker.http.get("/v1/alarms") as answer:
        told: Json = await answer.json()
        return told if answer.status == 200 else {"open": [], "recent": [], "rules": []}


def is_open(worker: Worker, count: int) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return len((await alarms(worker))["open"]) == count

    return look


async def told_of(tail: Tail, subject: str) -> list[tuple[str, str]]:
    """Type and id of the incident of each event about a subject, in their order."""
    return [(_type(one), body(one)["id"]) for one in await tail.all() if body(one)["subject"] == subject]


def _type(record: Found) -> str:
    return headers(record)["ce_type"].decode()


async def test_dead_letters_ring_once_and_fall_silent(system: System, receiver: Receiver) -> None:
    # given a receiver that is busy at first
    receiver.statuses = [503, 503]
    subject = "obedient/first"
    tail = await system.tail("alarms")
    # when more tasks fail than the rule allows
    await burn(system.worker, 4)
    # then it rings
    await until(is_open(system.worker, 1), "the alarm rings")
    (open_now,) = (await alarms(system.worker))["open"]
    rang_id = f"fires/{subject}/1"
    assert (open_now["id"], open_now["kind"], open_now["state"]) == (rang_id, "dead_letters", "open")
    async with system.worker.http.get("/metrics") as answer:
        assert 'callstream_alarms_open{kind="dead_letters",rule="fires"} 1.0' in await answer.text()
    # and falls silent once no more fail
    await until(is_open(system.worker, 0), "the alarm is over")
    (ended,) = (await alarms(system.worker))["recent"]
    assert ended["lasted_seconds"] > 0
    # then there are two events, which are CloudEvents of the same incident
    assert await told_of(tail, subject) == [(RANG, f"fires/{subject}/1"), (ENDED, f"fires/{subject}/1")]
    rang, over = await tail.all()
    assert headers(rang)["ce_id"] == f"fires/{subject}/1/rang".encode()
    assert body(over)["lasted_seconds"] == ended["lasted_seconds"]
    # and two webhooks were taken, the first in its third attempt under one id
    await until(lambda: receiver.about(rang_id, "alarm.ended"), "the end is told")
    attempts = await receiver.about(rang_id, "alarm.rang")
    assert (len(attempts), len(set(attempts))) == (3, 1)
    assert len(await receiver.about(rang_id, "alarm.ended")) == 1
    assert receiver.received[-1][1]["data"] == body(over)


async def test_a_worker_killed_while_it_rings_does_not_ring_again_and_the_end_still_comes(
    system: System, receiver: Receiver
) -> None:
    subject, before = "obedient/first", system.worker
    tail = await system.tail("alarms")
    known = await told_of(tail, subject)
    # given an alarm that rings and was told
    await burn(before)
    await until(is_open(before, 1), "the alarm rings")
    (incident,) = (await alarms(before))["open"]
    await until(lambda: receiver.about(incident["id"], "alarm.rang"), "the webhook")
    await system.settled()
    # when its worker is killed, and the next one finds as much to ring for
    await before.kill()
    worker = await system.start(after=before)
    await burn(worker)
    await until(is_open(worker, 1), "the alarm is open")
    assert (await alarms(worker))["open"][0]["id"] == incident["id"]
    # then it ends, and was told of once
    await until(is_open(worker, 0), "the alarm is over")
    assert (await told_of(tail, subject))[len(known) :] == [(RANG, incident["id"]), (ENDED, incident["id"])]
    await until(lambda: receiver.about(incident["id"], "alarm.ended"), "the end is told")
    assert len(await receiver.about(incident["id"], "alarm.rang")) == 1


async def test_what_waits_rings_while_its_service_is_paused(system: System) -> None:
    worker = system.workers[-1]
    tail = await system.tail("alarms")
    scope = {"scope": {"service": "obey"}, "by": "ann", "reason": "a trial"}
    async with worker.http.post("/v1/control/pause", json=scope) as answer:
        assert answer.status == 202, await answer.text()
    tasks = [(await worker.submit("obedient", {}))["id"] for _ in range(6)]
    await until(lambda: told_of(tail, "obey"), "the lag rings")
    async with worker.http.post("/v1/control/resume", json=scope) as answer:
        assert answer.status == 202, await answer.text()
    for task in tasks:
        await worker.reaches(task, "finished")

    async def over() -> bool:
        return len(await told_of(tail, "obey")) == 2

    await until(over, "the lag is over")
    assert await told_of(tail, "obey") == [(RANG, "behind/obey/1"), (ENDED, "behind/obey/1")]


async def test_an_endpoint_that_nobody_reaches_rings(system: System) -> None:
    tail = await system.tail("alarms")
    await system.workers[-1].submit("quick", {"product_id": "p1", "title": "Mug"})
    await until(lambda: told_of(tail, "copywriter/nobody"), "the breaker rings")
    ((kind, name),) = await told_of(tail, "copywriter/nobody")
    assert (kind, name) == (RANG, "shut/copywriter/nobody/1")
