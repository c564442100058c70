"""Records that every process hears, without a group: as they come, or all that a topic holds."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from callstream.streams.records import read_any_header

log = logging.getLogger("callstream.broadcast")

AGAIN_SECONDS = 5.0
SOON_SECONDS = 0.5
FETCH_SECONDS = 0.5


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
