"""What was commanded about a task: that it is cancelled, or what of it is paused."""

from callstream.agents.control.commands import Cancel, Subject, Switch, told
from callstream.agents.inference.admission.decide import Reason
from callstream.streams.chain import UnknownChain
from callstream.streams.event import Json
from callstream.streams.topics import INFER, TIMER
from callstream.web.context import Context


def subject_in(row: Json) -> Subject:
    """A task's row as commands see it."""
    return Subject(row["tenant"], row["id"], row["chain"], row["created"], row["state"])


def cancel_of(context: Context, row: Json) -> Cancel | None:
    """The command by which a task that has not ended is about to end."""
    return context.port.controls.cancelled(subject_in(row))


def pause_of(context: Context, row: Json) -> Switch | None:
    """What of a task is paused: itself, its chain, its tenant, or the service or the pool that it needs next.

    The timer is what one needs that waits for its time.
    """
    if "waiting" in row and (pause := context.port.controls.paused(None, TIMER)) is not None:
        return pause
    following = row["next"] or {}
    return context.port.controls.paused(subject_in(row), following.get("service"), _pool(context, row))


def standing(context: Context, row: Json) -> Json:
    """What joins the row of a task that has not ended.

    That is `cancel`, `calling` while its model call is in flight, and else `waiting` where a gate says why; where a
    command does, also beside a call in flight.
    """
    more: Json = {}
    if (row["next"] or {}).get("service") == INFER:
        # A replica tells each second: of a step that has just ended the call may still be told.
        calling = context.port.calling(row["tenant"], row["id"])
        more |= {} if calling is None else {"calling": calling}
    if (cancel := cancel_of(context, row)) is not None:
        more["cancel"] = shown(cancel)
    if (pause := pause_of(context, row)) is not None:
        more["waiting"] = {"reason": str(Reason.PAUSED), "waits_for": f"resume of {pause.scope}", "paused": told(pause)}
    elif "waiting" not in row and "calling" not in more:
        waiting = context.port.waiting(row["tenant"], row["id"])
        more |= {} if waiting is None else {"waiting": waiting}
    return more


def shown(cancel: Cancel) -> Json:
    """A cancel as callers see it."""
    return {"at": cancel.at, "by": cancel.by, "reason": cancel.reason, "rollback": cancel.rollback}


def _pool(context: Context, row: Json) -> str | None:
    """The pool that the task's next step calls, if it calls one."""
    following = row["next"]
    if following is None or following["service"] != INFER:
        return None
    try:
        steps = context.chains.get(row["chain"], row["version"]).steps
    except UnknownChain:
        return None
    return next((step.queue for step in steps if step.name == following["step"]), None)
