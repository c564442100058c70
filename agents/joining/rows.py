"""The rows of the table `joins`: of each task its join, the task as it waits, and what each sub-task gave.

Keys: `row/KEY`, `task/KEY/MARK`, `part/KEY/MARK/NUMBER`, and `due/UNTIL/MARK/KEY`, which is in the order of
time, so that what is due is found without looking at the rest.
"""

import time
from dataclasses import dataclass

from callstream.agents.joining.fold import mark_of
from callstream.agents.joining.step import DAY, LONGEST_WAIT_SECONDS
from callstream.streams import strict_json
from callstream.streams.chain import Cell
from callstream.streams.event import Event, Json
from callstream.streams.ownership import Claim
from callstream.streams.wire import STRUCTURED_TYPE, as_json, decode
from callstream.tables.durable import TableCell
from callstream.tables.rows import Rows

DUE = b"due/"
KEPT_SECONDS = LONGEST_WAIT_SECONDS + DAY
"""Rows of a join are kept longer than any join waits."""


@dataclass(frozen=True, slots=True)
class Due:
    """One entry of what is due: until when (epoch seconds) the join of that mark of a task waits."""

    until: float
    mark: str
    task: bytes

    @property
    def key(self) -> bytes:
        """Its key: in the order of time."""
        return DUE + f"{self.until:017.3f}/{self.mark}/".encode() + self.task


def due_of(key: bytes) -> Due:
    """The entry of a key that begins with `DUE`."""
    _, until, mark, task = key.split(b"/", 3)
    return Due(float(until), mark.decode(), task)


def row_key(task: bytes) -> bytes:
    """The key of a task's join."""
    return b"row/" + task


def expired(key: bytes, row: Json, now: float) -> bool:
    """Rows past any use; what is due is removed when it has come."""
    return not key.startswith(DUE) and float(row["at"]) + KEPT_SECONDS < now


@dataclass(slots=True)
class JoinRows:
    """The rows of one task, under the claim of the event that is worked on.

    Writing raises LostOwnership, LogUnavailable.
    """

    table: Rows
    claim: Claim
    key: bytes

    def row(self) -> Json | None:
        """The task's join, or None."""
        return self._read(row_key(self.key))

    async def save(self, row: Json) -> None:
        """Write the join."""
        await self._write(row_key(self.key), row)

    async def wait(self, event: Event, until: float) -> None:
        """Keep the task itself, and when its wait is over."""
        await self._write(self._of(b"task", mark_of(event)), {"event": as_json(event)})
        await self._write(Due(until, mark_of(event), self.key).key, {})

    async def keep(self, mark: str, number: int, given: Json) -> None:
        """Keep what a sub-task gave."""
        await self._write(self._part(mark, number), {"given": given})

    def waiting(self, mark: str) -> "Waiting":
        """The task that waits, with what its sub-tasks gave."""
        kept = self._read(self._of(b"task", mark)) or {}
        event = decode(strict_json.dumps(kept["event"]), [("content-type", STRUCTURED_TYPE.encode())])
        return Waiting(event, self, mark)

    def part(self, mark: str, number: int) -> Json:
        """What a sub-task gave."""
        return dict((self._read(self._part(mark, number)) or {})["given"])

    def _of(self, kind: bytes, mark: str) -> bytes:
        return kind + b"/" + self.key + f"/{mark}".encode()

    def _part(self, mark: str, number: int) -> bytes:
        return self._of(b"part", mark) + f"/{number:04d}".encode()

    def _read(self, key: bytes) -> Json | None:
        raw = self.table.read(self.claim.partition, key)
        return None if raw is None else strict_json.unpack(raw)

    async def _write(self, key: bytes, row: Json) -> None:
        await self.table.write(self.claim, key, strict_json.dumps({**row, "at": time.time()}))


def rows_of(cell: Cell) -> JoinRows:
    """The rows of a task's join, under the claim of its cell. Raises TypeError for one of no table."""
    if not isinstance(cell, TableCell):
        raise TypeError("a join needs a table")
    return JoinRows(cell.table, cell.claim, cell.key)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A task that waits at a join."""

    event: Event
    rows: JoinRows
    mark: str

    def given(self, number: int) -> Json:
        """What a sub-task of it gave."""
        return self.rows.part(self.mark, number)
