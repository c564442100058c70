"""The way back onto the topics: events in their order, at a bounded rate, each counted once the broker has it."""

import asyncio
from collections import deque
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from callstream.streams.blobs import BlobStore, check_in
from callstream.streams.event import Event
from callstream.streams.replay.recorded import SILENCE_SECONDS, TopicsUnreadable
from callstream.streams.wire import MAX_RECORD_BYTES, encode

MOST_UNDER_WAY = 64


class Outlet:
    """Sends events, at most `rate` a second; an async context manager. `delivered` counts what the log has."""

    def __init__(self, bootstrap: str, blobs: BlobStore, rate: float) -> None:
        self._bootstrap = bootstrap
        self._blobs = blobs
        self._pause = 1.0 / rate
        self._producer: AIOKafkaProducer | None = None
        self._under_way: deque[asyncio.Future[Any]] = deque()
        self._next = 0.0
        self.delivered = 0

    async def __aenter__(self) -> Self:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap, acks="all", enable_idempotence=True, max_request_size=MAX_RECORD_BYTES
        )
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                await producer.start()
        except (KafkaError, OSError) as error:
            await producer.stop()
            raise self._refused(error) from None
        self._producer = producer
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._producer is not None:
            await self._producer.stop()

    async def send(self, event: Event, topic: str) -> None:
        """Send an event onto a topic when its turn has come. Raises ValueError for one that cannot be passed on,
        TopicsUnreadable when the broker does not take it, BlobError.
        """
        if self._producer is None:
            raise RuntimeError("the outlet is not open: use `async with Outlet(…)`")
        record = await check_in(encode(event, topic), self._blobs)
        now = asyncio.get_running_loop().time()
        self._next = max(self._next, now)
        await asyncio.sleep(self._next - now)
        self._next += self._pause
        while len(self._under_way) >= MOST_UNDER_WAY:
            await self._settle()
        try:
            self._under_way.append(
                await self._producer.send(record.topic, record.value, key=record.key, headers=record.headers)
            )
        except (KafkaError, OSError) as error:
            raise self._refused(error) from None

    async def flush(self) -> None:
        """Wait until everything is on the log. Raises TopicsUnreadable."""
        while self._under_way:
            await self._settle()

    async def _settle(self) -> None:
        try:
            await self._under_way.popleft()
        except (KafkaError, OSError) as error:
            raise self._refused(error) from None
        self.delivered += 1

    def _refused(self, error: BaseException) -> TopicsUnreadable:
        reason = str(error) or type(error).__name__
        return TopicsUnreadable(f"the broker at {self._bootstrap} does not take what is replayed: {reason}")
