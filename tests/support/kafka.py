"""Short ways to a real Kafka for system tests. Every call is bounded in time."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NodeNotReadyError,
    NotCoordinatorForGroupError,
    TopicAlreadyExistsError,
    for_code,
)
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import LeaveGroupRequest
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import ConsumerRecord

SETTLE_SECONDS = 30.0
PAUSE_SECONDS = 0.05
TRIES = 400


class Send(NamedTuple):
    """A record to produce; without a partition the key's hash chooses."""

    value: bytes | None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()
    partition: int | None = None


async def create_topics(bootstrap: str, partitions: Mapping[str, int], config: Mapping[str, str] | None = None) -> None:
    """Creates the topics (name → partitions) that do not exist, and waits until the broker serves them."""
    async with admin_of(bootstrap) as admin:
        wanted = [NewTopic(name, count, 1, topic_configs=dict(config or {})) for name, count in partitions.items()]
        answer = await admin.create_topics(wanted)
        for name, code, *reason in answer.topic_errors:
            if code not in (0, TopicAlreadyExistsError.errno):
                raise for_code(code)(f"topic {name}: {reason}")
        for _ in range(TRIES):
            if all(served(topic) for topic in await admin.describe_topics(list(partitions))):
                return
            await asyncio.sleep(PAUSE_SECONDS)
    raise TimeoutError(f"{bootstrap} does not serve {', '.join(partitions)}")


@asynccontextmanager
async def admin_of(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """A started admin client, for at most `SETTLE_SECONDS`."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    async with asyncio.timeout(SETTLE_SECONDS):
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()


def served(description: Mapping[str, object]) -> bool:
    """Whether a described topic exists and each of its partitions has a leader."""
    partitions = description["partitions"]
    if description["error_code"] != 0 or not isinstance(partitions, list):
        return False
    return bool(partitions) and all(partition["leader"] >= 0 for partition in partitions)


async def produce(bootstrap: str, topic: str, records: Iterable[Send]) -> list[tuple[int, int]]:
    """Sends the records with acks=all and returns the (partition, offset) of each."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True) as producer:
        sent = [
            await producer.send(topic, one.value, one.key, one.partition, headers=list(one.headers)) for one in records
        ]
        async with asyncio.timeout(60):
            return [(done.partition, done.offset) for done in await asyncio.gather(*sent)]


async def read_all(
    bootstrap: str, topic: str, timeout: float = 30.0
) -> list[ConsumerRecord[bytes | None, bytes | None]]:
    """All records that are in the topic at the time of the call, by partition and offset."""
    # Not seek_to_beginning, which the reset to the end that begins on assignment can overtake.
    reader = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    async with asyncio.timeout(timeout), reader as consumer:
        partitions = await partitions_of(bootstrap, topic)
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found: list[ConsumerRecord[bytes | None, bytes | None]] = []
        while not all([await consumer.position(partition) >= end for partition, end in ends.items()]):
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                found += batch
    found = [record for record in found if record.offset < ends[TopicPartition(topic, record.partition)]]
    return sorted(found, key=lambda record: (record.partition, record.offset))


async def partitions_of(bootstrap: str, topic: str) -> list[TopicPartition]:
    """The partitions of a topic.

    Raises:
        LookupError: it does not exist.
    """
    async with admin_of(bootstrap) as admin:
        (found,) = await admin.describe_topics([topic])
    if not served(found):
        raise LookupError(f"no topic {topic} on {bootstrap}")
    return sorted(TopicPartition(topic, partition["partition"]) for partition in found["partitions"])


async def committed(bootstrap: str, group: str) -> dict[TopicPartition, int]:
    """The committed offsets of a consumer group; empty for an unknown group."""
    async with admin_of(bootstrap) as admin:
        for _ in range(TRIES):
            try:
                offsets = await admin.list_consumer_group_offsets(group)
                return {partition: found.offset for partition, found in offsets.items() if found.offset >= 0}
            except (
                GroupCoordinatorNotAvailableError,
                GroupLoadInProgressError,
                NodeNotReadyError,
                NotCoordinatorForGroupError,
            ):
                # The topic of the offsets is made when the first group asks for its coordinator.
                await asyncio.sleep(PAUSE_SECONDS)
    raise TimeoutError(f"{bootstrap} has no coordinator for group {group}")


async def lag(bootstrap: str, group: str, topics: Iterable[str]) -> dict[str, int]:
    """For each topic, how many records the group has not committed; from the beginning where it never committed."""
    done = await committed(bootstrap, group)
    behind: dict[str, int] = {}
    async with asyncio.timeout(SETTLE_SECONDS), AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
        for topic in topics:
            partitions = await partitions_of(bootstrap, topic)
            starts = await consumer.beginning_offsets(partitions)
            ends = await consumer.end_offsets(partitions)
            behind[topic] = sum(ends[one] - done.get(one, starts[one]) for one in partitions)
    return behind


async def producer_ids(bootstrap: str, topic: str) -> list[int]:
    """The producer's id of each batch in the topic, -1 where the producer was not idempotent."""
    found: list[int] = []
    places = await partitions_of(bootstrap, topic)
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    async with asyncio.timeout(SETTLE_SECONDS):
        await client.bootstrap()
        try:
            (node,) = {broker.nodeId for broker in client.cluster.brokers()}
            wanted = [(topic, [(place.partition, 0, 1024 * 1024) for place in places])]
            answer = await client.send(node, FetchRequest(100, 0, 16 * 1024 * 1024, 0, wanted))
        finally:
            await client.close()
    for _, partitions in answer.topics:
        for _, *_, batches in partitions:
            records = MemoryRecords(bytes(batches or b""))
            while records.has_next():
                found.append(records.next_batch().producer_id)
    return found


async def evict(bootstrap: str, group: str, member: str) -> None:
    """Take a member out of its group, as the broker does with one that was silent for too long."""
    async with admin_of(bootstrap) as admin:
        node = await admin.find_coordinator(group)
        await admin._client.send(node, LeaveGroupRequest(group, member), group=ConnectionGroup.COORDINATION)
