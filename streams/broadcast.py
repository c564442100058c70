"""Records that every process hears, without a group: as they come, or all that a topic holds."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from callstream.streams.records import read_any_header

log = logging.getLogger("callstream.broadcast")

AGAIN_SECONDS = 5.0
SOON_SECONDS = 0.5
FETCH_SECONDS = 0.5


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


async def listen(bootstrap: str, topic: str, partitions: int, hear: Callable[[str, bytes], None]) -> None:
    """Hand the key and value of every new record to `hear`, until cancelled; a broker that is away is waited for."""
    read_any_header()
    while True:
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="latest", fetch_max_wait_ms=1_000)
        try:
            async with consumer:
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
    read_any_header()
    places = [TopicPartition(topic, partition) for partition in range(partitions)]
    reached: dict[Any, int] = {}
    behind = True
    while True:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False, fetch_max_wait_ms=100
        )
        try:
            async with consumer:
                consumer.assign(places)
                for place, offset in reached.items():
                    consumer.seek(place, offset)
                ends = await consumer.end_offsets(places)
                while True:
                    if behind and not [one for one in places if reached.get(one, 0) < ends[one]]:
                        behind = False
                        caught_up()
                    for place, records in (await consumer.getmany(timeout_ms=int(FETCH_SECONDS * 1_000))).items():
                        for record in records:
                            hear((record.key or b"").decode("utf-8", "replace"), record.value)
                        reached[place] = records[-1].offset + 1
                    for place in places:
                        # What compaction took away is passed, not read.
                        reached[place] = max(reached.get(place, 0), await consumer.position(place))
        except (KafkaError, OSError) as error:
            log.info("topic %s is not heard for now: %r", topic, error)
        await asyncio.sleep(SOON_SECONDS)


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
    read_any_header()
    moments = {TopicPartition(topic, one): int(at * 1_000) for topic, at in since.items() for one in range(partitions)}
    reached: dict[Any, int] = {}
    ends: dict[Any, int] = {}
    while True:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False, fetch_max_wait_ms=100
        )
        try:
            async with consumer:
                consumer.assign(list(moments))
                if not reached:
                    ends = await consumer.end_offsets(list(moments))
                    found = await consumer.offsets_for_times(moments)
                    reached = {one: ends[one] if at is None else at.offset for one, at in found.items()}
                for place, offset in reached.items():
                    consumer.seek(place, offset)
                while True:
                    if not caught_up.is_set() and not [one for one in moments if reached[one] < ends[one]]:
                        caught_up.set()
                    for place, records in (await consumer.getmany(timeout_ms=int(FETCH_SECONDS * 1_000))).items():
                        for one in records:
                            told = (one.offset, one.timestamp / 1_000, one.key, one.value, list(one.headers))
                            hear(Heard(place.topic, place.partition, *told))
                        reached[place] = records[-1].offset + 1
                        await asyncio.sleep(0)
                    for place in moments:
                        reached[place] = max(reached[place], await consumer.position(place))
        except (KafkaError, OSError) as error:
            log.info("%s are not heard for now: %r", ", ".join(since), error)
        await asyncio.sleep(SOON_SECONDS)
