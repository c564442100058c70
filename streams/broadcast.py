"""Records that every process hears, without a group: as they come, or all that a topic holds."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from callstream.streams.records import read_any_header

log = logging.getLogger("callstream.broadcast")

AGAIN_SECONDS = 5.0
SOON_SECONDS = 0.5
FETCH_SECONDS = 0.5

Offsets = dict[TopicPartition, int]


@dataclass(frozen=True, slots=True)
class Heard:
    """One record: where it stands, when it was written (epoch seconds), and what it says."""

    topic: str
    partition: int
    offset: int
    at: float
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


@asynccontextmanager
async def _started(consumer: AIOKafkaConsumer) -> AsyncIterator[None]:
    """A consumer that is closed also where it could not start: `async with consumer` leaves that one open."""
    try:
        await consumer.start()
        yield
    finally:
        await consumer.stop()


async def listen(bootstrap: str, topic: str, partitions: int, hear: Callable[[str, bytes], None]) -> None:
    """Hand the key and value of every new record to `hear`, until cancelled; a broker that is away is waited for."""
    read_any_header()
    while True:
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="latest", fetch_max_wait_ms=1_000)
        try:
            async with _started(consumer):
                consumer.assign([TopicPartition(topic, partition) for partition in range(partitions)])
                async for record in consumer:
                    hear((record.key or b"").decode("utf-8", "replace"), record.value or b"")
        except (KafkaError, OSError) as error:
            log.info("topic %s is not heard for now: %r", topic, error)
        await asyncio.sleep(AGAIN_SECONDS)


async def hear_all(
    bootstrap: str,
    topic: str,
    partitions: int,
    hear: Callable[[str, bytes | None], None],
    caught_up: Callable[[], None],
) -> None:
    """Hand the key and value of every record of a topic to `hear`, from its first on, until cancelled.

    `caught_up` is called once, when all has been heard that was there at the start. A broker that is away is waited
    for, and reading goes on where it stood.
    """

    async def first(consumer: AIOKafkaConsumer, ends: Offsets) -> Offsets:
        return dict(await consumer.beginning_offsets(list(ends)))

    def take(record: ConsumerRecord[bytes, bytes]) -> None:
        hear((record.key or b"").decode("utf-8", "replace"), record.value)

    await _follow(bootstrap, [TopicPartition(topic, one) for one in range(partitions)], first, take, caught_up)


async def hear_since(
    bootstrap: str,
    partitions: int,
    since: Mapping[str, float],
    hear: Callable[[Heard], None],
    caught_up: asyncio.Event,
) -> None:
    """Hand every record of some topics to `hear`, each once, from a moment on (epoch seconds), until cancelled.

    `caught_up` is set once all has been heard that was there at the start. A broker that is away is waited for, and
    reading goes on where it stood.
    """
    moments = {TopicPartition(topic, one): int(at * 1_000) for topic, at in since.items() for one in range(partitions)}

    async def first(consumer: AIOKafkaConsumer, ends: Offsets) -> Offsets:
        found = await consumer.offsets_for_times(moments)
        return {one: ends[one] if at is None else at.offset for one, at in found.items()}

    def take(record: ConsumerRecord[bytes, bytes]) -> None:
        told = (record.offset, record.timestamp / 1_000, record.key, record.value, list(record.headers))
        hear(Heard(record.topic, record.partition, *told))

    await _follow(bootstrap, list(moments), first, take, caught_up.set)


async def _follow(
    bootstrap: str,
    places: Sequence[TopicPartition],
    first: Callable[[AIOKafkaConsumer, Offsets], Awaitable[Offsets]],
    take: Callable[["ConsumerRecord[bytes, bytes]"], None],
    caught_up: Callable[[], None],
) -> None:
    """Hand every record of these partitions to `take`, for ever; `first` says where to begin, given their ends."""
    read_any_header()
    reached: Offsets = {}
    behind = True
    while True:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False, fetch_max_wait_ms=100
        )
        try:
            async with _started(consumer):
                consumer.assign(places)
                ends: Offsets = await consumer.end_offsets(places)
                reached = reached or await first(consumer, ends)
                for place, offset in reached.items():
                    consumer.seek(place, offset)
                while True:
                    if behind and all(reached[one] >= ends[one] for one in places):
                        behind = False
                        caught_up()
                    for place, records in (await consumer.getmany(timeout_ms=int(FETCH_SECONDS * 1_000))).items():
                        for record in records:
                            take(record)
                        reached[place] = records[-1].offset + 1
                        await asyncio.sleep(0)
                    for place in places:
                        # What compaction took away is passed, not read.
                        reached[place] = max(reached[place], await consumer.position(place))
        except (KafkaError, OSError) as error:
            log.info("%s are not heard for now: %r", ", ".join(sorted({place.topic for place in places})), error)
        await asyncio.sleep(SOON_SECONDS)
