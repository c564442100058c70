"""Human review: a held task waits as a row, holding no worker, until a verdict sends it on or ends it.

The desk reads two topics of the same key: held tasks and verdicts. A row is either `early` (a verdict that overtook
its task), `held`, `decided` or `cancelled`; a decided row keeps its verdict, and whatever arrives again is given the
same answer. A verdict names its hold by the held event's sequence, so that one for an earlier hold decides no later
one.
"""

from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints, ValidationError, model_validator

from callstream.agents.control.ancestry import ANCESTRY, above
from callstream.agents.control.commands import Cancel, Subject, reason_of
from callstream.streams import strict_json
from callstream.streams.chain import Cell, describe
from callstream.streams.event import TASK, Event, Json, Strict, Submission
from callstream.streams.event import VERDICT as VERDICT_TYPE
from callstream.streams.keys import Name
from callstream.streams.outcome import Cancelled, Finish, Forward, Keep, Outcome, Resume
from callstream.streams.wire import STRUCTURED_TYPE, as_json, decode

VERDICT = "verdict"
CANCELLED = "cancelled"
MOST_EDITED_STEPS = 16
MOST_EDITED_FIELDS = 16

EditedText = Annotated[str, StringConstraints(max_length=200_000)]
FieldName = Annotated[str, StringConstraints(min_length=1, max_length=200)]

EditedFields = Annotated[dict[FieldName, EditedText], Field(min_length=1, max_length=MOST_EDITED_FIELDS)]


class Choice(StrEnum):
    """What a reviewer may say."""

    APPROVE = "approve"
    REJECT = "reject"
    EDIT = "edit"


class Verdict(Strict):
    """A reviewer's decision about a held task; `edits` maps a step and a field of its output to the new text."""

    verdict: Choice
    reviewer: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    reason: Annotated[str, StringConstraints(max_length=2000)] = ""
    edits: dict[Name, EditedFields] = Field(default_factory=dict, max_length=MOST_EDITED_STEPS)

    @model_validator(mode="after")
    def _edits_where_they_belong(self) -> "Verdict":
        if (self.verdict is Choice.EDIT) != bool(self.edits):
            raise ValueError("edits are given with the verdict 'edit', and only with it")
        return self


def verdict_event(held: Event, verdict: Verdict, now: float) -> Event:
    """The event for the topic of verdicts: it names the hold by task and sequence and carries no more than the verdict.

    `held` is the event as it stands on the review topic.
    """
    body = held.body.model_copy(
        update={
            "submission": Submission(chain=held.chain, input={}),
            "outputs": {VERDICT: verdict.model_dump(mode="json")},
            "trail": (),
            "held": None,
        }
    )
    return replace(held, type=VERDICT_TYPE, body=body, time=now, deadline=None)


def refusal(held: Event, verdict: Verdict) -> str | None:
    """Why a verdict cannot be carried out on that task: an edit of what is not there, or is no text. None if it can."""
    for step, fields in verdict.edits.items():
        output = held.body.outputs.get(step)
        if output is None:
            known = ", ".join(sorted(held.body.outputs)) or "none"
            return f"edits.{step}: no step of that name has an output; known: {known}"
        for name in fields:
            if not isinstance(output.get(name), str):
                texts = ", ".join(sorted(key for key, value in output.items() if isinstance(value, str))) or "none"
                return f"edits.{step}.{name}: not a text of that output; its texts: {texts}"
    return None


def held_row(event: Event, row: Json | None) -> Json:
    """Fold a held task into its row. A row of the same or a later hold stays as it is."""
    if row is not None and _hold(row) == (event.run, event.sequence) and row["state"] == "early":
        return _settled({**_row(event), "refused": row.get("refused")}, event, row["verdict"], row["decided"])
    if row is not None and _hold(row) >= (event.run, event.sequence):
        return row
    return _row(event)


def verdict_row(event: Event, row: Json | None) -> Json:
    """Fold a verdict into the row of its task: the first that can be carried out decides, later ones do not count."""
    verdict = event.body.outputs.get(VERDICT, {})
    hold = (event.run, event.sequence)
    if row is None or (_hold(row) < hold and row["state"] != "held"):
        early = {"state": "early", "run": event.run, "sequence": event.sequence}
        return {**early, "verdict": verdict, "decided": event.time}
    if _hold(row) != hold or row["state"] != "held":
        return row
    return _settled(row, held_event(row), verdict, event.time)


def outcome_of(row: Json, sequence: int, run: int = 0) -> Outcome:
    """What follows from a row for an event about that hold: nothing yet, or what was decided."""
    if row["state"] not in ("decided", CANCELLED) or _hold(row) != (run, sequence):
        return Keep()
    held = held_event(row)
    if row["state"] == CANCELLED:
        before = replace(held.with_body(held=None), sequence=held.sequence - 1, type=TASK)
        return Resume(before, Cancelled(row["cancelled"], rollback=row.get("rollback", True)))
    verdict = Verdict.model_validate(row["verdict"])
    # The desk stands between the step that held and the next one, whose sequence the held event has already.
    edited = held.with_body(outputs=_edited(held, verdict), held=None)
    before = replace(edited, sequence=held.sequence - 1, type=TASK)
    said = verdict.model_dump(mode="json", exclude={"edits"})
    if verdict.verdict is Choice.REJECT:
        reason = f"rejected by {verdict.reviewer}" + (f": {verdict.reason}" if verdict.reason else "")
        return Resume(before, Finish(said, rejected=True, reason=reason[:2000]))
    if verdict.edits:
        said["edited"] = {step: sorted(fields) for step, fields in verdict.edits.items()}
    return Resume(before, Forward(said, notes=(f"{verdict.verdict} by {verdict.reviewer}"[:2000],)))


def held_event(row: Json) -> Event:
    """The held event that a row keeps."""
    raw = strict_json.dumps(row["held"])
    return decode(raw, [("content-type", STRUCTURED_TYPE.encode())])


def held_subject(row: Json) -> Subject:
    """The task of a row as commands see it."""
    higher = above(row["tenant"], row["held"].get(ANCESTRY, ""))
    return Subject(row["tenant"], row["task"], row["chain"], row["since"], "held", higher)


class ReviewDesk:
    """What the review service does with its two topics: fold, save, and give what follows from the row.

    `cancel_of` says by which command a held task is cancelled: whatever comes first then ends it.
    """

    def __init__(self, cancel_of: Callable[[Subject], Cancel | None] = lambda _held: None) -> None:
        self._cancel_of = cancel_of

    async def act(self, event: Event, cell: Cell) -> Outcome:
        """A verdict or a held task, told apart by the event's type."""
        return await (self.verdict if event.type == VERDICT_TYPE else self.hold)(event, cell)

    async def hold(self, event: Event, cell: Cell) -> Outcome:
        """Keep a held task; nothing follows, unless its verdict is there already."""
        return await self._fold(held_row(event, cell.value), event, cell)

    async def verdict(self, event: Event, cell: Cell) -> Outcome:
        """Decide about a held task, or say again what was decided."""
        return await self._fold(verdict_row(event, cell.value), event, cell)

    async def _fold(self, row: Json, event: Event, cell: Cell) -> Outcome:
        # A verdict that comes after the command decides nothing any more.
        row = self._cancelled(cell.value, event) or self._cancelled(row, event) or row
        if row != cell.value:
            await cell.save(row)
        return outcome_of(row, event.sequence, event.run)

    def _cancelled(self, row: Json | None, event: Event) -> Json | None:
        """The row of the event's hold after the command to cancel its task; None if there is none."""
        if row is None or row["state"] != "held" or _hold(row) != (event.run, event.sequence):
            return None
        cancel = self._cancel_of(held_subject(row))
        if cancel is None:
            return None
        said = {"cancelled": reason_of(cancel), "rollback": cancel.rollback, "decided": cancel.at}
        return {**row, "state": CANCELLED, **said}


def _row(event: Event) -> Json:
    return {
        "state": "held",
        "run": event.run,
        "sequence": event.sequence,
        "tenant": event.tenant,
        "task": event.task,
        "chain": event.chain,
        "reason": event.body.held or "",
        "since": event.time,
        "held": as_json(event),
    }


def _settled(row: Json, held: Event, given: Json, now: float) -> Json:
    """The row with a verdict, or still held with the reason why the verdict was refused."""
    try:
        verdict = Verdict.model_validate(given)
    except ValidationError as error:
        wrong: str | None = describe(error)
    else:
        wrong = refusal(held, verdict)
    if wrong is not None:
        return {**row, "state": "held", "refused": {"why": wrong, "at": now}}
    return {**row, "state": "decided", "verdict": verdict.model_dump(mode="json"), "decided": now, "refused": None}


def _edited(held: Event, verdict: Verdict) -> dict[str, Json]:
    outputs = dict(held.body.outputs)
    for step, fields in verdict.edits.items():
        outputs[step] = {**outputs[step], **fields}
    return outputs


def _hold(row: Json) -> tuple[int, int]:
    """Which hold a row is about: of which run of the task, and behind which step."""
    return row.get("run", 0), row["sequence"]
