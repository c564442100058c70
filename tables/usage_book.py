"""The table `usage` of one gateway: spends of steps added to the rows of their day, each step once.

Its rows are written before those of their tasks. If the worker ends in between, a task's row does not know of the step
and the step comes again, while the row here remembers its mark and leaves it out. Marks are dropped from a row once the
log has the tasks' rows of their batch; those that were read with a row may be of such steps and stay for a while.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from callstream.streams import strict_json
from callstream.streams.event import Json
from callstream.streams.ownership import Claim
from callstream.streams.spend import Spend
from callstream.tables.rows import Rows
from callstream.tables.usage import UsageKey, added, keys_of

MOST_ROWS_A_DAY = 20_000
"""Of one partition; what comes beyond is counted in one row for all others."""
MOST_ROWS_IN_MEMORY = 4_096
KEEP_READ_MARKS_SECONDS = 3_600.0

Place = tuple[int, bytes]


@dataclass(slots=True)
class _Row:
    kinds: dict[str, Json] = field(default_factory=dict)
    marks: dict[str, float] = field(default_factory=dict)
    """Steps that it has counted and that may come again, each with when it may be forgotten at the latest."""

    def packed(self, now: float) -> bytes:
        self.marks = {mark: until for mark, until in self.marks.items() if until > now}
        return strict_json.pack({"kinds": self.kinds, "marks": list(self.marks)})


@dataclass(slots=True)
class Entries:
    """Rows that one batch has changed, and the marks that it set."""

    claims: dict[Place, Claim] = field(default_factory=dict)
    marks: list[tuple[Place, str]] = field(default_factory=list)


class UsageBook:
    """Counts spends. `clock` gives epoch seconds."""

    def __init__(self, rows: Rows, clock: Callable[[], float]) -> None:
        self._table = rows
        self._clock = clock
        self._rows: dict[Place, _Row] = {}
        self._known: dict[tuple[int, str], int] = {}

    def count(self, entries: Entries, claim: Claim, who: tuple[str, str], spends: tuple[Spend, ...], mark: str) -> None:
        """Add what a step of a tenant's task on a chain spent, unless its mark is there."""
        now = self._clock()
        by_row: dict[UsageKey, list[Spend]] = {}
        for key, spend in keys_of(*who, spends, now):
            by_row.setdefault(key, []).append(spend)
        for key, found in by_row.items():
            place, row = self._row(claim.partition, key, now)
            # Written even if it is left out: the row may be on this disk alone.
            entries.claims[place] = claim
            # Of several keys that share the row of all others each has its own.
            its = mark if place[1] == key.encode() else f"{mark}.{key.tenant}.{key.chain}.{key.endpoint}"
            if its in row.marks:
                continue
            row.marks[its] = float("inf")
            entries.marks.append((place, its))
            for spend in found:
                row.kinds = added(row.kinds, spend)

    def written(self, entries: Entries) -> list[tuple[Claim, bytes, bytes]]:
        """The rows as they are to be written now."""
        now = self._clock()
        return [
            (claim, place[1], self._rows[place].packed(now))
            for place, claim in entries.claims.items()
            if place in self._rows
        ]

    def confirmed(self, entries: Entries, pending: Entries | None) -> None:
        """The log has the tasks' rows too: these steps don't come again. `pending` is what is yet to be written."""
        for place, mark in entries.marks:
            if (row := self._rows.get(place)) is not None:
                row.marks.pop(mark, None)
        unwritten = pending.claims if pending is not None else {}
        for place in list(self._rows)[: max(0, len(self._rows) - MOST_ROWS_IN_MEMORY)]:
            if place not in unwritten:
                del self._rows[place]

    async def write(self, row: tuple[Claim, bytes, bytes]) -> None:
        """Write one row and wait until the log has it. Raises LostOwnership, LogUnavailable."""
        await self._table.write(*row)

    def forget(self) -> None:
        """The partitions go to other owners."""
        self._rows.clear()
        self._known.clear()

    def _row(self, partition: int, key: UsageKey, now: float) -> tuple[Place, _Row]:
        place = (partition, key.encode())
        if place not in self._rows and self._table.read(*place) is None and not self._has_room(partition, key.day):
            place = (partition, key.as_others.encode())
        row = self._rows.pop(place, None) or self._read(place, now)
        self._rows[place] = row
        return place, row

    def _read(self, place: Place, now: float) -> _Row:
        raw = self._table.read(*place)
        if raw is None:
            return _Row()
        kept = strict_json.unpack(raw)
        return _Row(kept["kinds"], dict.fromkeys(kept["marks"], now + KEEP_READ_MARKS_SECONDS))

    def _has_room(self, partition: int, day: str) -> bool:
        """Whether that day may have one more row, which it then has."""
        known = self._known.get((partition, day))
        if known is None:
            rows = self._table.scan(partition, day.encode(), MOST_ROWS_A_DAY)
            known = sum(1 for raw, _ in rows if raw.startswith(f"{day}|".encode()))
            while len(self._known) > MOST_ROWS_IN_MEMORY:
                del self._known[next(iter(self._known))]
        self._known[partition, day] = known + 1
        return known < MOST_ROWS_A_DAY
