"""Tasks over HTTP: hand one in, once however often it is sent; see how it is, waiting for its end if asked."""

import math
import secrets
from typing import Annotated

from aiohttp import web
from pydantic import Field, StrictFloat, StrictInt, StringConstraints

from callstream.streams import strict_json
from callstream.streams.event import Json, Priority, Strict, Submission
from callstream.streams.keys import GivenId, id_from_idempotency_key, task_key
from callstream.streams.submission import Order, check_start, parse_deadline, parse_run_at
from callstream.web.access import CALLER, Caller
from callstream.web.admission import Admitted, admit, new_task_id, valid_traceparent
from callstream.web.bodies import parse, read_as
from callstream.web.context import CONTEXT, Context
from callstream.web.hub import Closed, Filter, Lagged, Listener
from callstream.web.problems import Problem, unacceptable, validated
from callstream.web.proxy import HOP
from callstream.web.rows import has_ended, task_in, unknown
from callstream.web.standing import standing

REPLAYED = "Idempotent-Replayed"
IDEMPOTENCY_KEY = "Idempotency-Key"
MOST_KEY_CHARACTERS = 255
_LOOK_AGAIN_SECONDS = 5.0
"""While waiting, the row is read again this often, should its partition have moved and its updates with it."""


class TaskRequest(Strict):
    """The body of POST /v1/tasks. `deadline` is RFC 3339 or seconds from now.

    The task starts at `run_at` (RFC 3339; the past means at once) or after `delay_seconds`.

    `id` names the task and so tells repeats; a task without one is named by the header Idempotency-Key, or anew.
    """

    chain: str
    input: Json
    id: GivenId | None = None
    priority: Priority = Priority.NORMAL
    deadline: StrictInt | StrictFloat | Annotated[str, StringConstraints(max_length=64, strict=True)] | None = None
    run_at: Annotated[str, StringConstraints(max_length=64, strict=True)] | None = None
    delay_seconds: StrictInt | StrictFloat | None = None
    callback: str | None = None


class _Checked(Strict):
    """A request whose parts fit."""

    submission: Submission
    deadline: Annotated[float, Field(gt=0)] | None
    run_at: float | None
    priority: Priority
    id: GivenId | None


async def post_task(request: web.Request) -> web.StreamResponse:
    """POST /v1/tasks: 202 once the log has the task, 200 if it was there already."""
    context, caller = request.app[CONTEXT], request[CALLER]
    raw = await read_as(request, context.options.max_body_bytes, "application/json")
    checked = _check(parse(raw, context.options.max_body_bytes), context.clock())
    task = checked.id or named_by_key(request) or new_task_id(context, caller.tenant, secrets.token_hex(12))
    if (owner := elsewhere(request, task)) is not None and (checked.id or IDEMPOTENCY_KEY in request.headers):
        try:
            return await context.proxy.forward(request, owner, raw)
        except Problem:
            # The owner is silent, not the log: handing the task in twice is told apart by intake.
            pass
    trace = context.port.begin_trace(valid_traceparent(request.headers.get("traceparent")))
    order = Order(caller.tenant, task, checked.priority, checked.deadline, trace, checked.run_at)
    return admitted_answer(await admit(context, checked.submission, order))


async def get_task(request: web.Request) -> web.StreamResponse:
    """GET /v1/tasks/{id}?wait=SECONDS: the row; with `wait` not before the task has ended or the time is over."""
    context, caller = request.app[CONTEXT], request[CALLER]
    task, wait_seconds = task_in(request.match_info), _wait(request)
    if (owner := elsewhere(request, task)) is not None:
        return await context.proxy.forward(request, owner, wait_seconds=wait_seconds)
    row = await find(context, caller, task)
    if row is None:
        raise unknown(task)
    if wait_seconds > 0 and not has_ended(row):
        with context.streams.listen("wait") as listener:
            row = await _ended(context, listener, row, wait_seconds)
    return json_response(row if has_ended(row) else {**row, **standing(context, row)})


def elsewhere(request: web.Request, task: str) -> str | None:
    """Base URL of the gateway that has the task's row, unless it is this one or the request came from another."""
    if HOP in request.headers:
        return None
    return request.app[CONTEXT].port.owner(task_key(request[CALLER].tenant, task))


async def find(context: Context, caller: Caller, task: str) -> Json | None:
    """The row in the table or, until it is there, that of the submission."""
    row = await context.port.task(caller.tenant, task)
    return row if row is not None else context.recent.row(task_key(caller.tenant, task))


def admitted_answer(admitted: Admitted) -> web.Response:
    """What a caller is told about a submission."""
    row = admitted.row
    status_url = f"/v1/tasks/{row['id']}"
    headers = {"Location": status_url}
    if admitted.repeated:
        headers[REPLAYED] = "true"
    if admitted.traceparent:
        headers["traceparent"] = admitted.traceparent
    told = {"id": row["id"], "status_url": status_url, "state": row["state"]}
    return json_response(told, status=200 if admitted.repeated else 202, headers=headers)


def json_response(value: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """JSON that no cache keeps."""
    return web.Response(
        status=status,
        body=strict_json.dumps(value),
        content_type="application/json",
        headers={"Cache-Control": "no-store"} | (headers or {}),
    )


def check_submission(members: Json) -> Submission:
    """A submission from outside. Raises Problem 422."""
    return validated(Submission, members)


def _check(document: object, now: float) -> _Checked:
    given = validated(TaskRequest, document)
    submission = check_submission({"chain": given.chain, "input": given.input, "callback": given.callback})
    try:
        deadline = None if given.deadline is None else parse_deadline(given.deadline, now)
    except (ValueError, OverflowError) as error:
        raise unacceptable("#/deadline", str(error)) from None
    run_at = _start(given, deadline, now)
    return _Checked(submission=submission, deadline=deadline, run_at=run_at, priority=given.priority, id=given.id)


def _start(given: TaskRequest, deadline: float | None, now: float) -> float | None:
    if given.run_at is not None and given.delay_seconds is not None:
        raise unacceptable("#/delay_seconds", "stands beside run_at: give one of them")
    pointer = "#/run_at" if given.delay_seconds is None else "#/delay_seconds"
    try:
        run_at = parse_run_at(given.run_at if given.delay_seconds is None else given.delay_seconds, now)
        check_start(run_at, deadline)
    except (ValueError, OverflowError) as error:
        raise unacceptable(pointer, str(error)) from None
    return run_at


def named_by_key(request: web.Request) -> str | None:
    """The id that a request's Idempotency-Key stands for, None without one. Raises Problem 400."""
    key = request.headers.get(IDEMPOTENCY_KEY)
    if key is None:
        return None
    if not (0 < len(key) <= MOST_KEY_CHARACTERS and key.isascii() and key.isprintable()):
        detail = f"{IDEMPOTENCY_KEY} takes 1 to {MOST_KEY_CHARACTERS} printable ASCII characters"
        raise Problem(400, "bad-idempotency-key", detail)
    return id_from_idempotency_key(key)


def _wait(request: web.Request) -> float:
    text = request.query.get("wait", "0")
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise Problem(400, "bad-wait", "wait takes seconds, 0 or more")
    return min(seconds, request.app[CONTEXT].options.max_wait_seconds)


async def _ended(context: Context, listener: Listener, row: Json, wait_seconds: float) -> Json:
    """The row once the task has ended, or as it is when the time is over."""
    until = context.clock() + wait_seconds
    listener.follow(Filter(row["tenant"], task=row["id"]))
    while True:
        row = await context.port.task(row["tenant"], row["id"]) or row
        left = until - context.clock()
        if has_ended(row) or left <= 0:
            return row
        try:
            await listener.next(min(left, _LOOK_AGAIN_SECONDS))
        except (Lagged, Closed):
            return row
