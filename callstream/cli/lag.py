"""`callstream lag`: how far each service is behind its topic."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from callstream.cli.bootstrap import bootstrap_of
from callstream.cli.errors import CliError
from callstream.settings import load
from callstream.streams.topics import PREFIX, is_changelog

TIMEOUT_SECONDS = 15.0


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


def lag(
    partitions: Annotated[bool, typer.Option("--partitions", help="A row for each partition.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(help="With --watch: seconds between looks.", min=0.2, max=3600)] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a partition.")] = False,
    broker: Annotated[str | None, typer.Option(help="HOST:PORT of the broker.")] = None,
) -> None:
    """Show how far services are behind. For each group and topic: the end, what is committed, and the difference."""
    bootstrap = bootstrap_of(load(), broker)
    if as_json:
        for row in asyncio.run(_look(bootstrap)):
            typer.echo(json.dumps(asdict(row)))
    elif watch:
        asyncio.run(_watch(bootstrap, partitions, every))
    else:
        Console().print(table(asyncio.run(_look(bootstrap)), partitions))


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


def table(rows: list[Lag], partitions: bool) -> Table:
    """The rows for a terminal."""
    shown = Table(box=box.SIMPLE_HEAD, caption=None if rows else "no group has committed yet")
    shown.add_column("group", overflow="fold")
    shown.add_column("topic", overflow="fold")
    for name in ("partition" if partitions else "partitions", "end", "committed", "lag"):
        shown.add_column(name, justify="right")
    for row in rows if partitions else summed(rows):
        done = "-" if row.committed is None else f"{row.committed:,}"
        behind = f"[yellow]{row.lag:,}[/]" if row.lag else "0"
        shown.add_row(row.group, row.topic, str(row.partition), f"{row.end:,}", done, behind)
    return shown


async def _watch(bootstrap: str, partitions: bool, every: float) -> None:
    with Live(table(await _look(bootstrap), partitions)) as live:
        while True:
            await asyncio.sleep(every)
            live.update(table(await _look(bootstrap), partitions))


async def _look(bootstrap: str) -> list[Lag]:
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return lags(await _offsets(bootstrap))
    except (KafkaError, OSError) as error:
        reason = f"no answer in {TIMEOUT_SECONDS:g} s" if isinstance(error, TimeoutError) else str(error)
        raise CliError(f"the broker at {bootstrap} cannot be asked: {reason}") from None


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
