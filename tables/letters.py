"""The rows of dead letters: what could not be done, why, and what people decided about it. Pure, idempotent folds.

A task may have one letter of each kind: `task` (it failed), `callback` (its end could not be told), `refused` (an event
of it was refused, the task itself goes on). `unreadable` is a record that no service could read; it has no task. A
letter is *waiting*, *redriven* or *discarded*; the letter of a later run takes the place of an earlier one's.
"""

import re
from collections.abc import Mapping

from callstream.streams.event import Attempt, Burial, Event, Json
from callstream.streams.expressions import Expression, Value, condition
from callstream.streams.keys import task_key

TASK, CALLBACK, REFUSED, UNREADABLE = KINDS = ("task", "callback", "refused", "unreadable")
WAITING, REDRIVEN, DISCARDED = STATES = ("waiting", "redriven", "discarded")
MOST_AUDITED = 32
MOST_ATTEMPTS = 48
MOST_HEAD_BYTES = 1_000
"""Of a record that cannot be read, beside its size; all of it stays on the topic of dead letters."""

LETTERS, EVENTS, JOBS = b"l/", b"e/", b"j/"
"""What the keys of the rows begin with: the letters, their events apart, so that a list need not read them; jobs."""

SAMPLE: Mapping[str, Value] = {
    "letter": TASK,
    "tenant": "",
    "task": "",
    "chain": "",
    "version": 1,
    "step": "",
    "service": "",
    "kind": "",
    "message": "",
    "cause": "",
    "state": WAITING,
    "edited": False,
    "run": 0,
    "attempts": 1,
    "priority": "normal",
    "age": 0.0,
}
"""What conditions over letters may look at; `age` is seconds since it died."""
MOST_WHERE = 500
"""Characters of such a condition."""

_UUID = re.compile(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b")
_MIXED = re.compile(r"\b(?=\w*\d)(?=\w*[A-Za-z])[\w-]{8,}\b")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def letter_key(kind: str, tenant: str, task: str) -> bytes:
    """The key of a letter's row, within the partition that the task's events are on. Unreadable ones have no tenant."""
    return LETTERS + task_key(tenant, task) + f"/{kind}".encode()


def event_key(letter: bytes) -> bytes:
    """The key of the row that holds a letter's event."""
    return EVENTS + letter.removeprefix(LETTERS)


def kind_of(event: Event) -> str:
    """Which letter of its task a dead event is."""
    burial, failure = event.body.burial, event.body.failure
    if event.body.end is not None:
        return CALLBACK
    # Letters of earlier versions do not say; only a conflict left the task alone.
    ended = burial.ended_task if burial is not None else failure is None or failure.kind != "conflict"
    return TASK if ended else REFUSED


def fold(row: Json | None, event: Event) -> Json:
    """The row after a dead event: the first of each run counts, and a later run takes the place of an earlier one."""
    if row is not None and row["run"] >= event.run:
        return row
    body = event.body
    failure, trail, burial = body.failure, body.trail, body.burial
    last = trail[-1] if trail else None
    step = (failure.step if failure is not None else "") or (last.step if last is not None else "")
    message = failure.message if failure is not None else ""
    kind = failure.kind if failure is not None else "unknown"
    earlier = row or {}
    return {
        "letter": kind_of(event),
        "tenant": event.tenant,
        "task": event.task,
        "chain": event.chain,
        "version": event.version,
        "step": step,
        "service": last.service if last is not None else "",
        "sequence": event.sequence,
        "run": event.run,
        "priority": str(event.priority),
        "kind": kind,
        "message": message,
        "cause": cause_of(step, kind, message, event.task),
        "state": WAITING,
        "edited": bool(earlier.get("edited")),
        "created": event.time,
        "died": last.ended if last is not None else event.time,
        "from": _origin(burial),
        "attempts": last.attempts if last is not None else 1,
        "tried": (earlier.get("tried", []) + _tried(event.run, burial))[-MOST_ATTEMPTS:],
        "tokens_in": sum(hop.usage.tokens_in for hop in trail if hop.usage is not None),
        "tokens_out": sum(hop.usage.tokens_out for hop in trail if hop.usage is not None),
        "audit": earlier.get("audit", []),
        "redrive": None,
    }


def unreadable_row(row: Json | None, place: str, reason: str, value: bytes, now: float) -> Json:
    """The row of a record that could not be read. `place` is topic~partition~offset, `now` epoch seconds."""
    if row is not None:
        return row
    topic, _, rest = place.partition("~")
    partition, _, offset = rest.partition("~")
    numbers = partition.isdigit() and offset.isdigit()
    return {
        "letter": UNREADABLE,
        "tenant": "",
        "task": place,
        "chain": "",
        "version": 0,
        "step": "",
        "service": topic.rpartition(".")[2],
        "sequence": 0,
        "run": 0,
        "priority": "normal",
        "kind": UNREADABLE,
        "message": reason[:2000],
        "cause": cause_of(topic, UNREADABLE, reason, place),
        "state": WAITING,
        "edited": False,
        "created": now,
        "died": now,
        "from": {"topic": topic, "partition": int(partition), "offset": int(offset)} if numbers else None,
        "attempts": 1,
        "tried": [],
        "tokens_in": 0,
        "tokens_out": 0,
        "audit": [],
        "redrive": None,
        "bytes": len(value),
        "head": value[:MOST_HEAD_BYTES].decode("utf-8", "backslashreplace"),
    }


def cause_of(step: str, kind: str, message: str, task: str) -> str:
    """What letters of the same trouble share: step, kind and message, with what differs from task to task as `#`.

    >>> cause_of("copy", "refused", "HTTP 400: order 4711 of mug-1 in a3f09c2e77", "mug-1")
    'copy / refused / HTTP #: order # of # in #'
    """
    told = message.replace(task, "#") if task else message
    for pattern in (_UUID, _MIXED, _NUMBER):
        told = pattern.sub("#", told)
    return f"{step or '-'} / {kind} / {' '.join(told.split())[:200]}"


def audited(row: Json, entry: Json) -> Json:
    """The row with one more line of who did what."""
    return {**row, "audit": [*row["audit"], entry][-MOST_AUDITED:]}


def done_by(row: Json, command: str) -> Json | None:
    """What the audit says of a command; None if the row has not seen it."""
    return next((entry for entry in reversed(row["audit"]) if entry["command"] == command), None)


def values_of(row: Json, now: float) -> dict[str, Value]:
    """What a condition sees of a row."""
    values: dict[str, Value] = {name: row[name] for name in SAMPLE if name != "age"}
    return values | {"age": max(0.0, now - row["died"])}


def condition_of(text: str) -> Expression:
    """A condition over letters. Raises BadExpression."""
    return condition(text, SAMPLE, MOST_WHERE)


def summary(row: Json) -> Json:
    """A row as a list shows it."""
    return {name: value for name, value in row.items() if name not in ("tried", "audit", "redrive", "head", "at")}


def _origin(burial: Burial | None) -> Json | None:
    if burial is None:
        return None
    return {"topic": burial.topic, "partition": burial.partition, "offset": burial.offset}


def _tried(run: int, burial: Burial | None) -> list[Json]:
    return [_attempt(run, one) for one in burial.attempts] if burial is not None else []


def _attempt(run: int, one: Attempt) -> Json:
    usage = one.usage
    return {
        "run": run,
        "attempt": one.number,
        "ended": one.ended,
        "kind": one.kind,
        "message": one.message,
        "endpoint": usage.endpoint if usage is not None else None,
        "tokens_in": usage.tokens_in if usage is not None and usage.calls else None,
        "tokens_out": usage.tokens_out if usage is not None and usage.calls else None,
    }
