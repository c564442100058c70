"""The parts of a job over dead letters: what a row of one says, and which letters are its. Pure."""

from callstream.agents.letters.commands import Action, Command
from callstream.streams.event import Json
from callstream.streams.expressions import BadExpression, Expression
from callstream.tables.letters import JOBS, REFUSED, UNREADABLE, WAITING, values_of

RUNNING, PAUSED, CANCELLED, DONE = "running", "paused", "cancelled", "done"


def job_key(job: str) -> bytes:
    """The key of a job's part, in each partition."""
    return JOBS + job.encode()


def part_of(row: Json | None, command: Command, now: float) -> Json | None:
    """The part after a command about its job; None where there is no such job. The first of two with one id counts."""
    job = command.job
    if job is None or (row is None and command.action is not Action.JOB):
        return row
    if row is None:
        told = command.model_dump(mode="json", include={"by", "reason", "from_step", "ask_again"})
        return {
            **told,
            "job": job.id,
            "where": job.where,
            "rate": job.rate,
            "state": RUNNING,
            "created": now,
            "changed": now,
            "matched": None,
            "looked_at": 0,
            "sent": 0,
            "after": "",
        }
    moves = {Action.PAUSE: (RUNNING, PAUSED), Action.RESUME: (PAUSED, RUNNING)}
    begin, end = moves.get(command.action, ("", ""))
    if command.action is Action.CANCEL and row["state"] in (RUNNING, PAUSED):
        return {**row, "state": CANCELLED, "changed": now}
    return {**row, "state": end, "changed": now} if row["state"] == begin else row


def wanted(part: Json, row: Json, condition: Expression | None) -> bool:
    """Whether a letter is one of a job's: it waits since before the job was made, and the condition holds for it."""
    if row["state"] != WAITING or row["letter"] in (UNREADABLE, REFUSED) or row["died"] > part["created"]:
        return False
    try:
        return condition is None or condition.holds(values_of(row, part["created"]))
    except BadExpression:
        return False


def redrive_of(part: Json, row: Json) -> Command:
    """The command that redrives a letter for a job: the same whenever it is made."""
    return Command(
        id=f"{part['job']}:{row['letter']}:{row['run']}:{row['task']}"[:200],
        action=Action.REDRIVE,
        by=part["by"],
        reason=part["reason"] or f"job {part['job']}",
        letter=row["letter"],
        tenant=row["tenant"],
        task=row["task"],
        run=row["run"],
        from_step=part["from_step"],
        ask_again=part["ask_again"],
    )
