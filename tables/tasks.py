"""The row of a task: what the status API shows, folded from the events that the task leaves on every topic.

Pure and idempotent: an event carries the whole trail, so a row only ever moves forward, and replaying any event, in
any order, changes nothing that a later one has said.
"""

from itertools import takewhile

from callstream.streams.chain import Chains, UnknownChain
from callstream.streams.event import (
    NO_DIGEST,
    PARENT,
    SUBTASKS,
    TASK_HELD,
    TASK_JOIN_DUE,
    TASK_NOTIFIED,
    TASK_PARTIAL,
    TASK_REVIEWED,
    TASK_SUBTASK,
    TASK_UNVERSIONED,
    TASK_WAITING,
    End,
    Event,
    Hop,
    Json,
    Waiting,
    WaitReason,
)
from callstream.streams.partial import PARTIAL, told_in
from callstream.streams.review import fits, opened, text_of
from callstream.streams.spend import shown, totals
from callstream.streams.timespent import StepTime, step_times

State = str
MISSING, SUBTASK, REVIEW = "missing", "subtask", "review"
"""The outputs that remarks about a task have: a version that a worker misses, a sub-task that has ended, its review."""
MOST_NUMBER = 9_999
ENDED = frozenset(map(str, End))
"""The states after which a task changes no more by itself; one that failed may be taken up again."""


def fold(row: Json | None, event: Event, chains: Chains, now: float) -> tuple[Json, tuple[Hop, ...]]:
    """The row after an event, and the hops that the row had not seen before. `now` is epoch seconds."""
    if event.type == TASK_NOTIFIED:
        return _notified(row, event, chains, now), ()
    if event.type in (TASK_SUBTASK, TASK_JOIN_DUE):
        return _counted(row if row is not None else _early(event, chains, now), event, now), ()
    if _is_of_timer(event):
        return row if row is not None else _early(event, chains, now), ()
    if event.type == TASK_REVIEWED:
        return _reviewed(row, event, chains, now), ()
    if event.type == TASK_PARTIAL:
        return _written(row, event, chains, now), ()
    if event.type == TASK_UNVERSIONED:
        return _unversioned(row, event, chains, now), ()
    if row is not None and not _has_undone_more(row, event):
        has_ended = row["state"] in ENDED and row.get("run", 0) == event.run
        if _progress(event) <= _reached(row) or (has_ended and _is_told_again(event)):
            return row, ()
    # What a replayed task has from its parent was counted there.
    return _row(row, event, chains, now), event.body.trail[max(event.inherited, _seen(row, event)) :]


def state_of(event: Event) -> State:
    """What an event says about its task: accepted, running, held, finished, rejected, failed or cancelled."""
    if event.body.end is not None:
        return str(event.body.end)
    if event.type == TASK_HELD:
        return "held"
    return "accepted" if event.sequence == 0 or _is_scheduled(event) else "running"


def _is_of_timer(event: Event) -> bool:
    """Whether it waits with the timer and is a remark about a task, as the due time of a review, and no step of it."""
    waits = event.type == TASK_WAITING and event.sequence > 0
    return waits and not event.body.trail and event.body.undoing is None


def _is_scheduled(event: Event) -> bool:
    waiting = event.body.waiting
    return event.type == TASK_WAITING and waiting is not None and waiting.reason is WaitReason.SCHEDULED


def _progress(event: Event) -> tuple[int, bool, int, int, bool]:
    """How far an event is: its run, whether that has ended, its step, the attempt at it, and whether it has begun."""
    waits = event.type in (TASK_HELD, TASK_WAITING)
    return event.run, event.body.end is not None, event.sequence, event.attempt, not waits


def _reached(row: Json) -> tuple[int, bool, int, int, bool]:
    waits = row["state"] == "held" or "waiting" in row
    ended = row["state"] in ENDED and row["sequence"] >= 0
    return row.get("run", 0), ended, row["sequence"], row.get("attempt", 1), not waits


def _has_undone_more(row: Json, event: Event) -> bool:
    """Whether a cancelled end tells of more than the one that the row has: a crash let the task end on two ways."""
    same = (row["state"], row.get("run", 0), row["sequence"]) == (str(event.body.end), event.run, event.sequence)
    first = event.body.end is End.CANCELLED and event.attempt == 1
    return same and first and len(event.body.trail) > len(row["steps"])


def _is_told_again(event: Event) -> bool:
    """Whether an end changes none that there is: an order to cancel that came too late, or its caller's next try."""
    return event.body.end is End.CANCELLED or (event.body.end is not None and event.attempt > 1)


def _seen(row: Json | None, event: Event) -> int:
    """How many hops of the event's trail the row has: of an earlier run those that the later one has kept."""
    if row is None:
        return 0
    steps: list[Json] = row["steps"]
    if row.get("run", 0) == event.run:
        return len(steps)
    pairs = zip(steps, event.body.trail, strict=False)
    same = takewhile(lambda pair: (pair[0]["step"], pair[0]["ended"]) == (pair[1].step, pair[1].ended), pairs)
    return sum(1 for _ in same)


def _row(row: Json | None, event: Event, chains: Chains, now: float) -> Json:
    body = event.body
    failure = body.failure
    waiting = body.waiting if event.type == TASK_WAITING and body.end is None else None
    return {
        "tenant": event.tenant,
        "id": event.task,
        "chain": event.chain,
        "version": event.version,
        "digest": body.digest if row is None or body.digest != NO_DIGEST else row["digest"],
        "state": state_of(event),
        "priority": str(event.priority),
        "created": event.time,
        "updated": now,
        "deadline": event.deadline,
        "run_at": event.run_at,
        "run": event.run,
        "sequence": event.sequence,
        "attempt": event.attempt,
        "traceparent": event.traceparent,
        "steps": [_step(hop, took) for hop, took in zip(body.trail, step_times(body.trail, event.time), strict=True)],
        **totals(spend for hop in body.trail[event.inherited :] for spend in hop.spends),
        "next": _next_step(event, chains),
        "result": body.result,
        "failure": failure.model_dump(include={"kind", "message", "step"}) if failure is not None else None,
        "held": body.held,
        "outputs": body.outputs if state_of(event) == "held" else None,
        "missing": _still_missing(row, event),
        "subtasks": _subtasks(row, event),
        **({"waiting": _waiting(waiting)} if waiting is not None else {}),
        "callback": row.get("callback") if row is not None and row.get("run", 0) == event.run else None,
        "parent": event.parent or event.extensions.get(PARENT),
        "inherited": event.inherited,
        "sandbox": event.sandbox,
        **_review(row, event),
        **_still_partial(row, event),
    }


def _review(row: Json | None, event: Event) -> Json:
    """What a reviewer needs, while a task is held; after that what was said about it."""
    known: Json | None = (row or {}).get(REVIEW)
    if state_of(event) != "held":
        return {REVIEW: known} if known is not None and known["told"] else {}
    if known is None or _place(known) < (event.run, event.sequence):
        known = opened(event, known)
    return {REVIEW: known, "input": event.input, "text": text_of(event)}


def _reviewed(row: Json | None, event: Event, chains: Chains, now: float) -> Json:
    """The row with what was said about its hold, if that is more than it has."""
    told: Json | None = event.body.outputs.get(REVIEW)
    known: Json | None = (row or {}).get(REVIEW)
    row = row if row is not None else _early(event, chains, now)
    if told is None or not fits(told):
        return row
    if known is not None and (*_place(known), known["told"]) >= (*_place(told), told["told"]):
        return row
    return {**row, REVIEW: told}


def _waiting(waiting: Waiting) -> Json:
    """Why the timer has a task, until when, and how its last attempt failed."""
    told: Json = {"reason": str(waiting.reason), "until": waiting.until}
    if waiting.failure is not None:
        told["attempts"] = waiting.attempts
        told["failure"] = waiting.failure.model_dump(include={"kind", "message", "step"})
    return told


def _step(hop: Hop, took: StepTime) -> Json:
    usage = hop.usage
    return {
        "step": hop.step,
        "service": hop.service,
        "started": hop.started,
        "ended": hop.ended,
        "seconds": round(hop.ended - hop.started, 6),
        "waited": round(took.waited, 3),
        "worked": round(took.worked, 3),
        "retried": round(took.retried, 3),
        "attempts": hop.attempts,
        "model": usage.model if usage else None,
        "calls": usage.calls if usage else None,
        "repeated": usage.repeated if usage else None,
        "tokens_in": usage.tokens_in if usage else None,
        "tokens_out": usage.tokens_out if usage else None,
        "notes": list(hop.notes),
        **(
            {"spends": [shown(spend) for spend in hop.spends], "cost": totals(hop.spends)["cost"]} if hop.spends else {}
        ),
        **({"undo": True} if hop.undo else {}),
    }


def _next_step(event: Event, chains: Chains) -> Json | None:
    if event.body.end is not None:
        return None
    if event.sequence == 0:
        return {"step": "intake", "service": "intake"}
    undoing = event.body.undoing
    try:
        step = chains.get(event.chain, event.version).step(event.sequence if undoing is None else undoing.step)
    except UnknownChain:
        return None
    if step is None:
        return None
    return {"step": step.name, "service": step.service} | ({"undo": True} if undoing is not None else {})


def _unversioned(row: Json | None, event: Event, chains: Chains, now: float) -> Json:
    """The row with the version that a worker misses to take the task's next step."""
    told = event.body.outputs.get(MISSING)
    if row is not None and (_place(row) > (event.run, event.sequence) or _still_missing(row, event)):
        return row
    row = row if row is not None else _early(event, chains, now)
    missing = None if told is None else {**told, "run": event.run, "sequence": event.sequence}
    return row if missing is None else {**row, MISSING: missing, "updated": now}


def _written(row: Json | None, event: Event, chains: Chains, now: float) -> Json:
    """The row with what a step's model has written until now, unless it has later."""
    told = told_in(event)
    if told is None:
        return row if row is not None else _early(event, chains, now)
    if row is not None:
        known = row.get(PARTIAL)
        has_more = known is not None and (*_place(known), known["part"]) >= (*_place(told), told["part"])
        if has_more or (_place(row) > _place(told) and not _was_lost(told, row["run"], row["failure"])):
            return row
    row = row if row is not None else _early(event, chains, now)
    return {**row, PARTIAL: told, "updated": now}


def _still_partial(row: Json | None, event: Event) -> Json:
    """What was written of an answer, unless the task has gone on since; of one that has failed, what was lost."""
    known: Json | None = (row or {}).get(PARTIAL)
    if known is None:
        return {}
    failure = event.body.failure.model_dump(include={"step"}) if event.body.failure is not None else None
    is_lost = _was_lost(known, event.run, failure)
    return {PARTIAL: known} if is_lost or _place(known) >= (event.run, event.sequence) else {}


def _was_lost(told: Json, run: int, failure: Json | None) -> bool:
    """Whether what was written of an answer is of the step in which a run has failed, also while others are undone."""
    return failure is not None and failure["step"] == told["step"] and run == told["run"]


def _still_missing(row: Json | None, event: Event) -> Json | None:
    """What was said to be missing, unless the task has gone on since."""
    missing: Json | None = (row or {}).get(MISSING)
    return missing if missing is not None and _place(missing) >= (event.run, event.sequence) else None


def _place(told: Json) -> tuple[int, int]:
    """The run and the number of a step, of a row or of what it says."""
    return told.get("run", 0), told["sequence"]


def _subtasks(row: Json | None, event: Event) -> Json | None:
    """The sub-tasks of a task, as its latest join counts them: `done` and `failed` have a bit for each number, hex."""
    known: Json | None = (row or {}).get("subtasks")
    text = event.extensions.get(SUBTASKS, "")
    if not (text.isascii() and text.isdigit()):
        return known
    same = known is not None and _place(known) == (event.run, event.sequence)
    return {**(known if same and known is not None else _no_subtasks(event)), "of": int(text)}


def _no_subtasks(event: Event) -> Json:
    return {"run": event.run, "sequence": event.sequence, "of": None, "done": "0", "failed": "0"}


def _counted(row: Json, event: Event, now: float) -> Json:
    """The row with the end of one more sub-task, which may come before the task itself has come to its join."""
    said = event.body.outputs.get(SUBTASK, {})
    number, known = said.get("number"), row.get("subtasks")
    if not isinstance(number, int) or not 0 < number <= MOST_NUMBER:
        return row
    if known is None or _place(known) < (event.run, event.sequence):
        known = _no_subtasks(event)
    member = "done" if said.get("state") == "finished" else "failed"
    bits = int(known[member], 16) | 1 << number
    if _place(known) > (event.run, event.sequence) or bits == int(known[member], 16):
        return row
    return {**row, "subtasks": {**known, member: f"{bits:x}"}, "updated": now}


def _early(event: Event, chains: Chains, now: float) -> Json:
    """The row of a task of which a remark is all that has come: any event of it is further."""
    return _row(None, event, chains, now) | {"sequence": -1, "steps": []}


def _notified(row: Json | None, event: Event, chains: Chains, now: float) -> Json:
    callback = next(iter(event.body.outputs.values()), {}).get("callback")
    if row is None:
        return _early(event, chains, now) | {"callback": callback}
    if event.run < row.get("run", 0):
        return row
    return {**row, "callback": callback, "updated": now}
