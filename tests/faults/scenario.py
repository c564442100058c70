"""One run with faults: broker, model server, two workers and a load; faults at their times; then the evidence."""

import asyncio
import itertools
import json
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import SecretStr
from sqlalchemy import select

from callstream.agents.delivery import DeliveryOptions, make_engine
from callstream.agents.delivery.schema import catalogue, chain_log, inference_log
from callstream.streams.broker import BrokerOptions, EmbeddedKafka
from callstream.streams.topics import group_of, topic_of
from callstream.stub import RunningStub, running_stub
from tests.faults.load import Load
from tests.support import kafka
from tests.support.judge import Disturbance, Evidence, Row
from tests.support.workers import READY_SECONDS, WorkerProcess, running_workers, until_ready

CHAIN_FILE = Path(__file__).parents[2] / "examples" / "fast" / "chain.py"
SERVICES = ("intake", "prepare", "infer", "moderate", "deliver")
STEPS = ("intake", "prompt", "copy", "moderate", "catalogue")
READS: Mapping[str, Sequence[str]] = {
    **{service: (service,) for service in SERVICES},
    "timer": ("timer",),
    "review": ("review", "verdicts"),
    "notify": ("finished", "notify", "alarms"),
    "gateway": (*SERVICES, "timer", "review", "finished", "notified"),
}
SETTLE_SECONDS = 120.0
LOOK_SECONDS = 1.0
RECEIPT_SECONDS = 0.25
"""For its caller a call is under way until its answer is on the log, which the model server does not see."""
ENDED = ("finished", "rejected", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Fault:
    """What to break, and how many seconds after the fault before it was over or the load had begun."""

    pause: float
    kind: str
    target: str


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how hard: until so many seconds are over and so many faults have been made, whichever is later.

    `wipes` names the workers that lose their data folder with each death.

    `broker_faults` are numbers of the faults that hit the broker: restarted orderly ("restart") or by SIGKILL
    ("crash"). All others are kills of a worker, first of each one once, then at random.
    """

    seconds: float
    faults: int
    rate: float
    seed: int
    wipes: frozenset[str] = frozenset()
    broker_faults: Mapping[int, str] = field(default_factory=dict)
    gap: tuple[float, float] = (10.0, 20.0)
    workers: tuple[str, ...] = ("worker-a", "worker-b")

    def endless(self) -> Iterator[Fault]:
        """Faults without end, at random gaps, as the seed says."""
        chance = random.Random(self.seed)
        unhurt = list(self.workers)
        for number in itertools.count():
            pause = chance.uniform(*self.gap)
            if number in self.broker_faults:
                yield Fault(pause, self.broker_faults[number], "broker")
            else:
                yield Fault(pause, "kill", unhurt.pop(0) if unhurt else chance.choice(self.workers))


@dataclass
class Scenario:
    """One run of a plan in a folder, with results in `database_url`."""

    plan: Plan
    folder: Path
    database_url: str
    broker: EmbeddedKafka
    stub: RunningStub
    workers: dict[str, WorkerProcess] = field(default_factory=dict)
    made: list[Fault] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)
    load: Load = field(init=False)

    async def run(self) -> Evidence:
        """Break things under load, let everything settle, and collect what can be found."""
        settings = self._settings()
        for name in self.plan.workers:
            self.workers[name] = WorkerProcess(name, self.folder / name, settings, wipes=name in self.plan.wipes)
        workers = list(self.workers.values())
        async with running_workers(workers, READY_SECONDS), aiohttp.ClientSession() as http:
            load = self.load = Load([worker.url for worker in workers], self.plan.rate, self.plan.seed)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(load.run())
                await self._break()
                load.stop()
            await until_ready(workers, http, SETTLE_SECONDS)
            lag = await self._settled()
            states = await self._states(http, [order.task for order in load.orders])
            return await self._evidence(load, states, lag)

    def _settings(self) -> dict[str, str]:
        endpoint = {"name": "stub", "base_url": self.stub.url, "model": "stub-writer"}
        return {
            "CALLSTREAM_BROKER": self.broker.bootstrap,
            "CALLSTREAM_CHAINS": f"{CHAIN_FILE}:chain",
            "CALLSTREAM_DELIVERY__DATABASE_URL": self.database_url,
            "CALLSTREAM_BLOBS__URL": f"file://{self.folder / 'blobs'}",
            "CALLSTREAM_ENGINE__SESSION_TIMEOUT_SECONDS": "6",
            "CALLSTREAM_ENGINE__WATCHDOG_SECONDS": "45",
            "CALLSTREAM_INFERENCE__POOLS": json.dumps({"copywriter": {"endpoints": [endpoint]}}),
        }

    async def _break(self) -> None:
        """Make one fault after the other, then go on for as long as before the next."""
        end = time.monotonic() + self.plan.seconds
        for fault in self.plan.endless():
            await asyncio.sleep(fault.pause)
            if time.monotonic() > end and len(self.made) >= self.plan.faults:
                return
            if fault.kind == "kill":
                await self.workers[fault.target].alive()
                self.made.append(fault)
                self.moments.append(self.workers[fault.target].kill())
                continue
            self.made.append(fault)
            self.moments.append(time.time())
            if fault.kind == "crash":
                os.kill(self.broker.pid, signal.SIGKILL)
            await asyncio.to_thread(self.broker.stop)
            await asyncio.to_thread(self.broker.start)

    async def _settled(self) -> dict[str, int]:
        """The lag of each group, once it is 0 everywhere or after too long a wait."""
        end = time.monotonic() + SETTLE_SECONDS
        while True:
            found = {}
            for service, names in READS.items():
                lags = await kafka.lag(self.broker.bootstrap, group_of(service), map(topic_of, names))
                found[group_of(service)] = sum(lags.values())
            if not any(found.values()) or time.monotonic() > end:
                return found
            await asyncio.sleep(LOOK_SECONDS)

    async def _states(self, http: aiohttp.ClientSession, tasks: Sequence[str]) -> dict[str, str]:
        """What the gateways say of each task, asked in turn."""
        urls = [worker.url for worker in self.workers.values()]
        gate = asyncio.Semaphore(16)

        async def state(number: int, task: str) -> str:
            async with gate, http.get(f"{urls[number % len(urls)]}/v1/tasks/{task}?wait=5") as answer:
                document = await answer.json()
                return str(document.get("state", f"HTTP {answer.status}: {document.get('detail')}"))

        found = await asyncio.gather(*(state(number, task) for number, task in enumerate(tasks)))
        return dict(zip(tasks, found, strict=True))

    async def _evidence(self, load: Load, states: dict[str, str], lag: dict[str, int]) -> Evidence:
        report = await self.stub.report()
        spans = await self._spans()
        disturbances = [
            Disturbance(fault.kind, fault.target, at, sum(begin <= at <= end + RECEIPT_SECONDS for begin, end in spans))
            for fault, at in zip(self.made, self.moments, strict=True)
        ]
        written, asked, steps = await self._rows()
        events = {}
        for name in (*SERVICES, "finished", "dead"):
            records = await kafka.read_all(self.broker.bootstrap, topic_of(name), timeout=60)
            events[name] = [dict(record.headers).get("ce_id", b"").decode() for record in records]
        dead = events.pop("dead")
        return Evidence(
            orders=load.orders,
            disturbances=disturbances,
            states=states,
            catalogue=written,
            inference=asked,
            chain=steps,
            steps=STEPS,
            model_step="copy",
            calls=report["calls"],
            paid_again=report["paid_again"],
            events=events,
            dead_letters=len(dead),
            lag=lag,
            ended_by_themselves=sum(not end.killed for worker in self.workers.values() for end in worker.exits),
        )

    async def _spans(self) -> list[tuple[float, float]]:
        """From when to when each model call was under way, epoch seconds."""
        spans, offset = [], 0
        while True:
            page = await self.stub.calls(offset)
            spans += [(call["at_unix"], call["at_unix"] + call["seconds"]) for call in page["calls"]]
            if page["next"] >= page["ended"]:
                return spans
            offset = page["next"]

    async def _rows(self) -> tuple[list[Row], list[Row], list[Row]]:
        engine = make_engine(DeliveryOptions(database_url=SecretStr(self.database_url)))
        try:
            async with engine.connect() as connection:
                products: Any = await connection.execute(select(catalogue))
                written = [
                    Row(row.task, row.step, row.product, row.title, row.text, row.accepted, row.written)
                    for row in products
                ]
                calls: Any = await connection.execute(select(inference_log.c.task, inference_log.c.step))
                asked = [Row(row.task, row.step) for row in calls]
                hops: Any = await connection.execute(select(chain_log.c.task, chain_log.c.step))
                return written, asked, [Row(row.task, row.step) for row in hops]
        finally:
            await engine.dispose()


@asynccontextmanager
async def scenario(plan: Plan, folder: Path, database_url: str) -> AsyncIterator[Scenario]:
    """A scenario with its own broker and model server, both ended on the way out."""
    async with (
        EmbeddedKafka(BrokerOptions(folder=folder / "kafka")) as broker,
        running_stub(seed=plan.seed, median_ms=400, sigma=0.5, concurrency=64) as stub,
    ):
        yield Scenario(plan, folder, database_url, broker, stub)
