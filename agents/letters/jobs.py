"""Letters by the thousand, redriven, discarded or edited: a job has a part in each partition, whose owner carries it
out at its share of the rate.

A part is a row: what is wanted, how far it has come, whether it goes on. For each letter that fits it sends a command,
whose id is made of job, letter and run: after a crash the last ones are sent again, and decided once. A letter that it
cannot be done to is left as it is, and the part says why.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from callstream.agents.letters.commands import Command, Does, to_partition, to_task
from callstream.agents.letters.parts import (
    CANCELLED,
    DONE,
    RUNNING,
    command_id,
    command_of,
    does,
    due,
    job_key,
    left,
    part_of,
    wanted,
)
from callstream.agents.letters.redrive import CannotRedrive, patched, redriven
from callstream.agents.letters.store import Shelf
from callstream.agents.turns import Turns
from callstream.streams.chain import Chains
from callstream.streams.event import Event, Json
from callstream.streams.expressions import BadExpression, Expression
from callstream.streams.ownership import Claim, LostOwnership
from callstream.tables.letters import JOBS, LETTERS, UNREADABLE, condition_of, done_by
from callstream.tables.rows import Rows

log = logging.getLogger("callstream.letters")

LOOK_SECONDS = 0.25
SCANNED_IN_A_ROW = 500
"""Letters that are looked at before others get a turn."""
MOST_AT_ONCE = 100
"""Commands that are sent before their part's row is written: as many are sent again after a crash, at most."""
MOST_JOBS = 10_000
"""That are looked through for those that run; what has ended is swept."""
IS_RUNNING = b'"state":"running"'
"""How the row of a part that runs has it: rows are written compactly."""

Send = Callable[[Event, Claim], Awaitable[None]]


@dataclass(slots=True)
class JobDesk:
    """What commands make of the parts; shared with whoever carries them out, so that they take turns at a row."""

    turns: Turns = field(default_factory=Turns)

    async def told(self, command: Command, now: float, shelf: Shelf) -> None:
        """Fold a command about a job in. Raises LostOwnership, LogUnavailable."""
        if command.job is None:
            return
        key = job_key(command.job.id)
        async with self.turns.turn(key):
            part = part_of(shelf.read(key), command, now)
            if part is not None:
                await shelf.save(key, part)


@dataclass(slots=True)
class _Batch:
    """Letters that it is done to, how many it was done to before the part's row said so, those that are left as they
    are, how many were looked at for that and up to which; `ended` when there are no more.
    """

    after: bytes
    rows: list[Json] = field(default_factory=list)
    done: int = 0
    refusals: list[tuple[str, str]] = field(default_factory=list)
    looked_at: int = 0
    ended: bool = False


class JobRunner:
    """Carries out the parts of this gateway's partitions. `send` puts an event onto the topic of commands."""

    def __init__(self, rows: Rows, partitions: int, desk: JobDesk, send: Send, chains: Chains) -> None:
        self._chains = chains
        self._rows = rows
        self._partitions = partitions
        self._desk = desk
        self._send = send
        self._looked: dict[tuple[int, bytes], float] = {}

    async def run(self) -> None:
        """Carry out until cancelled."""
        while True:
            for partition in self._rows.open_partitions():
                try:
                    await self.look(partition, time.time())
                except LostOwnership:
                    self._looked.clear()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self, partition: int, now: float) -> None:
        """Take each running part of a partition one batch on. Raises LostOwnership, LogUnavailable."""
        shelf = Shelf(self._rows, self._rows.claim(partition))
        parts = list(self._rows.scan(partition, JOBS, MOST_JOBS))
        for key in [key for key, raw in parts if key.startswith(JOBS) and IS_RUNNING in raw]:
            async with self._desk.turns.turn(key):
                await self._take_on(shelf, key, now)

    async def _take_on(self, shelf: Shelf, key: bytes, now: float) -> None:
        part = shelf.read(key)
        if part is None or part["state"] != RUNNING:
            return
        try:
            condition = condition_of(part["where"]) if part["where"] else None
        except BadExpression as error:
            await shelf.save(key, {**part, "state": CANCELLED, "changed": now, "refused": str(error)})
            return
        room = self._room((shelf.claim.partition, key), part, now)
        if is_new := part["matched"] is None:
            part = {**part, "matched": await self._count(shelf, part, condition)}
        batch = self._batch(shelf, part, condition, room)
        await asyncio.gather(*(self._send(self._command(shelf, part, row, now), shelf.claim) for row in batch.rows))
        if is_new or batch.looked_at or batch.ended:
            moved = {"after": batch.after.decode(), "sent": part["sent"] + len(batch.rows) + batch.done}
            moved |= left(part, batch.refusals)
            moved |= {"looked_at": part["looked_at"] + batch.looked_at, "state": DONE if batch.ended else RUNNING}
            await shelf.save(key, {**part, **moved, "changed": now})

    def _batch(self, shelf: Shelf, part: Json, condition: Expression | None, room: int) -> "_Batch":
        """The next letters of a part, up to the first one that there is no room for."""
        batch = _Batch(part["after"].encode(), ended=True)
        for letter, row in shelf.scan(LETTERS, batch.after, SCANNED_IN_A_ROW):
            batch.ended = False
            if (entry := done_by(row, command_id(part, row))) is not None:
                if "refused" in entry:
                    batch.refusals.append((row["task"], entry["refused"]))
                else:
                    batch.done += 1
            elif wanted(part, row, condition):
                if (why := self._refused(shelf, part, letter, row)) is not None:
                    batch.refusals.append((row["task"], why))
                elif len(batch.rows) == room:
                    break
                else:
                    batch.rows.append(row)
            batch.after, batch.looked_at = letter, batch.looked_at + 1
        return batch

    def _command(self, shelf: Shelf, part: Json, row: Json, now: float) -> Event:
        command = command_of(part, row)
        if row["letter"] == UNREADABLE:
            return to_partition(command, shelf.claim.partition, self._partitions, now)
        return to_task(command, row, now)

    def _refused(self, shelf: Shelf, part: Json, letter: bytes, row: Json) -> str | None:
        """Why it cannot be done to a letter; None if it can."""
        if does(part) is Does.DISCARD:
            return None
        event = shelf.event(letter)
        if event is None:
            return "its event is not kept any more"
        try:
            if does(part) is Does.EDIT:
                patched(event, part["patch"], self._chains)
            else:
                redriven(event, command_of(part, row), part["changed"], self._chains)
        except CannotRedrive as error:
            return str(error)
        return None

    async def _count(self, shelf: Shelf, part: Json, condition: Expression | None) -> int:
        """How many letters are the job's as it begins."""
        count, after = 0, b""
        while found := list(shelf.scan(LETTERS, after, SCANNED_IN_A_ROW)):
            count += sum(wanted(part, row, condition) for _, row in found)
            after = found[-1][0]
            await asyncio.sleep(0)
        return count

    def _room(self, place: tuple[int, bytes], part: Json, now: float) -> int:
        """How many commands a part may send now: those that have come due since the last look, at most a batch."""
        before = max(self._looked.get(place, now), part["changed"])
        self._looked[place] = now
        come = due(part, place[0], self._partitions, now)
        if part["matched"] is None:
            return min(1, come)
        most = max(1, int(min(part["rate"] / self._partitions, MOST_AT_ONCE)))
        return max(0, min(most, come - due(part, place[0], self._partitions, before)))
