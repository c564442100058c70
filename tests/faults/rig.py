"""What the kills at points share: a broker, a model server, a caller that is told, and the worker that dies."""

import asyncio
import json
import sqlite3
import time
from base64 import b64encode
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer

from callstream.settings.gather import environment_name
from callstream.streams.event import Json
from callstream.streams.topics import INFER, RECEIPTS, changelog_of
from tests.faults import trap
from tests.faults.points import Point
from tests.faults.verdict import SIGKILLED, Call, Evidence, Seen, Want, made_again
from tests.support import kafka
from tests.support.running import OBEDIENT, QUICK, ROOT, Found, Settings, System, headers, running_system
from tests.support.workers import READY_SECONDS, WorkerProcess, until_ready

CHAINS = (
    QUICK,
    OBEDIENT,
    *(f"{ROOT}/tests/support/{place}" for place in ("chains.py:listing", "chains.py:gated", "flows.py:flows")),
    f"{ROOT}/tests/faults/chains.py:chains",
)
SECRET = "whsec_" + b64encode(b"k" * 32).decode()
SETTINGS: Settings = {
    ("partitions",): 2,
    ("engine", "concurrency"): 4,
    ("engine", "commit_interval_seconds"): 0.2,
    ("engine", "session_timeout_seconds"): 30,
    ("engine", "held_pause_seconds"): 0.2,
    ("engine", "handover_seconds"): 1,
    ("notify", "secret"): SECRET,
    ("notify", "allow_private"): True,
    ("notify", "first_pause_seconds"): 0.2,
}
MODEL_MILLISECONDS = 150
REQUESTS_PER_MINUTE = 60_000
"""So that there is an account to keep, and nothing waits for it."""
ASK_SECONDS = 60.0
SETTLE_SECONDS = 90.0
MISSED_SECONDS = 3.0
"""After all is done: how long a point that nobody came to is still waited for."""
LOOK_SECONDS = 0.1


@dataclass
class Caller:
    """Whom callbacks go to: it takes each, and remembers under which id it came."""

    server: BaseTestServer
    told: dict[str, list[str]]

    def url(self, task: str) -> str:
        """Where to tell of a task."""
        return str(self.server.make_url(f"/{task}"))


@asynccontextmanager
async def listening() -> AsyncIterator[Caller]:
    """A caller at a port of its own."""
    told: dict[str, list[str]] = defaultdict(list)

    async def take(request: web.Request) -> web.Response:
        told[request.match_info["task"]].append(request.headers["webhook-id"])
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/{task}", take)
    async with TestServer(app) as server:
        yield Caller(server, told)


@dataclass
class Rig:
    """The parts, and one worker in a folder of its own. What is asked of it is asked again until it answers."""

    system: System
    caller: Caller
    worker: WorkerProcess
    environment: Mapping[str, str]
    http: aiohttp.ClientSession
    run: str = ""
    armed_at: float = 0.0
    _point: Point | None = None
    _hit: int = 0
    _calls: int = 0
    _lives: int = 0
    _exits: int = 0
    _own_kills: list[float] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """Where files of the loads may lie."""
        return self.system.folder

    def begin(self, run: str, point: Point, hit: int) -> None:
        """The next run: of that name, to end at that hit of a point."""
        self.run, self._point, self._hit = run, point, hit
        self._lives, self._exits, self._own_kills = trap.lives(self.worker.folder), len(self.worker.exits), []

    def arm(self) -> None:
        """From now on the worker dies when it comes to the point."""
        assert self._point is not None
        trap.arm(self.worker.folder, self._point.name, self._hit)
        self.armed_at = time.time()

    async def kill(self) -> None:
        """Kill it from outside; it starts again."""
        await self.worker.alive()
        self._own_kills.append(self.worker.kill())

    async def ask(
        self, method: str, path: str, body: Json | None = None, key: str = "", enough: Sequence[int] = (200, 202)
    ) -> Json:
        """What the gateway answers, asked until its status is one of these."""
        end, said = time.monotonic() + ASK_SECONDS, ""
        given = {"Idempotency-Key": key} if key else {}
        while time.monotonic() < end:
            try:
                async with self.http.request(method, self.worker.url + path, json=body, headers=given) as answer:
                    said = f"{answer.status} {await answer.text()}"
                    if answer.status in enough:
                        return dict(await answer.json(content_type=None) or {})
            except (aiohttp.ClientError, TimeoutError) as error:
                said = repr(error)
            await asyncio.sleep(LOOK_SECONDS)
        raise AssertionError(f"{method} {path}: not within {ASK_SECONDS:g} s, at last {said}\n{self.worker.said()}")

    async def submit(self, chain: str, given: Json, task: str, **more: object) -> None:
        """Hand a task in, as often as it takes."""
        await self.ask("POST", "/v1/tasks", {"chain": chain, "input": given, "id": task, **more})

    async def row(self, task: str) -> Json:
        """The row of a task; its state is `unknown` if the gateway knows none."""
        row = await self.ask("GET", f"/v1/tasks/{task}", enough=(200, 404))
        return row if "state" in row else {"state": "unknown"}

    async def until(self, task: str, *states: str, step: str | None = None) -> Json:
        """The row of a task once it is in one of these states, or about to take that step."""
        end = time.monotonic() + ASK_SECONDS
        while True:
            row = await self.row(task)
            if row["state"] in states or (step is not None and (row.get("next") or {}).get("step") == step):
                return row
            assert time.monotonic() < end, f"{task} is never {states or step}: {row}\n{self.worker.said()}"
            await asyncio.sleep(LOOK_SECONDS)

    async def quiet(self, seconds: float = ASK_SECONDS) -> dict[str, int]:
        """What is not yet committed, once that is nothing, or the time is over."""
        end = time.monotonic() + seconds
        while True:
            lag = await self.system.lag()
            if not lag or time.monotonic() > end:
                return lag
            await asyncio.sleep(LOOK_SECONDS)

    async def settled(self, wants: Sequence[Want]) -> dict[str, int]:
        """Wait until the worker has died and all is done, or for long enough; gives the lag that is left."""
        end, missed = time.monotonic() + SETTLE_SECONDS, 0.0
        while time.monotonic() < end:
            if trap.killed(self.worker.folder) is not None or missed:
                await until_ready([self.worker], self.http, READY_SECONDS)
            states = [(await self.row(want.task))["state"] for want in wants]
            if states == [want.state for want in wants] and not (lag := await self.system.lag()):
                if trap.killed(self.worker.folder) is not None or time.monotonic() > missed > 0:
                    return lag
                missed = missed or time.monotonic() + MISSED_SECONDS
            await asyncio.sleep(LOOK_SECONDS)
        return await self.system.lag()

    async def evidence(self, wants: Sequence[Want], rows: Mapping[str, str], lag: Mapping[str, int]) -> Evidence:
        """All that can be found of the run that ends."""
        assert self._point is not None
        told = trap.killed(self.worker.folder)
        trap.disarm(self.worker.folder)
        found = {topic: await (await self.system.tail(topic)).all() for topic in ("finished", "dead")}
        calls = await self._new_calls()
        reached = told is not None and (told["point"], told["hit"]) == (self._point.name, self._hit)
        return Evidence(
            wants=wants,
            rows=rows,
            reached=reached,
            kills=[*self._own_kills, *([told["at"]] if told is not None else [])],
            seen={want.task: await self._seen(want, found) for want in wants},
            catalogue=self._catalogue(),
            calls=calls,
            answered=await self._answered(made_again(calls)),
            lag=lag,
            exits=self._ends(),
        )

    async def _answered(self, calls: Sequence[str]) -> dict[str, float]:
        """When the answers of these calls came onto the log first."""
        found: dict[str, float] = {}
        if not calls:
            return found
        for record in await kafka.read_all(self.system.bootstrap, changelog_of(INFER, RECEIPTS)):
            receipts = json.loads(record.value or b"{}").get("calls", {})
            for call in receipts.keys() & set(calls) - found.keys():
                if receipts[call]["state"] == "answered":
                    found[call] = record.timestamp / 1000
        return found

    def _ends(self) -> list[int]:
        """The exit codes of the worker's lives that have ended in this run."""
        at_points = trap.lives(self.worker.folder) - self._lives
        return [*[SIGKILLED] * at_points, *(one.code for one in self.worker.exits[self._exits :])]

    async def _seen(self, want: Want, found: Mapping[str, Sequence[Found]]) -> Seen:
        row = await self.row(want.task)
        letter: Json = {}
        if want.letters:
            letter = await self.ask("GET", f"/v1/dead/{want.task}", enough=(200, 404))
        return Seen(
            state=row["state"],
            steps=tuple(f"undo {step['step']}" if step.get("undo") else step["step"] for step in row.get("steps", ())),
            run=row.get("run", 0),
            ends=_ids(found["finished"], want.task),
            letters=_ids(found["dead"], want.task),
            callbacks=tuple(self.caller.told.get(want.task, ())),
            letter=(letter.get("state", ""), len(letter.get("audit", ()))),
            subtasks=(row.get("subtasks") or {}).get("done", 0),
        )

    def _catalogue(self) -> dict[str, list[str]]:
        """Of each product of this run the tasks whose rows there are."""
        found = defaultdict(list)
        with sqlite3.connect(self.system.database) as database:
            for product, task in database.execute("select product, task from catalogue"):
                if product.startswith(f"{self.run}-"):
                    found[product].append(task)
        return found

    async def _new_calls(self) -> list[Call]:
        """The calls of this run: one that is under way is none yet."""
        page = await self.system.stub.calls(self._calls)
        self._calls = page["ended"]
        return [
            Call(one["call_id"], one["task"], one["at_unix"], one["at_unix"] + one["seconds"]) for one in page["calls"]
        ]


def _ids(records: Sequence[Found], task: str) -> frozenset[str]:
    """The ids of those about a task: a repeat has the id that it had the first time."""
    own = [headers(record) for record in records if headers(record).get("ce_subject") == task.encode()]
    return frozenset(told.get("ce_id", b"").decode() for told in own)


@asynccontextmanager
async def running_rig(folder: Path) -> AsyncIterator[Rig]:
    """All the parts, ended on the way out; the worker is ready."""
    stub = {"median_ms": MODEL_MILLISECONDS, "concurrency": 64}
    async with listening() as caller, running_system(folder, CHAINS, SETTINGS, **stub) as system:
        told = dict(system.settings)
        endpoint = {"name": "stub", "base_url": system.stub.url, "model": "stub-writer"}
        limited = {**endpoint, "limits": {"requests_per_minute": REQUESTS_PER_MINUTE}}
        told["inference", "pools"] = {"copywriter": {"endpoints": [limited]}}
        environment = {environment_name(path): _text(value) for path, value in told.items()}
        environment["PYTHONPATH"] = str(ROOT)
        worker = WorkerProcess("worker", folder / "worker", environment, program="tests.faults.trap")
        timeout = aiohttp.ClientTimeout(total=20)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            try:
                await worker.start()
                await until_ready([worker], http, READY_SECONDS)
                yield Rig(system, caller, worker, environment, http)
            finally:
                await worker.stop()


def _text(value: object) -> str:
    return json.dumps(value) if isinstance(value, dict | list | tuple) else str(value)
