"""What the review service does with its two topics: fold, save, and give what follows from the row."""

from collections.abc import Callable

from callstream.agents.control.commands import Cancel, Subject, reason_of
from callstream.agents.review.fold import (
    CANCELLED,
    EARLY,
    HELD,
    Looked,
    early_in,
    early_row,
    held_event,
    held_row,
    held_subject,
    hold_of,
    review_of,
    said_row,
    shown,
    takes,
)
from callstream.agents.review.outcome import outcome_of
from callstream.agents.review.said import Due, Said, Verdict, command_event, said_in
from callstream.streams.chain import Cell, Chains, Step
from callstream.streams.edits import edited
from callstream.streams.event import VERDICT as VERDICT_TYPE
from callstream.streams.event import Event, Json
from callstream.streams.outcome import Keep, Outcome, Redo, Resume, Reviewed


class ReviewDesk:
    """Keeps held tasks, and carries out what is said about them.

    `cancel_of` says by which command a held task is cancelled: whatever comes first then ends it. `chains` has the
    steps that hold: they say where a task may go back to, and judge edited texts once more.
    """

    def __init__(
        self, cancel_of: Callable[[Subject], Cancel | None] = lambda _held: None, chains: Chains | None = None
    ) -> None:
        self._cancel_of = cancel_of
        self._chains = chains

    async def review(self, event: Event, cell: Cell) -> Outcome:
        """What follows from an event, with what those who show the task are told of it, and the timer for its end."""
        then = await self.act(event, cell)
        row = cell.value
        if row is None or row["state"] == EARLY or hold_of(row) != (event.run, event.sequence):
            return then
        review = review_of(row)
        due: tuple[Event, float] | None = None
        if event.type != VERDICT_TYPE and row["state"] == HELD and review["due"] is not None:
            due = command_event(event, Due(at=review["due"]), review["due"]), review["due"]
        told = shown(row) if review["audit"] else None
        return then if told is None and due is None else Reviewed(then, told, due)

    async def act(self, event: Event, cell: Cell) -> Keep | Resume | Redo:
        """Take in a held task or what is said about one, told apart by the event's type."""
        row = await (self._said if event.type == VERDICT_TYPE else self._held)(event, cell.value)
        # A verdict that comes after the command decides nothing any more.
        row = self._cancelled(cell.value, event) or self._cancelled(row, event) or row
        if row is None:
            return Keep()
        if row != cell.value:
            await cell.save(row)
        return outcome_of(row, event.sequence, event.run)

    async def open(self, tools: object) -> None:
        """Make the steps ready that judge edited texts."""
        for step in self._judges():
            await step.open(tools)

    async def close(self) -> None:
        """Let them give back what they took."""
        for step in self._judges():
            await step.close()

    async def _held(self, event: Event, before: Json | None) -> Json:
        row = held_row(event, before)
        for said in early_in(event, before):
            row = said_row(row, said, await self._looked(row, said))
        return row

    async def _said(self, event: Event, before: Json | None) -> Json | None:
        if before is None or not takes(event, before):
            return early_row(event, before)
        said = said_in(event)
        return said_row(before, said, await self._looked(before, said))

    async def _looked(self, row: Json, said: Said) -> Looked:
        """What there is to know beside the row: of a verdict that edits or sends back. Raises MissingVersion."""
        try:
            verdict = said.command()
        except ValueError:
            return Looked()
        if not isinstance(verdict, Verdict) or self._chains is None:
            return Looked()
        held = held_event(row)
        review = review_of(row)
        if review["regenerate"] is not None and verdict.verdict == "regenerate":
            chain = self._chains.get(held.chain, held.version)
            return Looked(back=chain.sequence_of(review["regenerate"], held.sequence - 1))
        if not verdict.edits or any(step not in held.body.outputs for step in verdict.edits):
            return Looked()
        step = self._chains.get(held.chain, held.version).step(held.sequence - 1)
        if step is None or not step.rechecks:
            return Looked()
        texts = edited(edited(held.body.outputs, review["edits"]), verdict.edits)
        after = held.changed(sequence=held.sequence - 1).with_body(outputs=texts)
        return Looked(against=await step.recheck(after))

    def _judges(self) -> list[Step]:
        steps = [step for chain in self._chains or () for step in chain.steps if step.rechecks]
        return list({id(step): step for step in steps}.values())

    def _cancelled(self, row: Json | None, event: Event) -> Json | None:
        """The row of the event's hold after the command to cancel its task; None if there is none."""
        if row is None or not takes(event, row):
            return None
        cancel = self._cancel_of(held_subject(row))
        if cancel is None:
            return None
        said = {"cancelled": reason_of(cancel), "rollback": cancel.rollback, "decided": cancel.at}
        return {**row, "state": CANCELLED, **said}
