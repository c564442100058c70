"""The parts of a job over dead letters: what a row of one says, and which letters are its. Pure."""

import math

from callstream.agents.letters.commands import Action, Command, Does
from callstream.streams.event import Json
from callstream.streams.expressions import BadExpression, Expression
from callstream.tables.letters import JOBS, REFUSED, UNREADABLE, WAITING, values_of

MOST_REFUSALS = 20
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
            "does": str(job.does),
            "patch": job.patch,
            "tenant": job.tenant,
            "tasks": list(job.tasks),
            "where": job.where,
            "rate": job.rate,
            "state": RUNNING,
            "created": now,
            "changed": now,
            "matched": None,
            "looked_at": 0,
            "sent": 0,
            "left": 0,
            "refusals": [],
            "after": "",
        }
    moves = {Action.PAUSE: (RUNNING, PAUSED), Action.RESUME: (PAUSED, RUNNING)}
    begin, end = moves.get(command.action, ("", ""))
    if command.action is Action.CANCEL and row["state"] in (RUNNING, PAUSED):
        return {**row, "state": CANCELLED, "changed": now}
    return {**row, "state": end, "changed": now} if row["state"] == begin else row


def wanted(part: Json, row: Json, condition: Expression | None) -> bool:
    """Whether a letter is one of a job's: it waits since before the job was made, and the condition holds for it."""
    if row["state"] != WAITING or row["died"] > part["created"]:
        return False
    if does(part) is not Does.DISCARD and row["letter"] in (UNREADABLE, REFUSED):
        return False
    if part.get("tasks") and (row["tenant"] != part["tenant"] or row["task"] not in part["tasks"]):
        return False
    try:
        return condition is None or condition.holds(values_of(row, part["created"]))
    except BadExpression:
        return False


def does(part: Json) -> Does:
    """What a job does; those of earlier programs redrive."""
    return Does(part.get("does", Does.REDRIVE))


def due(part: Json, partition: int, partitions: int, now: float) -> int:
    """How many commands a part may have sent by now. The partitions take turns from when the job was made, so that all
    of them together keep its rate.
    """
    turns: float = (now - part["created"]) * part["rate"] - partition
    return max(0, math.floor(turns / partitions) + 1)


def command_id(part: Json, row: Json) -> str:
    """The id of the command about a letter for a job."""
    return f"{part['job']}:{row['letter']}:{row['run']}:{row['task']}"[:200]


def command_of(part: Json, row: Json) -> Command:
    """The command about a letter for a job: the same whenever it is made."""
    return Command(
        id=command_id(part, row),
        action=Action(does(part)),
        by=part["by"],
        reason=part["reason"] or f"job {part['job']}",
        letter=row["letter"],
        tenant=row["tenant"],
        task=row["task"],
        run=row["run"],
        from_step=part["from_step"],
        ask_again=part["ask_again"],
        patch=part.get("patch"),
    )


def left(part: Json, refusals: list[tuple[str, str]]) -> Json:
    """What a part says of letters that it leaves as they are: how many, and of the first ones why, by their tasks."""
    told = [*part.get("refusals", ()), *({"task": task, "why": why[:300]} for task, why in refusals)]
    return {"left": part.get("left", 0) + len(refusals), "refusals": told[:MOST_REFUSALS]}
