"""Cancelled tasks that wait for long: held ones are given to the review desk once more, those that the timer has are
sent to where they end.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

from callstream.agents.aside import Job
from callstream.agents.control.commands import Subject
from callstream.agents.control.controls import subject_in
from callstream.agents.review import held_event, held_subject
from callstream.agents.timer import Releaser
from callstream.streams import strict_json
from callstream.streams.ownership import Claim, LostOwnership
from callstream.streams.topics import REVIEW, topic_of
from callstream.streams.wire import Record, encode
from callstream.tables.rows import Rows

SCANNED_IN_A_ROW = 200
AGAIN_SECONDS = 30.0
"""How long the desk may take with a held task until it is told again."""


class Holds:
    """Held tasks in the table of reviews. `send` produces a record under a claim.

    The desk is told by the held event itself, once more on its topic: a desk that is killed before the end of the task
    is on the log reads it again.
    """

    def __init__(self, rows: Rows, send: Callable[[Record, Claim], Awaitable[None]]) -> None:
        self._rows = rows
        self._send = send
        self._told: dict[bytes, float] = {}

    async def cancelled(self, wanted: Callable[[Subject | None], bool]) -> AsyncIterator[list[Job]]:
        """Have the desk read again those whose tasks are wanted: no job of the actor's own."""
        now = time.monotonic()
        self._told = {key: at for key, at in self._told.items() if at + AGAIN_SECONDS > now}
        for partition in self._rows.open_partitions():
            with suppress(LostOwnership):
                await self._look(partition, wanted, now)
        yield []

    async def _look(self, partition: int, wanted: Callable[[Subject | None], bool], now: float) -> None:
        claim, after = self._rows.claim(partition), b""
        while scanned := list(self._rows.scan(partition, after, SCANNED_IN_A_ROW)):
            for key, raw in scanned:
                row = strict_json.unpack(raw)
                if row["state"] == "held" and key not in self._told and wanted(held_subject(row)):
                    self._told[key] = now
                    await self._send(encode(held_event(row), topic_of(REVIEW)), claim)
            after = scanned[-1][0]
            await asyncio.sleep(0)


async def cancelled_timers(releaser: Releaser, wanted: Callable[[Subject | None], bool]) -> AsyncIterator[list[Job]]:
    """Have the timer send what is wanted to its step, which ends it: no job of the timer's own."""
    await releaser.release_early(lambda record: wanted(subject_in(record.headers)))
    yield []
