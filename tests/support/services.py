"""Single services on a real Kafka for system tests: in this process, with an `act` that the test writes, or in another.

Every service has topics and a group of its own, so that tests can share one broker.
"""

import asyncio
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, cast

from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import ConsumerRecord, TopicPartition
from pydantic import BaseModel, ConfigDict

from callstream.agents.actor import Actor
from callstream.agents.hosting import AppPorts, host
from callstream.agents.ports import Role
from callstream.agents.steps import StepRole
from callstream.settings.gather import PREFIX, environment_name
from callstream.streams.blobs import BlobOptions, BlobStore
from callstream.streams.chain import Act, Attempts, Cell, Chain, Chains, Step
from callstream.streams.declare import declare, plan
from callstream.streams.engine import Layout, ServiceApp
from callstream.streams.engine_options import EngineOptions
from callstream.streams.event import Body, Event, Json, Submission
from callstream.streams.keys import partition_of, task_key
from callstream.streams.outcome import Forward, Outcome
from callstream.streams.topics import RECEIPTS, changelog_of, group_of, topic_of
from callstream.streams.tracing import Tracing
from callstream.streams.tracing_options import TracingOptions
from callstream.streams.wire import encode
from callstream.tables.durable import DurableTable, store_options
from callstream.tables.recovery import Tables
from tests.support.kafka import Send, admin_of, committed, produce, read_all

PARTITIONS = 8
RETENTION_SECONDS = 7 * 24 * 3600.0
PATIENCE_SECONDS = 60.0
LOOK_SECONDS = 0.05
TENANT = "acme"
OPTIONS = EngineOptions(commit_interval_seconds=0.2, session_timeout_seconds=20, drain_seconds=0.2)
ROOT = Path(__file__).parents[2]
DIRECTED = Path(__file__).with_name("directed.py")
"""The file with the chain that a worker process loads; `DIRECTED_SERVICE` in its environment names the service."""


def unique(name: str) -> str:
    """A name for a service that no other test and no earlier run has."""
    return f"{name}-{secrets.token_hex(4)}"


async def until(look: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """What `look` (sync or async) gives as soon as that is true. Raises AssertionError when it stays false."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(LOOK_SECONDS)


class AnyInput(BaseModel):
    """Whatever a test sends."""

    model_config = ConfigDict(extra="allow")


class Acting(Step):
    """A step whose `act` is a function."""

    attempts = Attempts(most=3, first_pause_seconds=0.01, longest_pause_seconds=0.02)
    timeout_seconds = 3600.0

    def __init__(self, name: str, service: str, act: Act, remembers: bool = False) -> None:
        self.name = name
        self.service = service  # type: ignore[misc]  # of each instance here, so that one class makes every step
        self.remembers = remembers  # type: ignore[misc]
        self._act = act

    async def act(self, event: Event, state: Cell) -> Outcome:
        """What the function says."""
        return await self._act(event, state)


async def pass_on(_event: Event, _state: Cell) -> Outcome:
    """An `act` that does nothing."""
    return Forward()


def chain_of(service: str, act: Act, remembers: bool = False) -> Chain:
    """Two steps: `act` on the service, and one on `SERVICE-next`, which no one runs: its topic holds what came out."""
    steps = (Acting("first", service, act, remembers), Acting("second", next_of(service), pass_on))
    return Chain("chain-" + service, AnyInput, steps)


def next_of(service: str) -> str:
    """The service after it."""
    return f"{service}-next"


def task_at(partition: int, skip: int = 0) -> str:
    """An id whose key stands in that partition; `skip` gives others."""
    return next(name for at, name in enumerate(_tasks(partition)) if at == skip)


def _tasks(partition: int) -> Iterator[str]:
    return (f"t{n}" for n in count() if partition_of(task_key(TENANT, f"t{n}"), PARTITIONS) == partition)


@dataclass
class Hosted:
    """A service of this process."""

    service: str
    bootstrap: str
    app: ServiceApp
    actor: Actor
    table: DurableTable | None
    chain: str
    running: list["asyncio.Task[None]"] = field(default_factory=list)

    @property
    def topic(self) -> str:
        """The topic that it reads."""
        return topic_of(self.service)

    @property
    def memory(self) -> DurableTable:
        """Its table."""
        assert self.table is not None
        return self.table

    async def start(self) -> None:
        """Start it without waiting."""
        self.app.finalize()
        self.running.append(asyncio.create_task(self.app.start()))

    async def ready(self) -> None:
        """Wait until it owns partitions and takes events."""
        await until(lambda: self.is_ready, f"{self.service} takes events")

    @property
    def is_ready(self) -> bool:
        """Whether it owns partitions and takes events."""
        assert self.app.failure is None, self.app.failure
        return bool(self.app.ownership.owned) and not self.app.rebalancing and not self.app.in_recovery

    async def stop(self) -> None:
        """Stop it."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.app.stop()
            for task in self.running:
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task

    def event(self, task: str, **given: Any) -> Event:
        """The event that starts the service's step for a task."""
        return step_event(self.chain, task, given)

    async def submit(self, task: str, **given: Any) -> int:
        """Put that event on the service's topic; gives its offset."""
        return await submit(self.bootstrap, self.service, self.event(task, **given))

    async def committed(self, partition: int) -> int:
        """The group's committed offset on the service's own topic, 0 if there is none."""
        return await committed_at(self.bootstrap, self.service, partition)

    async def commits(self) -> None:
        """Wait until the committer had time for everything that has been acknowledged."""
        await asyncio.sleep(5 * self.app.options.commit_interval_seconds)

    async def passed(self) -> list[ConsumerRecord[bytes | None, bytes | None]]:
        """What it has sent to the next service."""
        return await read_all(self.bootstrap, topic_of(next_of(self.service)))


def step_event(chain: str, task: str, given: Json) -> Event:
    """A task of a chain before its first step."""
    body = Body(submission=Submission(chain=chain, input=given), digest="0" * 64)
    return Event(tenant=TENANT, task=task, chain=chain, version=1, sequence=1, body=body, time=10.0)


async def submit(bootstrap: str, service: str, event: Event) -> int:
    """Put an event on a service's topic; gives its offset."""
    record = encode(event, topic_of(service))
    partition = partition_of(record.key, PARTITIONS)
    ((_, offset),) = await produce(bootstrap, record.topic, [Send(record.value, record.key, record.headers, partition)])
    return offset


async def submit_in_transaction(bootstrap: str, service: str, events: list[Event]) -> None:
    """Put events on a service's topic as a transactional producer does: a marker follows them in each partition."""
    name = unique("transaction")
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=name)
    async with producer, producer.transaction():
        for event in events:
            record = encode(event, topic_of(service))
            at = partition_of(record.key, PARTITIONS)
            await producer.send(record.topic, record.value, record.key, at, headers=record.headers)


async def committed_at(bootstrap: str, service: str, partition: int) -> int:
    """The committed offset of a service's group on its own topic, 0 if there is none."""
    offsets = await committed(bootstrap, group_of(service))
    return offsets.get(TopicPartition(topic_of(service), partition), 0)


async def configure(bootstrap: str, topic: str, **config: str) -> None:
    """Give a topic these settings and take all others back; underscores stand for points."""
    named = {name.replace("_", "."): value for name, value in config.items()}
    async with admin_of(bootstrap) as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=named)])


async def declare_for(bootstrap: str, chains: Chains) -> None:
    """Declare every topic of these chains, as a worker does."""
    await declare(bootstrap, plan(chains, PARTITIONS, 1, RETENTION_SECONDS))


async def add_partitions(bootstrap: str, topic: str, total: int) -> None:
    """Cut a topic into more partitions."""
    async with admin_of(bootstrap) as admin:
        await admin.create_partitions({topic: NewPartitions(total)})


class Workshop:
    """Builds services on one broker; each keeps its tables in a folder of its own, several levels deep."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.bootstrap = bootstrap
        self.folder = folder
        self.blobs = BlobStore(BlobOptions(url=f"file://{folder}/blobs"))
        self.tracing = Tracing(TracingOptions())

    async def build(
        self, service: str, act: Act, remembers: bool = False, options: EngineOptions = OPTIONS, **more: Any
    ) -> Hosted:
        """A service with one step, its topics declared. `more` are `folder` and `url`, and topics to read `beside`."""
        chain = chain_of(service, act, remembers)
        chains = Chains([chain])
        await declare_for(self.bootstrap, chains)
        app = self.app(service, options, more.get("folder", "one"), more.get("url", "http://127.0.0.1:1"))
        table = table_of(app) if remembers else None
        role = StepRole(service, chains, remembers)
        names = (service, *more.get("beside", ()))
        return self.join(app, role, table, chains, names, chain.name)

    def app(
        self, service: str, options: EngineOptions = OPTIONS, folder: str = "one", url: str = "http://127.0.0.1:1"
    ) -> ServiceApp:
        """The bare app of a service."""
        layout = Layout(bootstrap=self.bootstrap, folder=self.folder / folder / "tables", partitions=PARTITIONS)
        return ServiceApp(service, options, layout, Table=DurableTable, TableManager=Tables, canonical_url=url)

    def join(
        self,
        app: ServiceApp,
        role: Role,
        table: DurableTable | None,
        chains: Chains,
        names: tuple[str, ...],
        chain: str,
    ) -> Hosted:
        """A role on an app."""
        ports = AppPorts(app, table, self.blobs, self.tracing)
        actor = host(app, role, ports, chains, [topic_of(name) for name in names])
        return Hosted(app.service_name, self.bootstrap, app, actor, table, chain)


@asynccontextmanager
async def running(*hosted: Hosted) -> AsyncIterator[None]:
    """Services started side by side and ready; stopped on the way out."""
    try:
        for one in hosted:
            await one.start()
        for one in hosted:
            await one.ready()
        yield
    finally:
        await asyncio.gather(*(one.stop() for one in hosted))


def table_of(app: ServiceApp, name: str = RECEIPTS) -> DurableTable:
    """A table of an app, as a worker makes it."""
    table = app.Table(name, key_type=bytes, value_type=bytes, partitions=app.partitions, options=store_options())
    return cast(DurableTable, table)


def changelog(service: str) -> str:
    """The changelog of a service's table."""
    return changelog_of(service, RECEIPTS)


@dataclass
class Process:
    """A worker process with the one service that `directed.py` makes, and what it has said."""

    service: str
    folder: Path
    process: asyncio.subprocess.Process

    @property
    def chain(self) -> str:
        """The chain that it serves."""
        return "chain-" + self.service

    def log(self) -> str:
        """What it has said so far."""
        return (self.folder / "worker.log").read_text("utf-8", "replace")

    async def ends(self) -> int:
        """Its exit code, once it has ended by itself."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await self.process.wait()
        except TimeoutError:
            raise AssertionError(f"it goes on:\n{self.log()[-4000:]}") from None


@asynccontextmanager
async def worker_process(bootstrap: str, service: str, folder: Path, **engine: float) -> AsyncIterator[Process]:
    """`callstream worker SERVICE` on that broker, its topics declared; killed on the way out."""
    await declare_for(bootstrap, Chains([chain_of(service, pass_on, remembers=True)]))
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    told: dict[tuple[str, ...], object] = {
        ("broker",): bootstrap,
        ("chains",): f'["{DIRECTED}:chain"]',
        ("partitions",): PARTITIONS,
        ("data_folder",): folder / "data",
        **{("engine", name): value for name, value in engine.items()},
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environment |= {environment_name(path): str(value) for path, value in told.items()}
    environment |= {"DIRECTED_SERVICE": service, "PYTHONPATH": str(ROOT)}
    with (folder / "worker.log").open("ab") as said:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "callstream", "worker", service),
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            cwd=folder,
            start_new_session=True,
        )
    try:
        yield Process(service, folder, process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
