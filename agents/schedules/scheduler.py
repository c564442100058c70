"""The service `schedule`: it obeys commands to schedules and hands in a task for each occurrence that is due.

A task is handed in before the row says so. Its id is made of the schedule's name and the occurrence's time, so after a
crash in between it is handed in again and intake knows it: each occurrence has one effect.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from callstream.agents.ports import Policy
from callstream.agents.schedules.command import Action, BadCommand, Command, UnknownSchedule, apply, read_command
from callstream.agents.schedules.schedule import Schedule, fire, read_row, suffix_of
from callstream.agents.turns import Turns
from callstream.streams import strict_json
from callstream.streams.chain import Attempts, Cell, Chains, InvalidInput, UnknownChain
from callstream.streams.event import Event, Failure
from callstream.streams.outcome import Bury, Keep, Outcome
from callstream.streams.ownership import Claim, LostOwnership
from callstream.streams.wire import LogUnavailable
from callstream.tables.durable import TableCell
from callstream.tables.rows import Rows

log = logging.getLogger("callstream.schedule")

SERVICE = "schedule"
LOOK_SECONDS = 0.25
AGAIN_SECONDS = 60.0
"""After which a schedule that could not be fired, by a bug, is looked at again."""
MOST_SCHEDULES = 10_000
FIRED_AT_ONCE = 256
SCANNED_IN_A_ROW = 200
NEVER = float("inf")

Submit = Callable[[Event, Claim], Awaitable[None]]
"""Puts the event of a new task onto intake's topic; done once the log has it. Raises LostOwnership, LogUnavailable."""


class Scheduler:
    """Schedules of the partitions that this worker owns, over the table `schedules`. `clock` gives epoch seconds.

    When each is due is kept in memory, so that a look costs no reading; the row alone says what is fired.
    """

    policy = Policy(SERVICE, Attempts(), ends_task=False, traced=False)

    def __init__(self, rows: Rows, submit: Submit, chains: Chains, clock: Callable[[], float]) -> None:
        self._rows = rows
        self._submit = submit
        self._chains = chains
        self._clock = clock
        self._turns = Turns()
        self._due: dict[int, dict[bytes, float]] = {}
        self._open: set[int] = set()
        self._generation = 0

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Obey a command, after what was due until then has been fired. One that cannot be obeyed is buried."""
        cell = _table_cell(state)
        try:
            command = read_command(event)
            self._check(command)
            async with self._turns.turn(event.key):
                await self._obey(command, await self._fire(cell), cell)
        except (BadCommand, UnknownChain, InvalidInput, UnknownSchedule) as error:
            return Bury(Failure(kind=_KINDS[type(error)], message=str(error)[:2000]), ends_task=False)
        return Keep()

    async def run(self) -> None:
        """Fire what is due, until cancelled."""
        while True:
            for partition in self._rows.open_partitions():
                await self._read(partition)
                await self.look(partition)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self, partition: int) -> None:
        """Fire what is due in one partition now."""
        now = self._clock()
        due = [key for key, moment in self._due.get(partition, {}).items() if moment <= now]
        for start in range(0, len(due), FIRED_AT_ONCE):
            await asyncio.gather(*(self._fire_key(partition, key) for key in due[start : start + FIRED_AT_ONCE]))

    def forget(self) -> None:
        """The partitions go to other owners."""
        self._generation += 1
        self._open.clear()
        self._due.clear()

    def _check(self, command: Command) -> None:
        """Raises UnknownChain, InvalidInput for what only intake would find out, at each occurrence."""
        if command.spec is not None:
            self._chains.current(command.spec.chain).validate_input(command.spec.input)

    async def _obey(self, command: Command, schedule: Schedule | None, cell: TableCell) -> None:
        now = self._clock()
        if schedule is not None and command.id in schedule.applied:
            # The row may be on this disk and not on the log, left there by a process that was killed.
            await self._save(cell, schedule)
            return
        if schedule is None and command.action is Action.SET and self._count() >= MOST_SCHEDULES:
            raise BadCommand(f"this worker has {MOST_SCHEDULES:,} schedules; remove some before others are set")
        after = apply(schedule, command, now)
        if command.action is Action.TRIGGER and schedule is not None:
            await self._submit(schedule.task(command.trigger_suffix, now), cell.claim)
        await self._save(cell, after)

    async def _fire(self, cell: TableCell) -> Schedule | None:
        """Hand in the tasks that are due, then save the row; gives the schedule after that."""
        schedule = None if cell.value is None else read_row(cell.value)
        if schedule is None:
            self._note(cell, None)
            return None
        now = self._clock()
        firing = fire(schedule, now)
        await asyncio.gather(
            *(self._submit(schedule.task(suffix_of(one), now), cell.claim) for one in firing.occurrences)
        )
        if firing.missed:
            log.warning(
                "schedule %s of %s missed its time: %s, so %d of what was due is handed in",
                *(schedule.name, schedule.tenant, schedule.misfire, len(firing.occurrences)),
            )
        if firing.schedule != schedule:
            await self._save(cell, firing.schedule)
        self._note(cell, firing.schedule)
        return firing.schedule

    async def _fire_key(self, partition: int, key: bytes) -> None:
        """Fire one schedule; a bug in one keeps no other from its time."""
        try:
            cell = TableCell(self._rows, self._rows.claim(partition), key)
            async with self._turns.turn(key):
                await self._fire(cell)
        except LostOwnership:
            return
        except LogUnavailable:
            raise
        except Exception:
            log.exception("schedule %s cannot be fired; it is looked at again in a minute", key.decode())
            self._due.get(partition, {})[key] = self._clock() + AGAIN_SECONDS

    async def _save(self, cell: TableCell, schedule: Schedule | None) -> None:
        if schedule is None:
            await cell.table.write(cell.claim, cell.key, None)
        else:
            await cell.save(schedule.row())
        self._note(cell, schedule)

    def _note(self, cell: TableCell, schedule: Schedule | None) -> None:
        due = self._due.setdefault(cell.claim.partition, {})
        if schedule is None:
            due.pop(cell.key, None)
        else:
            due[cell.key] = _due_of(schedule)

    def _count(self) -> int:
        return sum(map(len, self._due.values()))

    async def _read(self, partition: int) -> None:
        """Note when each schedule of a partition that has come is due, once."""
        if partition in self._open:
            return
        generation, after = self._generation, b""
        while rows := list(self._rows.scan(partition, after, SCANNED_IN_A_ROW)):
            due = self._due.setdefault(partition, {})
            for key, raw in rows:
                schedule = read_row(strict_json.unpack(raw))
                if schedule is None:
                    log.warning("schedule %s: this version cannot read its row; set it anew or remove it", key.decode())
                else:
                    due[key] = _due_of(schedule)
            after = rows[-1][0]
            await asyncio.sleep(0)
            if generation != self._generation:
                return
        self._open.add(partition)


def _due_of(schedule: Schedule) -> float:
    return NEVER if schedule.paused or schedule.next_due is None else schedule.next_due


def _table_cell(state: Cell) -> TableCell:
    if not isinstance(state, TableCell):
        raise TypeError("schedules need a table's cell: it is told there which claim to write under")
    return state


_KINDS: dict[type[Exception], str] = {
    BadCommand: "bad-command",
    UnknownChain: "unknown-chain",
    InvalidInput: "invalid-input",
    UnknownSchedule: "unknown-schedule",
}
