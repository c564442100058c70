"""Joins whose time is over: found by their entries in the order of time, and told so by an event of their own.

The event goes the way of all others, so it is handled once it is on the log, whoever owns the partition by then; told
twice, it changes nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from callstream.agents.joining.rows import DUE, Due, JoinRows, due_of
from callstream.streams.event import TASK_JOIN_DUE, Event
from callstream.streams.ownership import Claim, LostOwnership
from callstream.streams.topics import JOIN, topic_of
from callstream.streams.wire import Record, encode
from callstream.tables.rows import Rows

LOOK_SECONDS = 0.5
AGAIN_SECONDS = 30.0
"""How long a join that was told may take until it is told again."""
MOST_AT_ONCE = 200

Send = Callable[[Record, Claim], Awaitable[None]]


class DueLook:
    """Goes round the partitions of the table `joins`. `send` produces a record under a claim."""

    def __init__(self, table: Rows, send: Send, clock: Callable[[], float]) -> None:
        self._table = table
        self._send = send
        self._clock = clock
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
            elif key not in self._told:
                self._told[key] = now
                await self._send(encode(_remark(rows, due), topic_of(JOIN)), claim)


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


def _remark(rows: JoinRows, due: Due) -> Event:
    """Whatever is known about the task by whoever reads it is in its row."""
    event = rows.waiting(due.mark).event
    bare = event.body.submission.model_copy(update={"input": {}})
    told = event.with_body(submission=bare, outputs={}, trail=(), additions={})
    return replace(told, type=TASK_JOIN_DUE, deadline=None, attempt=1)
