"""The topics read again: from an offset or a time to the end that there was, without a group, in bounded memory."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from callstream.streams.foreseen import Foreseen
from callstream.streams.records import read_any_header
from callstream.streams.topics import PREFIX

RECORDS_AT_ONCE = 200
SILENCE_SECONDS = 30.0
POLL_MS = 1_000


class TopicsUnreadable(Foreseen):
    """The broker does not answer, or has not these topics; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Span:
    """A part of one partition: offsets from `start`, to before `end`."""

    topic: str
    partition: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Reach:
    """What is still there of a topic; times are epoch seconds.

    `oldest` is of the oldest record there is. `complete_since` is None while nothing was swept; after that every
    record since then is there, infinity where nothing is left.
    """

    topic: str
    partitions: int
    records: int
    oldest: float | None
    complete_since: float | None
    retention_seconds: float | None

    def misses(self, since: float) -> bool:
        """Whether records since that time may have been swept."""
        return self.complete_since is not None and since < self.complete_since


@dataclass(frozen=True, slots=True)
class Place:
    """One partition as the broker has it: first and next offset, and the time of the oldest record."""

    partition: int
    begin: int
    end: int
    oldest: float | None


def reach_of(topic: str, places: Sequence[Place], retention_seconds: float | None) -> Reach:
    """What is there of a topic, from its partitions.

    >>> reach_of("t", [Place(0, 0, 5, 10.0), Place(1, 3, 5, 20.0)], 60.0).complete_since
    20.0
    """
    times = [place.oldest for place in places if place.oldest is not None]
    swept = [place.oldest if place.oldest is not None else math.inf for place in places if place.begin > 0]
    return Reach(
        topic=topic,
        partitions=len(places),
        records=sum(place.end - place.begin for place in places),
        oldest=min(times, default=None),
        complete_since=max(swept, default=None),
        retention_seconds=retention_seconds,
    )


class Topics:
    """The topics of one broker, to be read; an async context manager. Every method raises TopicsUnreadable."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="none", group_id=None
        )
        self._admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        self._known: dict[str, list[int]] = {}
        # One span at a time: a second reader would assign the consumer anew under the first.
        self._reading = asyncio.Lock()

    async def __aenter__(self) -> Self:
        read_any_header()
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                await self._consumer.start()
                await self._admin.start()
        except (KafkaError, OSError) as error:
            await self._stop()
            raise self._unreadable(error) from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def _stop(self) -> None:
        await self._consumer.stop()
        await self._admin.close()

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has."""
        return len(await self._partitions(topic))

    async def places(self, topic: str, partition: int | None = None) -> list[Place]:
        """The partitions of a topic, or one of them."""
        found = [TopicPartition(topic, one) for one in await self._partitions(topic) if partition in (None, one)]
        try:
            begins = await self._consumer.beginning_offsets(found)
            ends = await self._consumer.end_offsets(found)
            oldest = await self._consumer.offsets_for_times(dict.fromkeys(found, 0))
        except (KafkaError, OSError) as error:
            raise self._unreadable(error) from None
        times = {place: at.timestamp / 1000 if at is not None else None for place, at in oldest.items()}
        return [Place(one.partition, begins[one], ends[one], times[one]) for one in found]

    async def spans(self, topic: str, since: float | None = None, partition: int | None = None) -> list[Span]:
        """What there is of a topic since a time, by partition; partitions with nothing are left out."""
        places = await self.places(topic, partition)
        starts = {place.partition: place.begin for place in places}
        if since is not None:
            asked = {TopicPartition(topic, place.partition): int(since * 1000) for place in places}
            try:
                found = await self._consumer.offsets_for_times(asked)
            except (KafkaError, OSError) as error:
                raise self._unreadable(error) from None
            ends = {place.partition: place.end for place in places}
            starts = {one.partition: at.offset if at else ends[one.partition] for one, at in found.items()}
        return [Span(topic, p.partition, starts[p.partition], p.end) for p in places if starts[p.partition] < p.end]

    async def read(self, span: Span) -> AsyncIterator[list[Any]]:
        """The records of a span in their order, some at a time."""
        place = TopicPartition(span.topic, span.partition)
        async with self._reading:
            self._consumer.assign([place])
            self._consumer.seek(place, span.start)
            position, silent = span.start, 0.0
            while position < span.end:
                try:
                    found = await self._consumer.getmany(place, timeout_ms=POLL_MS, max_records=RECORDS_AT_ONCE)
                    records = found.get(place, [])
                    # Offsets may have gaps at the end, so the position and not the last record says how far it is.
                    position = await self._consumer.position(place)
                except (KafkaError, OSError) as error:
                    raise self._unreadable(error) from None
                silent = 0.0 if records else silent + POLL_MS / 1000
                if silent > SILENCE_SECONDS:
                    raise TopicsUnreadable(f"{span.topic}/{span.partition} gave nothing for {SILENCE_SECONDS:g} s")
                yield [record for record in records if record.offset < span.end]

    async def reach(self, topics: Iterable[str]) -> list[Reach]:
        """What is still there of each topic, and how long its records are kept."""
        names = list(topics)
        for name in names:
            await self._partitions(name)
        kept = await self._retentions(names)
        return [reach_of(name, await self.places(name), kept.get(name)) for name in names]

    async def _partitions(self, topic: str) -> list[int]:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                if not self._known:
                    self._known = await self._described()
        except (KafkaError, OSError) as error:
            raise self._unreadable(error) from None
        if topic not in self._known:
            raise TopicsUnreadable(f"the broker at {self._bootstrap} has no topic {topic}: start `callstream worker`")
        return self._known[topic]

    async def _described(self) -> dict[str, list[int]]:
        """The partitions of every topic of ours. Asked for by its name, one that is not there might be made."""
        names = [name for name in await self._admin.list_topics() if name.startswith(f"{PREFIX}.")]
        topics = await self._admin.describe_topics(names) if names else []
        return {topic["topic"]: sorted(one["partition"] for one in topic["partitions"]) for topic in topics}

    async def _retentions(self, names: list[str]) -> dict[str, float | None]:
        found: dict[str, float | None] = {}
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
                for answer in await self._admin.describe_configs(resources):
                    for _, _, _, name, entries in answer.resources:
                        kept = int({entry[0]: entry[1] for entry in entries}.get("retention.ms", -1))
                        found[name] = kept / 1000 if kept >= 0 else None
        except (KafkaError, OSError) as error:
            raise self._unreadable(error) from None
        return found

    def _unreadable(self, error: BaseException) -> TopicsUnreadable:
        reason = f"no answer in {SILENCE_SECONDS:g} s" if isinstance(error, TimeoutError) else str(error)
        return TopicsUnreadable(f"the topics on {self._bootstrap} cannot be read: {reason or type(error).__name__}")
