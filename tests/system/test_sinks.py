"""One contract for every store that results are written to, against the real ones; then what only one of them does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from callstream.agents.delivery import Away, Refused, Sink
from callstream.agents.delivery.http_sink import HttpSink
from callstream.agents.delivery.object_sink import ObjectSink
from callstream.agents.delivery.sink import Entry
from tests.support import stores
from tests.support.careless_s3 import CarelessS3
from tests.support.http_store import TOKEN, HttpStore
from tests.support.postgres import Postgres, postgres
from tests.support.redis import RedisServer, redis_server
from tests.support.s3 import BUCKET, S3Server, s3, s3_server
from tests.support.services import unique
from tests.support.stores import Store, entry

__all__ = ["postgres", "redis_server", "s3", "s3_server"]

_numbers = count(1)
LIGHT = ["memory", "sqlite", "http", "folder", "objects"]
WITH_SERVERS = ["postgres", "redis", "s3"]


@pytest.fixture(params=[*LIGHT, *WITH_SERVERS, "topic"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """An empty one, opened."""
    match request.param:
        case "sqlite":
            made = stores.sql(f"sqlite:///{tmp_path}/catalogue.db")
        case "postgres":
            server: Postgres = request.getfixturevalue("postgres")
            made = stores.sql(server.create(f"sinks_{next(_numbers)}"), server)
        case "redis":
            made = stores.redis(request.getfixturevalue("redis_server"))
        case "s3":
            made = stores.s3(request.getfixturevalue("s3"), unique("sinks"))
        case "folder":
            made = stores.folder(tmp_path / "objects")
        case "topic":
            made = stores.topic(request.getfixturevalue("kafka_broker"), unique("sinks"))
        case other:
            made = getattr(stores, other)()
    async with made as store:
        await store.sink.open()
        yield store
        await store.sink.close()


async def written(sink: Sink, *entries: Entry) -> None:
    results = await sink.write(entries)
    assert list(results) == [None] * len(entries)


async def test_a_write_is_there_once_however_often_it_arrives(store: Store) -> None:
    one = entry("a")
    assert not await store.sink.has(one)
    await written(store.sink, one, one)
    await written(store.sink, one)
    assert await store.value("mug") == {"text": "of a"}
    assert await store.sink.has(one)
    # taken back once, it is gone: it was not there twice
    assert await store.sink.undo(one)
    assert await store.value("mug") is None
    assert not await store.sink.undo(one)


@pytest.mark.parametrize("order", ["abc", "cba", "bca"])
async def test_an_older_write_never_replaces_a_newer_one(store: Store, order: str) -> None:
    for task in order:
        await written(store.sink, entry(task, accepted=float(ord(task))))
    assert await store.value("mug") == {"text": "of c"}
    # nor does one that comes in the same batch, or again
    await written(store.sink, *(entry(task, accepted=float(ord(task))) for task in reversed(order)))
    assert await store.value("mug") == {"text": "of c"}


async def test_one_bad_row_fails_alone(store: Store) -> None:
    bad = entry("b", key="jug", **store.bad)
    results = await store.sink.write([entry("a"), bad, entry("c", key="pot")])
    assert [type(result) for result in results] == [type(None), Refused, type(None)]
    assert [await store.value(key) for key in ("mug", "jug", "pot")] == [{"text": "of a"}, None, {"text": "of c"}]


async def test_what_was_there_before_is_there_again(store: Store) -> None:
    await written(store.sink, entry("a", accepted=1.0, keeps=False))
    await written(store.sink, entry("b", accepted=2.0))
    assert await store.value("mug") == {"text": "of b"}
    assert await store.sink.undo(entry("b"))
    assert await store.value("mug") == {"text": "of a"}
    # twice is harmless, and so is one that never wrote
    assert not await store.sink.undo(entry("b"))
    assert not await store.sink.undo(entry("z"))
    assert await store.value("mug") == {"text": "of a"}
    # what a redrive writes after that stands again, and so does the next one's
    for run in (1, 2):
        await written(store.sink, entry("b", f"run {run}", 2.0, run=run))
        assert await store.value("mug") == {"text": f"run {run}"}


@pytest.mark.parametrize("order", ["bc", "cb"])
async def test_what_a_later_task_has_written_since_stands(store: Store, order: str) -> None:
    for task in "abc":
        await written(store.sink, entry(task, accepted=float(ord(task))))
    left = {"bc": ["of c", "of a"], "cb": ["of b", "of a"]}[order]
    for task, text in zip(order, left, strict=True):
        await store.sink.undo(entry(task))
        assert await store.value("mug") == {"text": text}


async def test_a_store_that_is_away_says_so_and_works_again_when_it_is_back(store: Store) -> None:
    if store.stop is None or store.start is None:
        pytest.skip("it cannot be stopped")
    await written(store.sink, entry("a", accepted=1.0))
    await store.stop()
    try:
        for asked in (write_raising(store.sink, entry("b")), store.sink.has(entry("a")), store.sink.undo(entry("a"))):
            with pytest.raises(Away):
                await asked
    finally:
        await store.start()
    await written(store.sink, entry("b", accepted=2.0))
    assert await store.value("mug") == {"text": "of b"}
    assert await store.sink.has(entry("a"))


async def write_raising(sink: Sink, one: Entry) -> None:
    [result] = await sink.write([one])
    if result is not None:
        raise result


async def test_two_workers_at_once_leave_the_newest_that_was_not_taken_back(
    store: Store, request: pytest.FixtureRequest
) -> None:
    tasks = range(12 if "topic" in request.node.name else 60)
    other = store.other()
    await other.open()
    sinks = store.sink, other

    async def task(number: int) -> None:
        sink, own = sinks[number % 2], entry(f"t-{number:03}", accepted=float(number), key=f"p-{number % 5}")
        for _ in range(100):
            [result] = await sink.write([own])
            if result is None:
                break
            assert isinstance(result, Away)
        if number % 3:
            await undone(sink, own)

    await asyncio.gather(*map(task, tasks))
    if other is not store.sink:
        await other.close()
    for product in range(5):
        last = max((n for n in tasks if n % 5 == product and n % 3 == 0), default=None)
        expected = None if last is None else {"text": f"of t-{last:03}"}
        assert await store.value(f"p-{product}") == expected


async def undone(sink: Sink, one: Entry) -> None:
    for _ in range(100):
        try:
            await sink.undo(one)
            return
        except Away:
            await asyncio.sleep(0)


async def test_odd_keys_are_keys(store: Store) -> None:
    keys = ["a/b", "...", "蓝色 %2F ?#", "~", "a" * 200, "\\x", "杯" * 200]
    entries = [entry(f"t-{number}", key=key) for number, key in enumerate(keys)]
    await written(store.sink, *entries[::2])
    assert [await store.sink.has(one) for one in entries] == [True, False] * 3 + [True]
    for one in entries[::2]:
        assert await store.sink.undo(one)
    assert [await store.value(key) for key in keys if key.isalpha()] == [None, None]


async def test_an_http_server_that_asks_for_a_pause_gets_it_and_one_that_refuses_is_believed() -> None:
    server = HttpStore()
    await server.start()
    sink = HttpSink(server.url, TOKEN)
    await sink.open()
    expected: dict[int, tuple[Any, float | None]] = {
        429: (Away, 7.0),
        503: (Away, 7.0),
        500: (Away, 7.0),
        401: (Away, 7.0),
        302: (Refused, None),
        400: (Refused, None),
        409: (Refused, None),
        412: (type(None), None),
    }
    for status, (kind, after) in expected.items():
        server.refuses = status, {"Retry-After": "7", "Location": "/elsewhere"}
        [result] = await sink.write([entry("a")])
        assert type(result) is kind, status
        assert getattr(result, "after_seconds", None) == after
    await sink.close()
    await server.stop()


async def test_an_http_server_that_can_neither_be_asked_nor_take_back_is_not_away() -> None:
    server = HttpStore()
    await server.start()
    sink = HttpSink(server.url, TOKEN)
    await sink.open()
    for status in (405, 501):
        server.refuses = status, {}
        assert not await sink.has(entry("a"))
        with pytest.raises(Refused, match=f"takes nothing back: 127.0.0.1 answered {status}"):
            await sink.undo(entry("a"))
    for key in (".", ".."):
        assert not await sink.has(entry("a", key=key))
        assert not await sink.undo(entry("a", key=key))
    await sink.close()
    await server.stop()


async def test_an_http_server_without_our_token_is_asked_again_when_it_is_mended() -> None:
    server = HttpStore()
    await server.start()
    sink = HttpSink(server.url, "wrong")
    await sink.open()
    [result] = await sink.write([entry("a")])
    assert isinstance(result, Away)
    assert TOKEN not in str(result)
    [refused] = await sink.write([entry("a", key="..")])
    assert isinstance(refused, Refused)
    await sink.close()
    await server.stop()


async def test_redis_keeps_a_value_and_its_versions_and_nothing_else(redis_server: RedisServer) -> None:
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(stores.redis(redis_server))
        await written(store.sink, entry("a"))
        client = Redis.from_url(redis_server.url)
        assert sorted(await client.keys()) == [b"shop:acme:mug", b"shop:~acme:mug"]
        await store.sink.undo(entry("a"))
        assert await client.keys() == []
        await client.aclose()


async def test_an_object_store_of_no_kind_that_is_known(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="url"):
        ObjectSink("ftp://host/path")


async def test_an_object_store_that_heeds_no_condition_gets_nothing(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tasks that change one key at once would lose a write there, and nobody would know."""
    sink = ObjectSink(f"s3://{BUCKET}/{unique('heeds')}", 3.0)
    await sink.open()
    await sink.open()
    await sink.close()
    server = CarelessS3()
    await server.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    for heeded in ({"If-None-Match"}, {"If-Match"}, set[str]()):
        server.heeds = heeded
        careless = ObjectSink(f"s3://{BUCKET}/{unique('careless')}", 3.0)
        with pytest.raises(Away, match="heeds no condition"):
            await careless.open()
        await careless.close()
    server.heeds = {"If-None-Match", "If-Match"}
    mended = ObjectSink(f"s3://{BUCKET}/{unique('mended')}", 3.0)
    await mended.open()
    await written(mended, entry("a"))
    await mended.close()
    await server.stop()
