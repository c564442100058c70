"""Events that were put aside so that those behind them are reached: by topic, queue and tenant, each in its order.

A topic is read in its order. Where what it brings has to wait, a backlog of one tenant, or of one pool that stands
still, would keep everybody else's events out of sight. So what a tenant has beyond its portion is moved into a table,
from which the next of any tenant can be taken; the event counts as read once its row is on the log, and the row goes
when its work is done.

Words: a *bucket* is what shares one order: a topic, a queue (what the step waits for: a pool of models) and a tenant. A
bucket's *rows* are its events in the lot; those that are *taken* are worked on.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

from callstream.streams import strict_json
from callstream.streams.event import Json
from callstream.streams.ownership import Claim
from callstream.tables.rows import Rows

SCANNED_IN_A_ROW = 200
"""Rows that are counted before others get a turn, when a partition has come."""
MOST_PARKED = 20_000
"""Events of one partition that are put aside at most. Beyond, its topic is not read on until there are fewer."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """What shares one order."""

    topic: str
    queue: str
    tenant: str

    @property
    def prefix(self) -> bytes:
        """What the keys of its rows begin with."""
        return f"{self.topic}/{self.queue}/{self.tenant}/".encode()


@dataclass(frozen=True, slots=True)
class Parked:
    """An event in the lot, as a delivery: there is nothing to acknowledge, its row is removed instead."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    claim: Claim

    def ack(self) -> None:
        """Nothing."""


@dataclass(slots=True)
class _Rows:
    """A bucket's rows in one partition: how many are not taken, and the key of the last that was."""

    waiting: int = 0
    last: bytes = b""


@dataclass(slots=True)
class _Shelf:
    """A bucket's rows by partition; partitions take turns."""

    rows: dict[int, _Rows] = field(default_factory=dict)

    @property
    def waiting(self) -> int:
        return sum(one.waiting for one in self.rows.values())


class Lot:
    """The lot of one service on this worker, over its table `parked`.

    `queue_of` names what the step of an event waits for, from the headers of its record; None for a record that says
    nothing of it, which is never put aside.
    """

    def __init__(self, rows: Rows, queue_of: Callable[[str, int, int], str | None], most: int = MOST_PARKED) -> None:
        self._table = rows
        self._queue_of = queue_of
        self._most = most
        self._shelves: dict[str, dict[Bucket, _Shelf]] = {}
        self._held: Counter[int] = Counter()
        self._taken: set[tuple[int, bytes]] = set()
        self._open: set[int] = set()
        self._opening = asyncio.Lock()
        self._generation = 0

    def partitions(self) -> list[int]:
        """Those whose rows are here."""
        return self._table.open_partitions()

    async def open(self, partition: int) -> None:
        """Count what a partition has in the lot, once."""
        if partition in self._open:
            return
        async with self._opening:
            if partition in self._open:
                return
            generation, after, found = self._generation, b"", 0
            counted: Counter[Bucket] = Counter()
            while rows := [key for key, _ in self._table.scan(partition, after, SCANNED_IN_A_ROW)]:
                counted.update(_bucket_of(key) for key in rows)
                found, after = found + len(rows), rows[-1]
                await asyncio.sleep(0)
                if generation != self._generation:
                    return
            for bucket, count in counted.items():
                self._rows(bucket, partition).waiting += count
            self._held[partition] += found
            self._open.add(partition)

    def forget(self) -> None:
        """The partitions go to other owners."""
        self._generation += 1
        self._open.clear()
        self._shelves.clear()
        self._held.clear()
        self._taken.clear()

    def bucket(self, topic: str, headers: list[tuple[str, bytes | None]]) -> Bucket | None:
        """What an event shares its order with; None for a record that is no event of a step here."""
        found = {name: value for name, value in headers if name in _NAMES and value is not None}
        try:
            tenant, chain, version, sequence = (found[name].decode() for name in _NAMES)
            queue = self._queue_of(chain, int(version), int(sequence))
        except (KeyError, ValueError):
            return None
        return None if queue is None or "/" in tenant else Bucket(topic, queue, tenant)

    def full(self, partition: int) -> bool:
        """Whether nothing more of that partition is put aside for now."""
        return self._held[partition] >= self._most

    def waiting(self, bucket: Bucket) -> int:
        """Events of a bucket that are put aside and not taken."""
        shelf = self._shelves.get(bucket.topic, {}).get(bucket)
        return shelf.waiting if shelf else 0

    def topics(self) -> list[str]:
        """Topics of which something is put aside."""
        return [topic for topic, shelves in self._shelves.items() if shelves]

    def buckets(self, topic: str) -> Iterator[Bucket]:
        """Buckets of a topic with events in the lot, in the order of their turns; `take` ends the iteration."""
        return iter(self._shelves.get(topic, ()))

    def count(self, topic: str) -> int:
        """How many buckets of a topic there are."""
        return len(self._shelves.get(topic, ()))

    def has(self, bucket: Bucket, partition: int, offset: int) -> bool:
        """Whether this event is here, taken or not: its topic was read again."""
        return bool(self._held[partition]) and self._table.read(partition, _key(bucket, offset)) is not None

    async def put(self, bucket: Bucket, event: Parked, taken: bool = False) -> None:
        """Put an event aside, or (`taken`) one that is worked on; done when the log has it.

        Raises LostOwnership, LogUnavailable.
        """
        generation, key = self._generation, _key(bucket, event.offset)
        self._held[event.partition] += 1
        if taken:
            self._taken.add((event.partition, key))
        await self._table.write(event.claim, key, _packed(event))
        if not taken and generation == self._generation:
            self._rows(bucket, event.partition).waiting += 1

    def take(self, bucket: Bucket) -> Parked | None:
        """The first event of a bucket that is not taken, of the partition whose turn it is; None if there is none.

        The bucket's next turn comes after those of the topic's others.
        """
        shelves = self._shelves.get(bucket.topic, {})
        shelf = shelves.pop(bucket, None)
        if shelf is None:
            return None
        for partition, rows in list(shelf.rows.items()):
            del shelf.rows[partition]
            found = self._next(bucket, partition, rows) if rows.waiting else None
            if found is None:
                continue
            key, row = found
            self._taken.add((partition, key))
            rows.waiting, rows.last = rows.waiting - 1, key
            shelf.rows[partition] = rows
            if shelf.waiting:
                shelves[bucket] = shelf
            return _unpacked(row, bucket.topic, _offset_of(key), self._table.claim(partition))
        return None

    async def pick(
        self, wanted: Callable[[list[tuple[str, bytes | None]]], bool]
    ) -> AsyncIterator[list[tuple[Bucket, Parked]]]:
        """Take, out of their turn, the events whose headers are wanted: some at a time, while they are still ours."""
        for partition in list(self._open):
            after = b""
            while partition in self._open and self._held[partition]:
                rows, found = list(self._table.scan(partition, after, SCANNED_IN_A_ROW)), []
                for key, row in rows:
                    if (partition, key) in self._taken:
                        continue
                    bucket = _bucket_of(key)
                    event = _unpacked(row, bucket.topic, _offset_of(key), self._table.claim(partition))
                    if wanted(event.headers):
                        self._taken.add((partition, key))
                        self._rows(bucket, partition).waiting -= 1
                        found.append((bucket, event))
                if found:
                    yield found
                if len(rows) < SCANNED_IN_A_ROW:
                    break
                after = rows[-1][0]
                await asyncio.sleep(0)

    async def remove(self, bucket: Bucket, event: Parked) -> None:
        """Its work is done. Raises LostOwnership, LogUnavailable."""
        generation, key = self._generation, _key(bucket, event.offset)
        await self._table.write(event.claim, key, None)
        if generation == self._generation:
            self._held[event.partition] -= 1
            self._taken.discard((event.partition, key))

    def _next(self, bucket: Bucket, partition: int, rows: _Rows) -> tuple[bytes, bytes] | None:
        """The first row that is not taken: behind the last that was, or, of those that were put at once, before it."""
        for after in dict.fromkeys((rows.last or bucket.prefix, bucket.prefix)):
            for key, row in self._table.scan(partition, after, len(self._taken) + 1):
                if not key.startswith(bucket.prefix):
                    break
                if (partition, key) not in self._taken:
                    return key, row
        return None

    def _rows(self, bucket: Bucket, partition: int) -> _Rows:
        shelf = self._shelves.setdefault(bucket.topic, {}).setdefault(bucket, _Shelf())
        return shelf.rows.setdefault(partition, _Rows())


_NAMES = ("ce_tenant", "ce_chain", "ce_chainversion", "ce_sequence")


def _key(bucket: Bucket, offset: int) -> bytes:
    return bucket.prefix + f"{offset:016x}".encode()


def _bucket_of(key: bytes) -> Bucket:
    topic, queue, tenant, _ = key.decode().split("/")
    return Bucket(topic, queue, tenant)


def _offset_of(key: bytes) -> int:
    return int(key.rpartition(b"/")[2], 16)


def _packed(event: Parked) -> bytes:
    """JSON; what is no UTF-8 stands there as Latin-1, which keeps every byte, and is named in `bytes`."""
    row: Json = {"headers": [[name, None if raw is None else raw.decode("latin-1")] for name, raw in event.headers]}
    for name, raw in (("key", event.key), ("value", event.value)):
        if raw is not None:
            try:
                row[name] = raw.decode()
            except UnicodeDecodeError:
                row[name] = raw.decode("latin-1")
                row["bytes"] = [*row.get("bytes", ()), name]
    return strict_json.dumps(row)


def _unpacked(row: bytes, topic: str, offset: int, claim: Claim) -> Parked:
    kept = strict_json.unpack(row)
    headers = [(name, None if text is None else text.encode("latin-1")) for name, text in kept["headers"]]
    key, value = (
        None if name not in kept else kept[name].encode("latin-1" if name in kept.get("bytes", ()) else "utf-8")
        for name in ("key", "value")
    )
    return Parked(topic, claim.partition, offset, key, value, headers, claim)
