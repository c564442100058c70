"""What follows from the row of a held task. Pure: the same row has the same answer, however often it is asked."""

from callstream.agents.review.fold import CANCELLED, DECIDED, held_event, hold_of
from callstream.agents.review.said import Choice, Verdict, as_json
from callstream.streams.edits import edited
from callstream.streams.event import TASK, Event, Hop, Json
from callstream.streams.outcome import Cancelled, Finish, Forward, Keep, Redo, Resume
from callstream.streams.review import with_note, without

STEP = "review"
MOST_LINE = 2000


def outcome_of(row: Json, sequence: int, run: int = 0) -> Keep | Resume | Redo:
    """What follows from a row for an event about that hold: nothing yet, or what was decided."""
    if row["state"] not in (DECIDED, CANCELLED) or hold_of(row) != (run, sequence):
        return Keep()
    held = held_event(row)
    if row["state"] == CANCELLED:
        before = _before(without(held))
        return Resume(before, Cancelled(row["cancelled"], rollback=row.get("rollback", True)))
    verdict = Verdict.model_validate(row["verdict"])
    if verdict.verdict is Choice.REGENERATE:
        return Redo(_back(held, row, verdict))
    before = _before(without(held.with_body(outputs=edited(held.body.outputs, verdict.edits))))
    said = {name: value for name, value in as_json(verdict).items() if name != "edits"}
    if verdict.verdict is Choice.REJECT:
        reason = f"rejected by {verdict.reviewer}" + (f": {verdict.reason}" if verdict.reason else "")
        return Resume(before, Finish(said, rejected=True, reason=reason[:MOST_LINE]))
    if verdict.edits:
        said["edited"] = {step: sorted(fields) for step, fields in verdict.edits.items()}
    approvals = (row.get("review") or {}).get("approvals", ())
    notes = (f"{verdict.verdict} by {verdict.reviewer}", *(f"approved before by {one}" for one in approvals))
    return Resume(before, Forward(said, notes=tuple(note[:MOST_LINE] for note in notes)))


def _before(held: Event) -> Event:
    # The desk stands between the step that held and the next one, whose sequence the held event has already.
    return held.with_body(held=None).changed(sequence=held.sequence - 1, type=TASK)


def _back(held: Event, row: Json, verdict: Verdict) -> Event:
    """The task for a step that it has taken before, with what the reviewer asks of it."""
    attempt = row["review"]["attempts"][-1]
    step, at = attempt["step"], row["decided"]
    note = f"regenerate by {verdict.reviewer}: {verdict.reason}"[:MOST_LINE]
    hop = Hop(step=STEP, service=STEP, started=at, ended=at, notes=(note,))
    earlier = attempt["texts"].get("text") or next(iter(attempt["texts"].values()), "")
    noted = with_note(held.with_body(held=None, trail=(*held.body.trail, hop)), step, verdict.reason, earlier)
    return noted.changed(sequence=row["back"], attempt=1, type=TASK)
