"""What a compacted topic holds, told to a process that keeps all of it in memory: from its beginning, then as it comes.

No group is joined: every process that follows a topic hears every record.
"""

import asyncio
import logging
from typing import Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from callstream.streams.records import read_any_header

log = logging.getLogger("callstream.compacted")

AGAIN_SECONDS = 5.0
POLL_MS = 500


class Reader(Protocol):
    """Who keeps what is told."""

    def restart(self) -> None:
        """Forget all: it is told again from the beginning."""

    def hear(self, key: bytes, value: bytes | None) -> None:
        """The latest value of a key; None says that the key is gone."""

    def caught_up(self) -> None:
        """All that the topic held when the telling began has been told."""


async def follow(bootstrap: str, topic: str, partitions: int, reader: Reader) -> None:
    """Tell a reader every record of a topic, until cancelled; a broker that is away is waited for."""
    read_any_header()
    while True:
        reader.restart()
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
        try:
            async with consumer:
                await _tell(consumer, [TopicPartition(topic, number) for number in range(partitions)], reader)
        except (KafkaError, OSError) as error:
            log.info("topic %s is not followed for now: %r", topic, error)
        await asyncio.sleep(AGAIN_SECONDS)


async def _tell(consumer: AIOKafkaConsumer, places: list[TopicPartition], reader: Reader) -> None:
    consumer.assign(places)
    behind = {place: end for place, end in (await consumer.end_offsets(places)).items() if end > 0}
    told = False
    while True:
        for records in (await consumer.getmany(timeout_ms=POLL_MS if told or behind else 0)).values():
            for record in records:
                reader.hear(record.key or b"", record.value)
        if not told:
            behind = {place: end for place, end in behind.items() if await consumer.position(place) < end}
            if not behind:
                reader.caught_up()
                told = True
