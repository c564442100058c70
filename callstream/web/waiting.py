"""Held tasks of one gateway in the order in which they are to be looked at: by priority, then due, then id.

An index in memory: read from the table once for each partition that comes, and kept up to date by each row that is
written. A page costs its own rows and no more.
"""

import asyncio
import base64
import binascii
import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from callstream.streams import strict_json
from callstream.streams.event import Json
from callstream.streams.keys import partition_of, task_key
from callstream.streams.strict_json import BadJson
from callstream.tables.rows import Rows
from callstream.web.held import review_in

RANKS = {"high": 0, "normal": 1, "low": 2}
HELD = b'"state":"held"'
"""How a held task's row has it: rows are written compactly."""
SCANNED_AT_ONCE = 500
MOST_KEPT = 100_000
"""Held tasks of a tenant on one gateway that are in order; of more, those that come last follow as these go."""

Place = tuple[int, float, str]


@dataclass(frozen=True, slots=True)
class Query:
    """Which held tasks: at most `limit` behind a place, of a group, of a chain, `claimed` at that time (None: all)."""

    now: float
    after: Place | None = None
    limit: int = 50
    group: str | None = None
    chain: str | None = None
    claimed: bool | None = None

    def takes(self, entry: "Entry") -> bool:
        """Whether a held task is one of these."""
        if self.claimed is not None and self.claimed != (entry.until > self.now):
            return False
        return self.group in (None, entry.group) and self.chain in (None, entry.chain)


@dataclass(frozen=True, slots=True)
class Entry:
    """What the index has of a held task."""

    place: Place
    tenant: str
    group: str
    chain: str
    until: float


def place_of(row: Json) -> Place:
    """Where a held task stands among all of its tenant."""
    review = review_in(row)
    due = math.inf if review["due"] is None else float(review["due"])
    return RANKS.get(review["priority"], 1), due, str(row["id"])


def entry_of(row: Json) -> Entry:
    """What the index has of a row."""
    review = review_in(row)
    claim = review["claim"]
    until = 0.0 if claim is None else float(claim["until"])
    return Entry(place_of(row), row["tenant"], review["group"] or "", row["chain"], until)


def as_cursor(place: Place) -> str:
    """A place for a client to come back with."""
    rank, due, task = place
    raw = strict_json.dumps([rank, None if due == math.inf else due, task])
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def place_in(cursor: str) -> Place:
    """The place that `as_cursor` wrote. Raises ValueError for anything else."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
        rank, due, task = strict_json.loads(raw, 1024)
        if not (isinstance(rank, int) and isinstance(due, float | int | None) and isinstance(task, str)):
            raise ValueError("not a place")
    except (BadJson, binascii.Error, TypeError, ValueError):
        raise ValueError("not a cursor of a list of reviews") from None
    return rank, math.inf if due is None else float(due), task


class Waiting:
    """The index. `partitions` gives those that are here now, and may raise; `row` reads a task's latest row."""

    def __init__(
        self,
        rows: Rows,
        partitions: Callable[[], Iterable[int]],
        row: Callable[[int, bytes], Json | None],
        of_all: int,
        most: int = MOST_KEPT,
    ) -> None:
        self._rows = rows
        self._partitions = partitions
        self._row = row
        self._of_all = of_all
        self._most = most
        self._loading = asyncio.Lock()
        self.forget()

    def forget(self) -> None:
        """The partitions go to other owners."""
        self._entries: dict[tuple[str, str], Entry] = {}
        self._orders: dict[str, list[Entry]] = {}
        self._loaded: set[int] = set()
        self._cut: set[str] = set()

    def changed(self, row: Json) -> None:
        """A row was written."""
        self._take(row)

    async def page(self, tenant: str, query: Query) -> tuple[list[Json], bool]:
        """The rows of held tasks in order, and whether those that are kept in order are all."""
        async with self._loading:
            if tenant in self._cut and len(self._orders.get(tenant, ())) < self._most // 2:
                self.forget()
            for partition in sorted(self._partitions()):
                if partition not in self._loaded:
                    await self._load(partition)
        return list(self._found(tenant, query)), tenant not in self._cut

    def _found(self, tenant: str, query: Query) -> Iterator[Json]:
        order, left = self._orders.get(tenant, []), query.limit
        start = 0 if query.after is None else bisect_right(order, query.after, key=_place)
        for entry in order[start:]:
            if left <= 0:
                return
            if query.takes(entry) and (row := self._held(entry)) is not None:
                left -= 1
                yield row

    def _held(self, entry: Entry) -> Json | None:
        key = task_key(entry.tenant, entry.place[2])
        row = self._row(partition_of(key, self._of_all), key)
        return row if row is not None and row["state"] == "held" else None

    async def _load(self, partition: int) -> None:
        """Take in the held tasks of a partition. Nearly all rows are of ended ones, so few are parsed."""
        after, loaded = b"", self._loaded
        while partition in self._partitions():
            page = list(self._rows.scan(partition, after, SCANNED_AT_ONCE))
            # What is read here is no older than what `changed` has heard: a row is in the table before that hears.
            for raw in (raw for _, raw in page if HELD in raw):
                self._take(strict_json.unpack(raw))
            if len(page) < SCANNED_AT_ONCE:
                # What was forgotten meanwhile is loaded by who asks next.
                loaded.add(partition)
                return
            after = page[-1][0]
            await asyncio.sleep(0)

    def _take(self, row: Json) -> None:
        name = row["tenant"], row["id"]
        self._drop(name)
        if row["state"] != "held":
            return
        entry = entry_of(row)
        order = self._orders.setdefault(entry.tenant, [])
        insort(order, entry, key=_place)
        self._entries[name] = entry
        if len(order) > self._most:
            del self._entries[entry.tenant, order.pop().place[2]]
            self._cut.add(entry.tenant)

    def _drop(self, name: tuple[str, str]) -> None:
        entry = self._entries.pop(name, None)
        if entry is None:
            return
        order = self._orders[entry.tenant]
        del order[bisect_left(order, entry.place, key=_place)]
        if not order:
            del self._orders[entry.tenant]


def _place(entry: Entry) -> Place:
    return entry.place
