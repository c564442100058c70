"""Stand-ins for the engine, for tests of the actor: deliveries from a list, sends into one."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Self

from callstream.agents.ports import Delivery
from callstream.streams.chain import Cell
from callstream.streams.event import Event
from callstream.streams.fakes import MemoryCell
from callstream.streams.in_a_row import Turn
from callstream.streams.keys import partition_of
from callstream.streams.ownership import LostOwnership
from callstream.streams.topics import topic_of
from callstream.streams.wire import BodyMissing, LogUnavailable, Record, encode


class FakeDelivery:
    """A record as it was read. `acked` lists the offsets that were acknowledged, in order, of all that share it."""

    def __init__(self, record: Record, place: tuple[int, int], acked: list[int] | None = None) -> None:
        self.topic = record.topic
        self.partition, self.offset = place
        self.key: bytes | None = record.key
        self.value: bytes | None = record.value
        self.headers: list[tuple[str, bytes | None]] = [*record.headers]
        self.acked = [] if acked is None else acked

    def ack(self) -> None:
        """Keep the offset. Raises AssertionError for one that was acknowledged before, or is not the next."""
        if self.acked and self.offset <= self.acked[-1]:
            raise AssertionError(f"offset {self.offset} was acknowledged after {self.acked[-1]}")
        self.acked.append(self.offset)


class FakeSpan:
    """A span that keeps what was said about it."""

    def __init__(self, name: str, traceparent: str) -> None:
        self.name = name
        self.traceparent = traceparent
        self.tags: dict[str, str | int | float | bool | None] = {}
        self.errors: list[BaseException] = []
        self.ended = False

    def tag(self, name: str, value: str | int | float | bool | None) -> None:
        """Keep it."""
        self.tags[name] = value

    def error(self, error: BaseException) -> None:
        """Keep it."""
        self.errors.append(error)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        self.ended = True


class FakePorts:
    """The engine in memory.

    `sent` has the records that the log took, in order, `waiting` counts sends that are held. `hold()` lets sends wait
    until `release()`; `refuse(service)` makes the log refuse the records of a topic; after `lose()` nothing is sent or
    saved any more; `time` is what the clock says.
    """

    def __init__(self, partitions: int = 1) -> None:
        self.partitions = partitions
        self.time = 1_000.0
        self.sent: list[Record] = []
        self.waiting = 0
        self.crashes: list[BaseException] = []
        self.spans: list[FakeSpan] = []
        self.cells: dict[bytes, MemoryCell] = {}
        self._refused: set[str] = set()
        self._lost = False
        self._open = asyncio.Event()
        self._open.set()

    def partition_of(self, key: bytes) -> int:
        """As Kafka has it."""
        return partition_of(key, self.partitions)

    def cell(self, key: bytes, delivery: Delivery) -> Cell:
        """The same cell for the same key."""
        return self.cells.setdefault(key, MemoryCell())

    async def load(self, delivery: Delivery) -> bytes | None:
        """The value as it is; of a claim check nothing is there. Raises BodyMissing."""
        if not delivery.value and (gone := dict(delivery.headers).get("ce_dataref")):
            raise BodyMissing(f"{gone.decode()} is not there")
        return delivery.value

    async def send(self, record: Record, delivery: Delivery) -> None:
        """Keep the record, as soon as sends are not held. Raises LostOwnership, LogUnavailable."""
        self.waiting += 1
        try:
            await self._open.wait()
        finally:
            self.waiting -= 1
        if self._lost:
            raise LostOwnership(f"partition {delivery.partition} was revoked")
        if record.topic in self._refused:
            raise LogUnavailable(f"topic {record.topic}: the broker did not take a record")
        self.sent.append(record)

    def span(self, name: str, event: Event) -> FakeSpan:
        """A span that keeps what it is told."""
        self.spans.append(FakeSpan(name, event.traceparent or f"00-{'0' * 31}1-{'0' * 15}1-01"))
        return self.spans[-1]

    def crashed(self, error: BaseException) -> None:
        """Keep why the worker would end."""
        self.crashes.append(error)

    def now(self) -> float:
        """What `time` says."""
        return self.time

    def hold(self) -> None:
        """Let sends wait from now on."""
        self._open.clear()

    def release(self) -> None:
        """Let what waits, and what comes, be sent."""
        self._open.set()

    def refuse(self, service: str) -> None:
        """The log takes no more records of that service's topic."""
        self._refused.add(topic_of(service))

    def lose(self) -> None:
        """Another worker owns every partition from now on."""
        self._lost = True
        for cell in self.cells.values():
            cell.lose()

    def topics(self) -> list[str]:
        """The services whose topics were sent to, in order."""
        return [record.topic.removeprefix(topic_of("")) for record in self.sent]


def deliver(events: Iterable[Event], service: str, first_offset: int = 0) -> list[FakeDelivery]:
    """The events as they stand on partition 0 of a service's topic; all share one list of acknowledged offsets."""
    acked: list[int] = []
    return [
        FakeDelivery(encode(event, topic_of(service)), (0, offset), acked)
        for offset, event in enumerate(events, start=first_offset)
    ]


async def stream(deliveries: Iterable[Delivery]) -> AsyncIterator[Delivery]:
    """The deliveries one after another, so many of them in a row as the engine's streams give."""
    turn = Turn()
    for delivery in deliveries:
        await turn
        yield delivery
