"""POST /v1/events: a task as a CloudEvent 1.0, in binary or structured mode of its HTTP binding.

The data is a submission (`{"chain", "input", "callback"?}`). The event's `subject` is the task's id; without one,
`source` and `id` make it, which together name a CloudEvent for good, so that a repeated event is the same task.
`priority`, `expirytime` and `traceparent` are taken over; `tenant`, if given, must be the caller's.
"""

from collections.abc import Mapping
from urllib.parse import unquote

from aiohttp import web

from callstream.streams.event import Priority
from callstream.streams.keys import given_id, id_from_idempotency_key
from callstream.streams.submission import Order, check_start, parse_deadline, parse_run_at
from callstream.streams.wire import BINARY_TYPE, STRUCTURED_TYPE, BadEvent, check_attributes, split_structured
from callstream.web.access import CALLER, Caller
from callstream.web.admission import admit, valid_traceparent
from callstream.web.bodies import parse, read
from callstream.web.context import CONTEXT
from callstream.web.problems import Problem, unacceptable
from callstream.web.rows import checked_id
from callstream.web.tasks import admitted_answer, check_submission, elsewhere

_PREFIX = "ce-"
_MOST_CHARACTERS = 4096


async def post_event(request: web.Request) -> web.StreamResponse:
    """POST /v1/events: answered as POST /v1/tasks is."""
    context, caller = request.app[CONTEXT], request[CALLER]
    raw = await read(request, context.options.max_body_bytes)
    try:
        attributes, data = _split(request, raw)
    except BadEvent as error:
        raise Problem(400, "bad-event", str(error)) from None
    if not isinstance(data, dict):
        raise unacceptable("#", "the data of the event must be a JSON object with 'chain' and 'input'")
    submission = check_submission(data)
    order = _order(attributes, caller, context.clock())
    if (owner := elsewhere(request, order.task)) is not None:
        try:
            return await context.proxy.forward(request, owner, raw)
        except Problem:
            # The owner is silent, not the log: handing the task in twice is told apart by intake.
            pass
    trace = context.port.begin_trace(order.traceparent or valid_traceparent(request.headers.get("traceparent")))
    order = Order(order.tenant, order.task, order.priority, order.deadline, trace, order.run_at)
    return admitted_answer(await admit(context, submission, order))


def _split(request: web.Request, raw: bytes) -> tuple[dict[str, str], object]:
    """Attributes and data of an event in either mode. Raises BadEvent or Problem 400 and 415."""
    most = request.app[CONTEXT].options.max_body_bytes
    if request.content_type == STRUCTURED_TYPE:
        return split_structured(parse(raw, most))
    if request.content_type != BINARY_TYPE:
        detail = f"send '{STRUCTURED_TYPE}', or '{BINARY_TYPE}' with ce- headers"
        raise Problem(415, "wrong-content-type", detail)
    attributes = {
        name.lower().removeprefix(_PREFIX): _decoded(name, value)
        for name, value in request.headers.items()
        if name.lower().startswith(_PREFIX)
    }
    check_attributes(attributes)
    return attributes, parse(raw, most)


def _decoded(name: str, value: str) -> str:
    """A header of the HTTP binding: characters outside printable ASCII are percent-encoded UTF-8."""
    if len(value) > _MOST_CHARACTERS:
        raise BadEvent(f"header {name[:40]!r} is longer than {_MOST_CHARACTERS:,} characters")
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError:
        raise BadEvent(f"header {name[:40]!r} is not UTF-8") from None


def _given(subject: str) -> str:
    try:
        return given_id(checked_id(subject))
    except ValueError as error:
        raise Problem(400, "bad-id", f"attribute 'subject': {error}") from None


def _order(attributes: Mapping[str, str], caller: Caller, now: float) -> Order:
    if attributes.get("tenant", caller.tenant) != caller.tenant:
        raise Problem(403, "other-tenant", "the event's tenant is not the one of the key")
    if "subject" in attributes:
        task = _given(attributes["subject"])
    else:
        source = attributes["source"]
        task = id_from_idempotency_key(f"{len(source)}:{source}:{attributes['id']}")
    try:
        priority = Priority(attributes.get("priority", Priority.NORMAL))
    except ValueError:
        raise Problem(400, "bad-event", "attribute 'priority' must be high, normal or low") from None
    try:
        deadline = parse_deadline(attributes["expirytime"], now) if "expirytime" in attributes else None
    except ValueError as error:
        raise Problem(400, "bad-event", f"attribute 'expirytime': {error}") from None
    try:
        run_at = parse_run_at(attributes.get("runat"), now)
        check_start(run_at, deadline)
    except ValueError as error:
        raise Problem(400, "bad-event", f"attribute 'runat': {error}") from None
    return Order(caller.tenant, task, priority, deadline, valid_traceparent(attributes.get("traceparent")), run_at)
