"""Joins whose time is over, or whose task is cancelled: found by their entries in the order of time, and told so by an
event of their own.

The event goes the way of all others, so it is handled once it is on the log, whoever owns the partition by then; told
twice, it changes nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

from callstream.agents.aside import Job
from callstream.agents.joining import fold
from callstream.agents.joining.desk import CancelOf
from callstream.agents.joining.rows import DUE, Due, JoinRows, due_of
from callstream.streams.event import TASK_JOIN_DUE, Event, Json
from callstream.streams.ownership import Claim, LostOwnership
from callstream.streams.topics import JOIN, topic_of
from callstream.streams.wire import Record, encode
from callstream.tables.rows import Rows

LOOK_SECONDS = 0.5
AGAIN_SECONDS = 30.0
"""How long a join that was told may take until it is told again."""
MOST_AT_ONCE = 200

SCANNED_IN_A_ROW = 200

Send = Callable[[Record, Claim], Awaitable[None]]


class DueLook:
    """Goes round the partitions of the table `joins`. `send` produces a record under a claim.

    `cancel_of` says by which command a task is cancelled.
    """

    def __init__(
        self, table: Rows, send: Send, clock: Callable[[], float], cancel_of: CancelOf = lambda _waiting: None
    ) -> None:
        self._table = table
        self._send = send
        self._clock = clock
        self._cancel_of = cancel_of
        self._told: dict[bytes, float] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            for partition in self._table.open_partitions():
                try:
                    await self.look(partition)
                except LostOwnership:
                    continue
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self, partition: int) -> None:
        """Tell what is due in a partition, and forget what was decided. Raises LostOwnership, LogUnavailable."""
        claim, now = self._table.claim(partition), self._clock()
        self._told = {key: at for key, at in self._told.items() if at + AGAIN_SECONDS > now}
        for key, _ in list(self._table.scan(partition, DUE, MOST_AT_ONCE)):
            if not key.startswith(DUE) or (due := due_of(key)).until > now:
                return
            rows = JoinRows(self._table, claim, due.task)
            if not _is_open(rows, due):
                await self._table.write(claim, key, None)
            else:
                await self._tell(key, rows, due, {})

    async def cancelled(self) -> AsyncIterator[list[Job]]:
        """Tell the joins of cancelled tasks that these end; no job of the actor's own. O(n) of all that wait."""
        for partition in self._table.open_partitions():
            with suppress(LostOwnership):
                await self._look_for_cancelled(partition)
        yield []

    async def _look_for_cancelled(self, partition: int) -> None:
        claim, after = self._table.claim(partition), DUE
        while page := [key for key, _ in self._table.scan(partition, after, SCANNED_IN_A_ROW) if key.startswith(DUE)]:
            for key in page:
                due = due_of(key)
                rows = JoinRows(self._table, claim, due.task)
                waiting = fold.waiting(rows.row(), due.task) if _is_open(rows, due) else None
                if waiting is not None and (cancel := self._cancel_of(waiting)) is not None:
                    await self._tell(key, rows, due, {fold.CANCEL: fold.told_of(cancel)})
            after = page[-1]
            await asyncio.sleep(0)

    async def _tell(self, key: bytes, rows: JoinRows, due: Due, outputs: dict[str, Json]) -> None:
        if key not in self._told:
            self._told[key] = self._clock()
            await self._send(encode(_remark(rows, due, outputs), topic_of(JOIN)), rows.claim)


def _is_open(rows: JoinRows, due: Due) -> bool:
    """Whether the join waits, and until then: a repeat may have left an entry of another time."""
    row = rows.row()
    return (
        row is not None
        and row["mark"] == due.mark
        and not row["decided"]
        and row["until"] is not None
        and abs(row["until"] - due.until) < 0.001
    )


def _remark(rows: JoinRows, due: Due, outputs: dict[str, Json]) -> Event:
    """Whatever is known about the task by whoever reads it is in its row."""
    event = rows.waiting(due.mark).event
    bare = event.body.submission.model_copy(update={"input": {}})
    told = event.with_body(submission=bare, outputs=outputs, trail=(), additions={})
    return told.changed(type=TASK_JOIN_DUE, deadline=None, attempt=1)
