"""The way of a submission, whichever form it came in: checked against its chain, told from repeats, put on the log."""

import re
from dataclasses import dataclass

from pydantic import ValidationError

from callstream.streams.chain import Chain, UnknownChain
from callstream.streams.event import Event, Json, Submission
from callstream.streams.keys import task_key
from callstream.streams.submission import Order, new_event
from callstream.web.context import Context
from callstream.web.port import Unavailable
from callstream.web.problems import Problem, invalid
from callstream.web.rows import accepted

_TRACEPARENT = re.compile(r"^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z")


@dataclass(frozen=True, slots=True)
class Admitted:
    """A task that is on the log, now or already (`repeated`), as its row says; the trace that it began."""

    row: Json
    repeated: bool
    traceparent: str | None = None


def chain_for(context: Context, submission: Submission) -> Chain:
    """The chain whose model the input fits. Raises Problem 404, or 422 naming each place."""
    try:
        chain = context.chains.current(submission.chain)
    except UnknownChain as error:
        raise Problem(404, "unknown-chain", str(error), [{"pointer": "#/chain", "detail": str(error)}]) from None
    try:
        chain.input.model_validate(submission.input)
    except ValidationError as error:
        context.metrics.submissions.labels(chain.name, "refused").inc()
        raise invalid(error, submission.input, at="/input") from None
    return chain


async def admit(context: Context, submission: Submission, order: Order) -> Admitted:
    """Put a task on the log unless it is there already. Raises Problem 409 if another has its id, or Unavailable."""
    chain = chain_for(context, submission)
    event = new_event(submission, order, context.clock())
    count = context.metrics.submissions
    try:
        admitted = await _once(context, event, chain)
    except Problem:
        count.labels(chain.name, "conflict").inc()
        raise
    count.labels(chain.name, "repeated" if admitted.repeated else "new").inc()
    return admitted


def new_task_id(context: Context, tenant: str, random_id: str) -> str:
    """An id for a task whose caller gave none, best one whose row this gateway will have itself."""
    for number in range(64):
        task = f"{random_id}{number:02x}"
        if context.port.owner(task_key(tenant, task)) is None:
            return task
    return random_id


def valid_traceparent(header: str | None) -> str | None:
    """A W3C traceparent that may be handed on, or None: a wrong one is as good as none."""
    return header if header is not None and _TRACEPARENT.match(header) else None


async def _once(context: Context, event: Event, chain: Chain) -> Admitted:
    if (earlier := context.recent.get(event.key)) is not None:
        _same(earlier.digest, event)
        await earlier.settled.wait()
        if not earlier.logged:
            raise Unavailable("the same submission, sent just before, did not reach the log")
        return Admitted(await _row(context, event) or earlier.row, repeated=True)
    with context.recent.submitting(event.key, event.body.digest, accepted(event, chain)) as entry:
        row = await _row(context, event)
        if row is None:
            await context.port.submit(event)
            entry.logged = True
    if row is not None:
        _same(row["digest"], event)
        return Admitted(row, repeated=True)
    return Admitted(entry.row, repeated=False, traceparent=event.traceparent)


async def _row(context: Context, event: Event) -> Json | None:
    return await context.port.task(event.tenant, event.task)


def _same(digest: str, event: Event) -> None:
    if digest != event.body.digest:
        detail = f"task {event.task!r} was submitted before with another chain, input or callback; take another key"
        raise Problem(409, "other-submission", detail)
