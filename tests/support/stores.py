"""Every store that results can be written to, with the real thing behind it, for the one contract of all."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import obstore
from pydantic import SecretStr
from redis.asyncio import Redis
from sqlalchemy import select

from callstream.agents.delivery import CatalogueSink, DeliveryOptions, Latest, Sink, TopicSink, make_engine
from callstream.agents.delivery.fakes import MemorySink
from callstream.agents.delivery.http_sink import HttpSink
from callstream.agents.delivery.object_sink import ObjectSink
from callstream.agents.delivery.redis_sink import RedisSink
from callstream.agents.delivery.schema import catalogue
from callstream.agents.delivery.sink import Away, Entry, Refused
from callstream.streams.blobs import BlobOptions, open_store
from callstream.streams.event import Body, Event, Hop, Json, Submission
from callstream.streams.wire import Record
from tests.support.http_store import TOKEN, HttpStore
from tests.support.kafka import Send, create_topics, produce, read_all
from tests.support.postgres import Postgres
from tests.support.redis import RedisServer
from tests.support.s3 import BUCKET, S3Server

Value = Callable[[str], Awaitable[Json | None]]


@dataclass
class Store:
    """One store: the sink of one worker, what stands under a key of tenant acme, and how it goes away and comes back.

    `other` makes the sink of another worker; `bad` is a value that it takes from nobody.
    """

    sink: Sink
    value: Value
    other: Callable[[], Sink]
    bad: Json = field(default_factory=lambda: {"text": float("nan")})
    stop: Callable[[], Awaitable[None]] | None = None
    start: Callable[[], Awaitable[None]] | None = None


def entry(
    task: str, text: str = "", accepted: float = 5.0, key: str = "mug", keeps: bool = True, run: int = 0, **value: Any
) -> Entry:
    """What a task, accepted at that time, writes in one of its runs."""
    body = Body(
        submission=Submission(chain="shop", input={}),
        digest="0" * 64,
        trail=(Hop(step="intake", service="intake", started=accepted, ended=accepted),),
    )
    event = Event(tenant="acme", task=task, chain="shop", version=1, sequence=4, body=body, time=9.0, run=run)
    return Entry(event, "deliver", key, value or {"text": text or f"of {task}"}, keeps)


@asynccontextmanager
async def memory() -> AsyncIterator[Store]:
    """The fake."""
    sink = MemorySink()

    async def value(key: str) -> Json | None:
        return sink.value("acme", key)

    async def stop() -> None:
        sink.away = Away("gone")

    async def start() -> None:
        sink.away = None

    yield Store(sink, value, lambda: sink, stop=stop, start=start)


@asynccontextmanager
async def sql(url: str, server: Postgres | None = None) -> AsyncIterator[Store]:
    """A database of its own; with a server it can be stopped."""
    options = DeliveryOptions(database_url=SecretStr(url))
    reader = make_engine(options)

    async def value(key: str) -> Json | None:
        async with reader.connect() as connection:
            text = (await connection.execute(select(catalogue.c.text).where(catalogue.c.product == key))).scalar()
        return None if text is None else {"text": text}

    store = Store(CatalogueSink.at(options), value, lambda: CatalogueSink.at(options), {"text": "a\0b"})
    if server is not None:
        store.stop = lambda: asyncio.to_thread(server.stop)
        store.start = lambda: asyncio.to_thread(server.start)
    yield store
    await reader.dispose()


@asynccontextmanager
async def redis(server: RedisServer) -> AsyncIterator[Store]:
    """A Redis server, emptied."""

    def sink() -> RedisSink:
        return RedisSink(server.url, prefix="shop:")

    async def value(key: str) -> Json | None:
        raw = await client.get(f"shop:acme:{key}")
        found: Json | None = None if raw is None else json.loads(raw)
        return found

    client = Redis.from_url(server.url)
    await client.flushall()
    yield Store(
        sink(),
        value,
        sink,
        stop=lambda: asyncio.to_thread(server.stop),
        start=lambda: asyncio.to_thread(server.start),
    )
    await client.aclose()


@asynccontextmanager
async def http() -> AsyncIterator[Store]:
    """A server that keeps what the guide asks of one."""
    server = HttpStore()
    await server.start()

    def sink() -> HttpSink:
        return HttpSink(server.url, TOKEN)

    async def value(key: str) -> Json | None:
        found: Json | None = server.value("acme", key)
        return found

    yield Store(sink(), value, sink, {"text": 1}, server.stop, server.start)
    await server.stop()


@asynccontextmanager
async def folder(path: Path) -> AsyncIterator[Store]:
    """A folder as an object store; away, a file stands in its place."""
    url = f"file://{path}"
    aside = path.with_name("aside")

    def stop() -> None:
        path.rename(aside)
        path.touch()

    def start() -> None:
        path.unlink()
        aside.rename(path)

    store = open_store(BlobOptions(url=url))
    yield Store(
        ObjectSink(url),
        _object_value(store),
        lambda: ObjectSink(url),
        stop=partial(asyncio.to_thread, stop),
        start=partial(asyncio.to_thread, start),
    )
    shutil.rmtree(path)


@asynccontextmanager
async def objects() -> AsyncIterator[Store]:
    """An object store that knows conditional writes, in memory."""
    sink, other = ObjectSink("memory:///"), ObjectSink("memory:///")
    other._store = sink._store
    yield Store(sink, _object_value(sink._store), lambda: other)


@asynccontextmanager
async def s3(server: S3Server, folder: str) -> AsyncIterator[Store]:
    """A folder of a bucket of a server, whose variables are set."""
    url = f"s3://{BUCKET}/{folder}"

    def sink() -> ObjectSink:
        return ObjectSink(url, timeout_seconds=3.0)

    yield Store(
        sink(),
        _object_value(open_store(BlobOptions(url=url))),
        sink,
        stop=lambda: asyncio.to_thread(server.stop),
        start=lambda: asyncio.to_thread(server.start),
    )


@asynccontextmanager
async def topic(bootstrap: str, name: str) -> AsyncIterator[Store]:
    """A Kafka topic, read as its readers should."""
    await create_topics(bootstrap, {name: 3})
    sink = ProducingSink(bootstrap, TopicSink(name))
    yield Store(sink, lambda key: sink.value("acme", key), lambda: ProducingSink(bootstrap, TopicSink(name)))


class ProducingSink:
    """Sends a topic's records itself, where otherwise a task's service does before the task goes on."""

    def __init__(self, bootstrap: str, topic: TopicSink) -> None:
        self._bootstrap = bootstrap
        self._topic = topic

    async def open(self) -> None:
        """Nothing."""

    async def close(self) -> None:
        """Nothing."""

    async def write(self, entries: Sequence[Entry]) -> list[Refused | Away | None]:
        """Produce what can be."""
        results: list[Refused | Away | None] = []
        records = []
        for one in entries:
            try:
                records.append(self._topic.record(one))
                results.append(None)
            except Refused as error:
                results.append(error)
        await self._produce(records)
        return results

    async def has(self, entry: Entry) -> bool:
        """Whether its last record writes."""
        found = [one.value for one in await self._read() if one.key == entry.write.encode()]
        return bool(found and found[-1])

    async def undo(self, entry: Entry) -> bool:
        """Produce the withdrawal."""
        had = await self.has(entry)
        await self._produce([self._topic.withdrawal(entry)])
        return had

    async def value(self, tenant: str, key: str) -> Json | None:
        """What stands for a reader."""
        latest = Latest()
        for one in await self._read():
            latest.take(one.key or b"", one.value or b"", one.headers)
        return latest.value(tenant, key)

    async def _read(self) -> list[Any]:
        return list(await read_all(self._bootstrap, self._topic.topic))

    async def _produce(self, records: Sequence[Record]) -> None:
        sends = [Send(one.value, one.key, one.headers) for one in records]
        await produce(self._bootstrap, self._topic.topic, sends)


def _object_value(store: Any) -> Value:
    async def value(key: str) -> Json | None:
        paths = await asyncio.to_thread(lambda: [one["path"] for found in obstore.list(store) for one in found])
        if f"acme/{key}.json" not in paths:
            return None
        raw = await asyncio.to_thread(lambda: bytes(obstore.get(store, f"acme/{key}.json").bytes()))
        found: Json | None = json.loads(raw)["value"]
        return found

    return value
