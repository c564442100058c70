"""A submission becomes an event here, whichever door it came through: HTTP, a CloudEvent, or the log itself."""

import hashlib
import json
import math
from dataclasses import dataclass

from callstream.streams.chain import LONGEST_DEADLINE_SECONDS
from callstream.streams.event import PARENT, Body, Event, Priority, Submission
from callstream.streams.keys import DERIVED, given_id
from callstream.streams.replay.lineage import MOST_PARENT
from callstream.streams.timing import check_due
from callstream.streams.wire import epoch

UNCHOSEN_VERSION = 0
"""The version of an event that intake has not yet put on its chain's current one."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a caller says beside the submission: whose task it is, its id, how urgent. Times are epoch seconds."""

    tenant: str
    task: str
    priority: Priority = Priority.NORMAL
    deadline: float | None = None
    traceparent: str | None = None
    run_at: float | None = None


def digest(submission: Submission) -> str:
    """SHA-256, hex, of chain, input and callback as the caller gave them: two submissions are the same if it is.

    Order of members and white space do not count; priority, times and id are not part of it.
    """
    members = {"chain": submission.chain, "input": submission.input, "callback": submission.callback}
    canonical = json.dumps(members, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def new_event(submission: Submission, order: Order, now: float) -> Event:
    """The event that asks intake to start a task; `now` is epoch seconds."""
    return Event(
        tenant=order.tenant,
        task=order.task,
        chain=submission.chain,
        version=UNCHOSEN_VERSION,
        sequence=0,
        body=Body(submission=submission, digest=digest(submission)),
        priority=order.priority,
        time=now,
        deadline=order.deadline,
        traceparent=order.traceparent,
        run_at=order.run_at,
    )


def unfit_id(event: Event) -> str | None:
    """Why a task may not have its id; None for one that its sender may choose, or that says of which task it is."""
    origin = event.parent or event.extensions.get(PARENT)
    if origin and event.task.startswith(origin[:MOST_PARENT] + DERIVED):
        return None
    try:
        given_id(event.task)
    except ValueError as error:
        return f"attribute 'subject' ({event.task}) {error}: submit the task under another id"
    return None


def parse_deadline(given: str | float, now: float) -> float:
    """A deadline as epoch seconds, from RFC 3339 text or seconds from `now`. Raises ValueError saying what is taken.

    >>> parse_deadline(30, now=1000.0)
    1030.0
    """
    moment = _moment(given) if isinstance(given, str) else now + given
    if not math.isfinite(moment) or moment <= now:
        raise ValueError("must lie in the future")
    if moment > now + LONGEST_DEADLINE_SECONDS:
        raise ValueError("must lie within a year from now")
    return moment


def parse_run_at(given: str | float | None, now: float) -> float | None:
    """When a task may start, as epoch seconds, from RFC 3339 text or seconds from `now`; the past means at once.

    Raises ValueError saying what is taken.

    >>> parse_run_at("1970-01-01T00:00:00Z", now=1000.0)
    0.0
    """
    if given is None:
        return None
    if isinstance(given, str):
        moment = _moment(given)
    else:
        if not given >= 0:
            raise ValueError("must be seconds from now, 0 or more")
        moment = now + given
    check_due(moment, now)
    return moment


def check_start(run_at: float | None, deadline: float | None) -> None:
    """Raises ValueError for a task that would be past its deadline before it may start."""
    if run_at is not None and deadline is not None and deadline <= run_at:
        raise ValueError("lies at or after the deadline: the task would be too late before it starts")


def _moment(text: str) -> float:
    try:
        return epoch(text)
    except OverflowError:
        raise ValueError("must lie within a year from now") from None
    except ValueError:
        raise ValueError("not RFC 3339 with an offset, such as 2030-01-31T12:00:00Z") from None
