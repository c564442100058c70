"""The row of a join: which sub-tasks have ended, and what was decided. Pure and idempotent: repeats change nothing.

    {mark, of, until, done, failed, decided: {by, at, taken, why} | null}

`done` and `failed` are numbers of sub-tasks in the order in which they came; `until` is when the wait is over (epoch
seconds). A row is of one join, which its mark names: one of an earlier mark is replaced, and what is
about that one comes too late.
"""

from callstream.agents.joining.step import Join, Take
from callstream.agents.joining.subtasks import MOST_SUBTASKS
from callstream.streams.event import Event, Json

TASK, DUE = "task", "due"
"""Who decided, if it was not a sub-task, which is named by its number."""


def mark_of(event: Event) -> str:
    """What names a join of a task: its run and its number. Later ones are greater."""
    return f"{event.run:06d}.{event.sequence:04d}"


def opened(row: Json | None, mark: str, of: int, until: float) -> Json:
    """The task itself has come to its join, with so many sub-tasks."""
    row = _row(row, mark)
    return row if row["of"] is not None else {**row, "of": of, "until": until}


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


def is_late(row: Json | None, mark: str) -> bool:
    """Whether the join of that mark is over and another one has the row."""
    return row is not None and bool(row["mark"] > mark)


def _row(row: Json | None, mark: str) -> Json:
    if row is not None and row["mark"] == mark:
        return row
    return {"mark": mark, "of": None, "until": None, "done": [], "failed": [], "decided": None}
