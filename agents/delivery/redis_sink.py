"""Into Redis: the value under its key, and beside it what is kept of it, in one transaction."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, WatchError

from callstream.agents.delivery.sink import Away, Entry, Refused
from callstream.agents.delivery.versions import Versions, dumped, loaded, put, standing, without, wrote
from callstream.streams import strict_json

Result = TypeVar("Result")

MOST_COLLISIONS = 20
"""Tries of one transaction while others change its keys."""


class RedisSink:
    """A value is JSON text under `PREFIXTENANT:KEY`; `PREFIX~TENANT:KEY` has its versions, the receipts of writes.

    What was read is watched: where another worker has changed it meanwhile, the transaction is made anew.
    """

    def __init__(self, url: str, password: str | None = None, prefix: str = "", timeout_seconds: float = 10.0) -> None:
        self._prefix = prefix
        # No retries of the library's own: when to ask again is decided in one place.
        self._redis = Redis.from_url(
            url,
            password=password,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
        )

    async def open(self) -> None:
        """Nothing: it connects when it is used."""

    async def close(self) -> None:
        """Close its connections."""
        await self._redis.aclose()

    async def write(self, entries: Sequence[Entry]) -> list[Refused | Away | None]:
        """All in one transaction. Raises Away."""
        results: list[Refused | Away | None] = [_flaw(entry) for entry in entries]
        good = [entry for entry, flaw in zip(entries, results, strict=True) if flaw is None]
        if good:
            await _done(self._changed(good, lambda versions, entry: put(versions, entry.version)))
        return results

    async def has(self, entry: Entry) -> bool:
        """Whether its receipt is there. Raises Away."""
        return wrote(_versions(await _done(self._redis.get(self._kept(entry)))), entry.task, entry.step)

    async def undo(self, entry: Entry) -> bool:
        """Have the newest stand that is left, or nothing. Raises Away."""
        return await _done(self._changed([entry], lambda versions, one: without(versions, one.task, one.step)))

    async def _changed(self, entries: Sequence[Entry], change: Callable[[Versions, Entry], Versions]) -> bool:
        """Change what is kept of the entries' keys; whether that made a difference."""
        keys = list(dict.fromkeys(self._kept(entry) for entry in entries))
        async with self._redis.pipeline() as pipeline:
            for _ in range(MOST_COLLISIONS):
                try:
                    return await self._change(pipeline, keys, entries, change)
                except WatchError:
                    continue
        raise Away(f"others changed the same keys {MOST_COLLISIONS} times")

    async def _change(
        self,
        pipeline: Pipeline,
        keys: list[str],
        entries: Sequence[Entry],
        change: Callable[[Versions, Entry], Versions],
    ) -> bool:
        await pipeline.watch(*keys)
        before = dict(zip(keys, map(_versions, await pipeline.mget(keys)), strict=True))
        after = dict(before)
        for entry in entries:
            after[self._kept(entry)] = change(after[self._kept(entry)], entry)
        pipeline.multi()  # type: ignore[no-untyped-call]
        for entry in {self._kept(entry): entry for entry in entries}.values():
            versions = after[self._kept(entry)]
            if versions == before[self._kept(entry)]:
                continue
            if (stands := standing(versions)) is None:
                pipeline.delete(self._value(entry), self._kept(entry))
            else:
                pipeline.set(self._value(entry), strict_json.dumps(stands.value))
                pipeline.set(self._kept(entry), strict_json.dumps(dumped(versions)))
        await pipeline.execute()
        return after != before

    def _value(self, entry: Entry) -> str:
        return f"{self._prefix}{entry.tenant}:{entry.key}"

    def _kept(self, entry: Entry) -> str:
        # No tenant's name begins so.
        return f"{self._prefix}~{entry.tenant}:{entry.key}"


def _flaw(entry: Entry) -> Refused | None:
    try:
        entry.raw()
    except Refused as error:
        return error
    return None


def _versions(raw: bytes | str | None) -> Versions:
    if raw is None:
        return ()
    return loaded(strict_json.unpack(raw if isinstance(raw, bytes) else raw.encode()))


async def _done(asked: Awaitable[Result]) -> Result:
    try:
        return await asked
    except (RedisError, OSError) as error:
        raise Away(f"{type(error).__name__}: {error}"[:500]) from None
