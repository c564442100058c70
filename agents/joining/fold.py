"""The row of a join: which sub-tasks have ended, and what was decided. Pure and idempotent: repeats change nothing.

    {mark, of, until, who, done, failed, decided: {by, at, taken, why, cancelled?} | null}

`done` and `failed` are numbers of sub-tasks in the order in which they came; `until` is when the wait is over (epoch
seconds), `who` the task as commands see it. A row is of one join, which its mark names: one of an earlier mark is
replaced, and what is about that one comes too late.
"""

from callstream.agents.control.ancestry import ANCESTRY, above
from callstream.agents.control.commands import Cancel, Subject, reason_of
from callstream.agents.joining.step import Join, Take
from callstream.agents.joining.subtasks import MOST_SUBTASKS
from callstream.streams.event import Event, Json
from callstream.streams.keys import split_key

TASK, DUE, CANCEL = "task", "due", "cancel"
"""Who decided, if it was not a sub-task, which is named by its number."""


def mark_of(event: Event) -> str:
    """What names a join of a task: its run and its number. Later ones are greater."""
    return f"{event.run:06d}.{event.sequence:04d}"


def opened(row: Json | None, event: Event, of: int, until: float) -> Json:
    """The task itself has come to its join, with so many sub-tasks."""
    row = _row(row, mark_of(event))
    if row["of"] is not None:
        return row
    who = {"chain": event.chain, "since": event.time, "ancestry": event.extensions.get(ANCESTRY, "")}
    return {**row, "of": of, "until": until, "who": who}


def reported(row: Json | None, mark: str, number: int, finished: bool) -> Json:
    """A sub-task has ended; it may come before the task itself."""
    row = _row(row, mark)
    known = row["of"] or MOST_SUBTASKS
    if row["decided"] or not 1 <= number <= known or number in row["done"] or number in row["failed"]:
        return row
    member = "done" if finished else "failed"
    return {**row, member: [*row[member], number]}


def decided(row: Json, join: Join, by: str, now: float) -> Json:
    """The row with a decision, if there is one to be made."""
    if row["decided"] or row["of"] is None:
        return row
    of = row["of"]
    # What came before the task itself was not known to be one of its own.
    done, failed = ([number for number in row[member] if number <= of] for member in ("done", "failed"))
    least = join.least_of(of)
    taken: list[int] | None = None
    why = None
    if join.take is Take.FIRST and len(done) >= least:
        taken = done[:least]
    elif of - len(failed) < least:
        why = f"{len(failed)} of {of} sub-tasks ended badly, so that fewer than {least} can finish"
    elif len(done) + len(failed) == of:
        taken = sorted(done)
    elif now >= row["until"]:
        if len(done) >= least:
            taken = sorted(done)
        else:
            why = f"in time {len(done)} of {of} sub-tasks finished; it takes {least}"
    if taken is None and why is None:
        return row
    return {**row, "decided": {"by": by, "at": now, "taken": taken or [], "why": why}}


def told_of(cancel: Cancel) -> Json:
    """What a join is told of the cancel of its task."""
    return {"at": cancel.at, "reason": reason_of(cancel), "rollback": cancel.rollback}


def cancelled(row: Json, by: str, told: Json) -> Json:
    """The row with the decision that its task ends, whatever its sub-tasks come to, if none was made before."""
    if row["decided"] or row["of"] is None:
        return row
    return {**row, "decided": {"by": by, "at": told["at"], "taken": [], "why": None, "cancelled": told}}


def waiting(row: Json | None, key: bytes) -> Subject | None:
    """The task that waits at a join, as commands see it; None where none does, or none that is known."""
    if row is None or row["decided"] or "who" not in row:
        return None
    tenant, task = split_key(key)
    who = row["who"]
    return Subject(tenant, task, who["chain"], who["since"], above=above(tenant, who["ancestry"]))


def is_late(row: Json | None, mark: str) -> bool:
    """Whether the join of that mark is over and another one has the row."""
    return row is not None and bool(row["mark"] > mark)


def _row(row: Json | None, mark: str) -> Json:
    if row is not None and row["mark"] == mark:
        return row
    return {"mark": mark, "of": None, "until": None, "done": [], "failed": [], "decided": None}
