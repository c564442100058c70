"""Lists the topics of a broker."""

import asyncio

from aiokafka.admin import AIOKafkaAdminClient


async def list_topics(bootstrap: str, timeout_seconds: float = 10.0) -> dict[str, int]:
    """Topic → number of partitions, Kafka's own topics left out.

    Raises:
        OSError: the broker cannot be reached, or not in time.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=int(timeout_seconds * 1000))
    try:
        async with asyncio.timeout(timeout_seconds):
            await admin.start()
            described = await admin.describe_topics()
    finally:
        await admin.close()
    return {
        topic["topic"]: len(topic["partitions"])
        for topic in sorted(described, key=lambda topic: str(topic["topic"]))
        if not topic["is_internal"] and topic["error_code"] == 0
    }
