"""Callstream at work, for system tests: a broker, a stub model server and workers, each a process of its own."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import ConsumerRecord

from callstream.settings.gather import PREFIX, environment_name
from callstream.streams.broker import BrokerOptions, EmbeddedKafka
from callstream.streams.event import Event, Json, Submission
from callstream.streams.keys import partition_of
from callstream.streams.records import read_any_header
from callstream.streams.submission import Order, new_event
from callstream.streams.topics import group_of, is_changelog, topic_of
from callstream.streams.wire import Record, encode
from callstream.stub import RunningStub, running_stub
from callstream.tables.tasks import ENDED
from tests.support.kafka import partitions_of

ROOT = Path(__file__).parents[2]
CHAINS = Path(__file__).with_name("chains.py")
QUICK, OBEDIENT, LISTING = f"{CHAINS}:quick", f"{CHAINS}:obedient", f"{CHAINS}:listing"
REVIEWED, LOOKED_AT = f"{CHAINS}:reviewed", f"{CHAINS}:looked_at"
TENANT = "default"
"""Whose tasks they are where no API keys are set."""

READY_SECONDS = 90.0
STOP_SECONDS = 40.0
PATIENCE_SECONDS = 60.0
COLUMNS = 200
POLL_SECONDS = 0.1
SHOWN_BYTES = 6_000
MAX_REQUEST_BYTES = 16 * 1024 * 1024
UNREAD = ("callstream.verdicts", "callstream.pools", "callstream.schedules", "callstream.control", "callstream.alarms")
"""Topics that no gateway reads within its group."""

Found: TypeAlias = "ConsumerRecord[bytes | None, bytes | None]"
Settings = Mapping[tuple[str, ...], object]


def clean_environment() -> dict[str, str]:
    """That of this process, without settings of callstream's."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}


async def until(look: Callable[[], Awaitable[Any]], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """What `look` gives as soon as that is something. Raises AssertionError when it stays nothing."""
    end = time.monotonic() + seconds
    while True:
        if found := await look():
            return found
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(POLL_SECONDS)


@dataclass
class Worker:
    """A worker process that is ready."""

    base: str
    folder: Path
    process: asyncio.subprocess.Process
    http: aiohttp.ClientSession

    async def command(self, *words: str) -> tuple[int, str, str]:
        """What `callstream …` says when it asks this worker, on a wide terminal: exit code, output, errors."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "callstream", *words, "--url", self.base),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.folder,
            env=clean_environment() | {"COLUMNS": str(COLUMNS)},
        )
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
        return process.returncode or 0, out.decode(), err.decode()

    def log(self) -> str:
        """What it has said so far."""
        return (self.folder / "worker.log").read_text("utf-8", "replace")

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self.process.returncode is None

    async def live(self) -> bool:
        """Whether the process lives and calls itself so."""
        if not self.is_running:
            return False
        async with self.http.get("/v1/health/live") as answer:
            return answer.status == 200

    async def stop(self) -> int:
        """Ask it to end, and wait; gives the exit code. What is left of its group is killed."""
        try:
            if self.is_running:
                self.process.terminate()
                async with asyncio.timeout(STOP_SECONDS):
                    await self.process.wait()
        finally:
            await self.kill()
        return int(self.process.returncode or 0)

    async def kill(self) -> None:
        """End its whole group at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()

    async def submit(self, chain: str, given: Json, status: int = 202, **more: object) -> Json:
        """Hand in a task and give the answer, whose status has to be that one.

        As a client should, it tries again while the gateways share out their partitions.
        """
        headers = {"Idempotency-Key": str(more.pop("key"))} if "key" in more else {}
        headers |= {"traceparent": str(more.pop("traceparent"))} if "traceparent" in more else {}
        order = {"chain": chain, "input": given, **more}

        async def hand_in() -> tuple[int, Json] | None:
            async with self.http.post("/v1/tasks", json=order, headers=headers) as said:
                told = await said.json(content_type=None)
                is_moving = said.status == 503 and "sharing out" in told["detail"]
                return None if is_moving else (said.status, told)

        found, told = await until(hand_in, f"an answer to a task of {chain}")
        assert found == status, (found, told)
        return dict(told)

    async def row(self, task: str, wait: float = 0) -> Json | None:
        """The row of a task, or None for one that is not known."""
        async with self.http.get(f"/v1/tasks/{task}", params={"wait": str(wait)} if wait else {}) as said:
            if said.status in (404, 502, 503, 504):
                return None
            told = await said.json(content_type=None)
            assert said.status == 200, (said.status, told)
            return dict(told)

    async def reaches(self, task: str, *states: str) -> Json:
        """The row of a task once it is in one of these states."""
        seen: list[object] = [None]

        async def look() -> Json | None:
            row = await self.row(task, wait=5 if ENDED.issuperset(states) else 0)
            seen[0] = row
            return row if row is not None and row["state"] in states else None

        try:
            return dict(await until(look, f"{task} becomes {' or '.join(states)}"))
        except AssertionError as error:
            raise AssertionError(f"{error}; last seen: {seen[0]}\n{self.log()[-SHOWN_BYTES:]}") from None


class Tail:
    """Everything that one topic holds, from its beginning."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self.records: list[Found] = []

    async def find(self, wanted: Callable[[Found], bool], what: str, count: int = 1) -> list[Found]:
        """The records that fit, once there are at least that many."""

        async def look() -> list[Found]:
            await self._read()
            found = [record for record in self.records if wanted(record)]
            return found if len(found) >= count else []

        return list(await until(look, what))

    async def all(self) -> list[Found]:
        """Every record that is there now."""
        await self._read()
        return self.records

    async def _read(self) -> None:
        """Take in all that the topic holds now."""
        ends = await self._consumer.end_offsets(self._consumer.assignment())
        while any([await self._consumer.position(place) < end for place, end in ends.items()]):
            for batch in (await self._consumer.getmany(timeout_ms=100)).values():
                self.records += batch

    async def of_task(self, task: str, kind: str, count: int = 1) -> list[Found]:
        """The records of a task of that event type."""

        def wanted(record: Found) -> bool:
            told = headers(record)
            return told.get("ce_subject") == task.encode() and told.get("ce_type") == kind.encode()

        return await self.find(wanted, f"{kind} of {task}", count)


@dataclass
class System:
    """A broker, a stub and the workers started so far."""

    bootstrap: str
    stub: RunningStub
    folder: Path
    settings: dict[tuple[str, ...], object]
    producer: Any
    admin: Any
    reader: Any
    stack: AsyncExitStack
    workers: list[Worker] = field(default_factory=list)
    tails: dict[str, Tail] = field(default_factory=dict)

    @property
    def worker(self) -> Worker:
        """The first worker."""
        return self.workers[0]

    @property
    def database(self) -> Path:
        """The catalogue's SQLite file."""
        return self.folder / "catalogue.db"

    def ask_stub(self, *pools: str) -> None:
        """Give each of these pools one endpoint, the stub, which it calls by the pool's name."""
        for pool in pools:
            endpoint = {"name": pool, "base_url": self.stub.url, "model": pool}
            self.settings[("inference", "pools", pool, "endpoints")] = [endpoint]

    async def start(
        self,
        services: Sequence[str] = (),
        settings: Settings | None = None,
        has_gateway: bool = True,
        after: Worker | None = None,
        tree: Path | None = None,
    ) -> Worker:
        """Start `callstream worker SERVICE…` and wait until it is ready, which only a gateway can tell.

        It has a folder and a port of its own, or those of the one that it comes `after`. `tree` is where its
        program is, if it is not this one.
        """
        folder = self.folder / f"worker-{len(self.workers) + 1}" if after is None else after.folder
        folder.mkdir(exist_ok=after is not None)
        port = free_port() if after is None else int(after.base.rpartition(":")[2])
        told = {**self.settings, ("data_folder",): folder / "data", ("web", "port"): port, **(settings or {})}
        environment = clean_environment()
        environment |= {environment_name(path): _text(value) for path, value in told.items()}
        if tree is not None:
            environment["PYTHONPATH"] = str(tree)
        with (folder / "worker.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "callstream.cli.demo.tethered", "worker", *services),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
        http = aiohttp.ClientSession(f"http://127.0.0.1:{port}", timeout=aiohttp.ClientTimeout(total=120))
        worker = Worker(f"http://127.0.0.1:{port}", folder, process, http)
        self.workers.append(worker)
        self.stack.push_async_callback(http.close)
        self.stack.push_async_callback(worker.stop)
        if has_gateway:
            await self._until_ready(worker)
        return worker

    async def tail(self, topic: str) -> Tail:
        """The reader of one topic, by its short name, or of a changelog by its own."""
        if topic in self.tails:
            return self.tails[topic]
        # Not seek_to_beginning, which the reset to the end that begins on assignment can overtake.
        read_any_header()
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, auto_offset_reset="earliest", max_partition_fetch_bytes=MAX_REQUEST_BYTES
        )
        await self.stack.enter_async_context(consumer)
        name = topic if is_changelog(topic) else topic_of(topic)
        consumer.assign(await partitions_of(self.bootstrap, name))
        return self.tails.setdefault(topic, Tail(consumer))

    async def put(self, topic: str, record: Record, partition: int | None = None) -> tuple[int, int]:
        """Send a record onto a topic (by its short name); gives partition and offset."""
        return await self.put_raw(topic, record.value, record.key, record.headers, partition)

    async def put_raw(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes | None]] = (),
        partition: int | None = None,
    ) -> tuple[int, int]:
        """Send whatever it is onto a topic; gives partition and offset."""
        sent = await self.producer.send_and_wait(
            topic_of(topic), value, key=key, headers=list(headers), partition=partition
        )
        return sent.partition, sent.offset

    async def put_named(self, topic: str, record: Record, header: str, named: bytes) -> tuple[int, int]:
        """Send a record whose header of that name is called `named`, of as many bytes, which no client would write."""
        partition = partition_of(record.key, 4)
        batch = self.producer.create_batch()
        batch.append(timestamp=None, key=record.key, value=record.value, headers=record.headers)
        raw = bytearray(bytes(batch._build()).replace(header.encode(), named))
        raw[17:21] = calc_crc32c(raw[21:]).to_bytes(4, "big")
        batch._buffer = raw
        sent = await (await self.producer.send_batch(batch, topic_of(topic), partition=partition))
        return sent.partition, sent.offset

    async def lag(self) -> dict[str, int]:
        """For each service's group, how many records it has not committed; those with none are left out."""
        reads = await self._reads()
        # What is committed first, then the ends: with none missing, nothing that follows from anything is on its way.
        done = {service: await self.admin.list_consumer_group_offsets(group_of(service)) for service, _ in reads}
        ends = await self.reader.end_offsets(list({one for _, places in reads for one in places}))
        behind = {}
        for service, places in reads:
            offsets = done[service]
            missing = sum(ends[one] - max(0, offsets[one].offset if one in offsets else 0) for one in places)
            if missing:
                behind[service] = missing
        return behind

    async def settled(self) -> None:
        """Wait until every service has taken and committed all that there is."""
        last: list[object] = [None]

        async def look() -> bool:
            last[0] = await self.lag()
            return not last[0]

        try:
            await until(look, "no lag")
        except AssertionError as error:
            raise AssertionError(f"{error}; still {last[0]}\n{self.worker.log()[-SHOWN_BYTES:]}") from None

    async def _reads(self) -> list[tuple[str, list[Any]]]:
        """What each service reads, from what the broker has."""
        if not hasattr(self, "_known"):
            taken = (
                "callstream.dead",
                "callstream.redrives",
                "callstream.notified",
                "callstream.finished",
                "callstream.verdicts",
                "callstream.pools",
                "callstream.schedules",
                "callstream.control",
                "callstream.alarms",
            )
            all_topics = [name for name in await self.admin.list_topics() if name.startswith("callstream.")]
            steps = [name for name in all_topics if name not in taken]
            places = {name: await partitions_of(self.bootstrap, name) for name in all_topics}
            reads: dict[str, list[str]] = {}
            for name in steps:
                # A service's lanes are its topics: `infer`, `infer.high`, `infer.low`.
                reads.setdefault(name.split(".")[1], []).append(name)
            reads["review"].append("callstream.verdicts")
            reads["schedule"] = ["callstream.schedules"]
            reads["notify"] += ["callstream.finished", *({"callstream.alarms"} & set(places))]
            shown = [name for name in steps if name not in ("callstream.paused", "callstream.notify")]
            reads["gateway"] = [*shown, *(name for name in taken if name in places and name not in UNREAD)]
            self._known = [
                (service, [one for name in names for one in places[name]]) for service, names in reads.items()
            ]
        return self._known

    async def _until_ready(self, worker: Worker) -> None:
        async def look() -> bool:
            assert worker.is_running, f"the worker ended with {worker.process.returncode}:\n{worker.log()}"
            with contextlib.suppress(aiohttp.ClientError):
                async with worker.http.get("/v1/health/ready") as answer:
                    return answer.status == 200
            return False

        try:
            await until(look, "the worker is ready", READY_SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{worker.log()[-SHOWN_BYTES:]}") from None


@asynccontextmanager
async def running_system(
    folder: Path, chains: Sequence[str] = (QUICK,), settings: Settings | None = None, **stub_options: object
) -> AsyncIterator[System]:
    """A broker and a stub, with no worker yet; all of it ends on the way out, whatever happened."""
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(EmbeddedKafka(BrokerOptions(folder=folder / "kafka")))
        stub = await stack.enter_async_context(running_stub(**{"seed": 7, "median_ms": 5, **stub_options}))
        endpoint = {"name": "stub", "base_url": stub.url, "model": "stub-writer"}
        told: dict[tuple[str, ...], object] = {
            ("broker",): broker.bootstrap,
            ("chains",): list(chains),
            ("partitions",): 4,
            ("blobs", "url"): f"file://{folder}/blobs",
            ("delivery", "database_url"): f"sqlite:///{folder}/catalogue.db",
            ("engine", "drain_seconds"): 5,
            ("inference", "pools"): {"copywriter": {"endpoints": [endpoint]}},
            **(settings or {}),
        }
        producer = AIOKafkaProducer(
            bootstrap_servers=broker.bootstrap, acks="all", max_request_size=MAX_REQUEST_BYTES, linger_ms=0
        )
        await stack.enter_async_context(producer)
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
        stack.push_async_callback(admin.close)
        await admin.start()
        reader = await stack.enter_async_context(AIOKafkaConsumer(bootstrap_servers=broker.bootstrap))
        yield System(broker.bootstrap, stub, folder, told, producer, admin, reader, stack)


def submission(chain: str, given: Json, task: str, **more: Any) -> Event:
    """The event that asks intake for a task, as any client could send it."""
    return new_event(Submission(chain=chain, input=given), Order(TENANT, task, **more), time.time())


def as_record(event: Event, topic: str) -> Record:
    """The event as a record of a topic, by its short name."""
    return encode(event, topic_of(topic))


def headers(record: Found) -> dict[str, bytes]:
    """A record's headers by name."""
    return {name: raw or b"" for name, raw in record.headers}


def body(record: Found) -> Json:
    """A record's JSON body."""
    return dict(json.loads(record.value or b"{}"))


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _text(value: object) -> str:
    return json.dumps(value) if isinstance(value, dict | list | tuple) else str(value)
