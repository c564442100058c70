"""The desk for dead letters: keeps them as rows, and carries out what people decide about them.

It reads two topics of the same key: dead events and commands. A command is decided once: its row is on the log before
anything follows from it, and when it comes again what follows is sent again, with the same ids.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from callstream.agents.letters.commands import Action, Command, command_of
from callstream.agents.letters.jobs import JobDesk
from callstream.agents.letters.redrive import CannotRedrive, edited, patched, redriven, refusal
from callstream.agents.letters.store import Shelf
from callstream.agents.ports import Delivery, Policy
from callstream.streams.chain import Attempts, Cell, Chains
from callstream.streams.event import LETTER_COMMAND, TASK_DEAD, Event, Json
from callstream.streams.letters import is_unreadable
from callstream.streams.outcome import Keep, Outcome, Redo
from callstream.streams.ownership import Claim, LostOwnership
from callstream.streams.wire import LogUnavailable
from callstream.tables import letters
from callstream.tables.durable import TableCell
from callstream.tables.letters import DISCARDED, REDRIVEN, WAITING, audited, done_by, letter_key
from callstream.tables.rows import Rows

log = logging.getLogger("callstream.letters")

SERVICE = "letters"
NOTHING = Keep()
LONGEST_SECONDS = 600.0
TaskRow = Callable[[int, bytes], Json | None]
"""The row of a task, by partition and key, as the gateway has it."""


class LetterDesk:
    """The role that stands over the table of letters. `clock` gives epoch seconds."""

    service = SERVICE
    stateful = True

    def __init__(self, chains: Chains, task_row: TaskRow, jobs: JobDesk, clock: Callable[[], float]) -> None:
        self._chains = chains
        self._task_row = task_row
        self._jobs = jobs
        self._clock = clock

    def policy(self, event: Event) -> Policy:
        """One try: what fails here is the log, and that stops the worker."""
        return Policy(SERVICE, Attempts(most=1), LONGEST_SECONDS, ends_task=False, traced=False)

    async def act(self, event: Event, state: Cell) -> Outcome:
        """A letter is kept, a command carried out."""
        shelf = _shelf(state)
        if event.type == LETTER_COMMAND:
            return await self._command(event, shelf)
        if event.type == TASK_DEAD:
            await self._keep(event, shelf)
        return Keep()

    async def unreadable(self, delivery: Delivery, rows: Rows, claim: Claim) -> None:
        """Keep the letter of a record that no service could read. Raises LostOwnership, LogUnavailable."""
        told = dict(delivery.headers)
        if not is_unreadable(delivery.headers):
            log.warning("%s/%d@%d is no letter", delivery.topic, delivery.partition, delivery.offset)
            return
        place = (told.get("ce_id") or b"").decode("utf-8", "replace").replace("/", "~")[:400]
        reason = (told.get("ce_reason") or b"").decode("utf-8", "replace")
        shelf, key = Shelf(rows, claim), letter_key(letters.UNREADABLE, "", place)
        row = letters.unreadable_row(shelf.read(key), place, reason, delivery.value or b"", self._clock())
        await shelf.save(key, row)

    async def _keep(self, event: Event, shelf: Shelf) -> None:
        key = letter_key(letters.kind_of(event), event.tenant, event.task)
        try:
            before = shelf.read(key)
            row = letters.fold(before, event)
            if row is not before:
                await shelf.save_event(key, event, row["died"])
            # Also one that is there: it may be on this disk and not on the log, left by a process that was killed.
            await shelf.save(key, row)
        except (LostOwnership, LogUnavailable):
            raise
        except Exception:
            # A letter that is buried for this would come back here: it stays on its topic.
            log.exception("a dead letter is not kept in the table", extra={"task": event.task, "tenant": event.tenant})

    async def _command(self, event: Event, shelf: Shelf) -> Outcome:
        command = command_of(event)
        if command.job is not None:
            await self._jobs.told(command, event.time, shelf)
            return Keep()
        key = letter_key(command.letter, command.tenant, command.task)
        row = shelf.read(key)
        if row is None:
            log.warning("command %s is about a letter that is not kept any more", command.id)
            return Keep()
        dead = shelf.event(key)
        decided = self._decided(row, dead, command, event.time, shelf.claim.partition)
        if decided.event is not None:
            await shelf.save_event(key, decided.event, row["died"])
        await shelf.save(key, decided.row)
        return decided.outcome

    def _decided(self, row: Json, dead: Event | None, command: Command, now: float, partition: int) -> "_Decided":
        if done_by(row, command.id) is not None:
            return _Decided(row, outcome=self._follows(row, dead, command))
        entry: Json = {"at": now, "by": command.by, "action": str(command.action), "command": command.id}
        if command.reason:
            entry["reason"] = command.reason
        task = self._task_row(partition, dead.key) if dead is not None else None
        try:
            return self._carried_out(row, dead, command, entry, task)
        except CannotRedrive as error:
            return _Decided(audited(row, entry | {"refused": str(error)[:1000]}))

    def _carried_out(
        self, row: Json, dead: Event | None, command: Command, entry: Json, task: Json | None
    ) -> "_Decided":
        if command.action is Action.DISCARD:
            if row["state"] != WAITING:
                raise CannotRedrive(f"it was {row['state']} already")
            if row["run"] != command.run:
                raise CannotRedrive(f"its task has failed again since, in run {row['run']}: look at it anew")
            return _Decided(audited(row, entry) | {"state": DISCARDED})
        if why := refusal(row, command, task):
            raise CannotRedrive(why)
        if dead is None:
            raise CannotRedrive("its event is not kept any more")
        if command.action is Action.EDIT:
            if command.patch is not None:
                changed = patched(dead, command.patch, self._chains)
            else:
                changed = edited(dead, command.input or {}, self._chains)
            return _Decided(audited(row, entry) | {"edited": True}, event=changed)
        again = redriven(dead, command, entry["at"], self._chains)
        told = entry | {"run": again.run} | ({"from_step": command.from_step} if command.from_step else {})
        redrive = {"command": command.model_dump(mode="json", exclude_defaults=True), "at": entry["at"]}
        return _Decided(audited(row, told) | {"state": REDRIVEN, "redrive": redrive}, outcome=Redo(again))

    def _follows(self, row: Json, dead: Event | None, command: Command) -> Outcome:
        """What follows from a command that was decided before: its event once more, if it is not back here already."""
        redrive = row["redrive"]
        if row["state"] != REDRIVEN or redrive is None or redrive["command"]["id"] != command.id or dead is None:
            return Keep()
        try:
            return Redo(redriven(dead, Command.model_validate(redrive["command"]), redrive["at"], self._chains))
        except CannotRedrive as error:
            log.warning("command %s was carried out and cannot be again: %s", command.id, error)
            return Keep()


@dataclass(frozen=True, slots=True)
class _Decided:
    """A row, its letter's event where that changes, and what follows once both are on the log."""

    row: Json
    event: Event | None = None
    outcome: Outcome = NOTHING


def _shelf(state: Cell) -> Shelf:
    if not isinstance(state, TableCell):
        raise TypeError("the desk needs a table's cell: it is told there which claim to write under")
    return Shelf(state.table, state.claim)
