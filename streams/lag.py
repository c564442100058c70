"""How far groups are behind their topics, as the broker tells it."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from callstream.streams.topics import PREFIX, is_changelog

TIMEOUT_SECONDS = 15.0


class LagUnknown(Exception):
    """The broker does not tell; the message says why."""


@dataclass(frozen=True)
class Lag:
    """One partition of a topic as one group has it; `committed` is None where the group has committed nothing."""

    group: str
    topic: str
    partition: int
    end: int
    committed: int | None
    lag: int


@dataclass(frozen=True)
class Offsets:
    """What the broker says: first and next offset of each partition, and what each group has committed."""

    begins: Mapping[tuple[str, int], int]
    ends: Mapping[tuple[str, int], int]
    committed: Mapping[str, Mapping[tuple[str, int], int]]


async def look(bootstrap: str) -> list[Lag]:
    """The lag of every group of callstream now. Raises LagUnknown."""
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return lags(await _offsets(bootstrap))
    except (KafkaError, OSError) as error:
        reason = f"no answer in {TIMEOUT_SECONDS:g} s" if isinstance(error, TimeoutError) else str(error)
        raise LagUnknown(f"the broker at {bootstrap} cannot be asked: {reason}") from None


def lags(offsets: Offsets) -> list[Lag]:
    """Every partition that a group has committed on, or whose topic it has. What is not committed begins at the first.

    Offsets that retention has deleted count as done.
    """
    found = []
    for group, committed in sorted(offsets.committed.items()):
        topics = {topic for topic, _ in committed}
        for topic, partition in sorted(place for place in offsets.ends if place[0] in topics):
            end, begin = offsets.ends[topic, partition], offsets.begins.get((topic, partition), 0)
            done = committed.get((topic, partition))
            behind = max(0, end - max(begin, done if done is not None else begin))
            found.append(Lag(group, topic, partition, end, done, behind))
    return found


def by_group(rows: Iterable[Lag]) -> list[Lag]:
    """One row for each group, which names its topic or counts them; `partition` counts the partitions of all."""
    rows = list(rows)
    topics: dict[str, set[str]] = {}
    for row in rows:
        topics.setdefault(row.group, set()).add(row.topic)
    named = {group: min(names) if len(names) == 1 else f"{len(names)} topics" for group, names in topics.items()}
    return summed(replace(row, topic=named[row.group]) for row in rows)


def summed(rows: Iterable[Lag]) -> list[Lag]:
    """One row for each group and topic; `partition` counts the partitions."""
    sums: dict[tuple[str, str], Lag] = {}
    for row in rows:
        before = sums.get((row.group, row.topic), Lag(row.group, row.topic, 0, 0, 0, 0))
        sums[row.group, row.topic] = Lag(
            row.group,
            row.topic,
            before.partition + 1,
            before.end + row.end,
            (before.committed or 0) + (row.committed or 0),
            before.lag + row.lag,
        )
    return list(sums.values())


async def _offsets(bootstrap: str) -> Offsets:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    try:
        await admin.start()
        await consumer.start()
        groups = sorted(name for name, *_ in await admin.list_consumer_groups() if name.startswith(f"{PREFIX}-"))
        committed = {}
        for group in groups:
            given = await admin.list_consumer_group_offsets(group)
            committed[group] = {
                (place.topic, place.partition): found.offset
                for place, found in given.items()
                if found.offset >= 0 and not is_changelog(place.topic)
            }
        topics = sorted({topic for places in committed.values() for topic, _ in places})
        described = await admin.describe_topics(topics) if topics else []
        places = [
            TopicPartition(topic["topic"], partition["partition"])
            for topic in described
            for partition in topic["partitions"]
            if topic["error_code"] == 0
        ]
        begins = await consumer.beginning_offsets(places) if places else {}
        ends = await consumer.end_offsets(places) if places else {}
    finally:
        await consumer.stop()
        await admin.close()
    return Offsets(
        {tuple(place): at for place, at in begins.items()}, {tuple(place): at for place, at in ends.items()}, committed
    )
