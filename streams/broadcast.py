"""Records that every process hears and none remembers: read from a topic's end, without a group."""

import asyncio
import logging
from collections.abc import Callable

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from callstream.streams.records import read_any_header

log = logging.getLogger("callstream.broadcast")

AGAIN_SECONDS = 5.0


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
