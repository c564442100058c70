"""Commands over HTTP: cancel a task, a list or a filter; pause and resume; see what is in force.

A command is answered once the log has it and this gateway obeys it; every other worker hears it in the same moment.
"""

import asyncio
from typing import Annotated

from aiohttp import web
from pydantic import Field, model_validator

from callstream.agents.control.commands import (
    AnyCommand,
    Cancel,
    CancelFilter,
    CancelTask,
    Reason,
    Scope,
    Selection,
    Switch,
    Who,
    told,
)
from callstream.agents.control.controls import MOST_SCOPES, MOST_TASKS, TooMany
from callstream.streams import strict_json
from callstream.streams.event import Json, Strict
from callstream.streams.keys import TaskId, Tenant, task_key
from callstream.streams.strict_json import BadJson
from callstream.streams.topics import TIMER
from callstream.web.access import CALLER, Caller
from callstream.web.bodies import parse, read_as, read_json
from callstream.web.context import CONTEXT, Context
from callstream.web.problems import Problem, unacceptable, validated
from callstream.web.proxy import HOP
from callstream.web.rows import has_ended, task_in, unknown
from callstream.web.standing import cancel_of, shown
from callstream.web.tasks import REPLAYED, elsewhere, find, json_response

MOST_LISTED = 1_000
_PEER_SECONDS = 30.0
_MOST_ANSWER_BYTES = 4 * 1024**2
NEVER_PAUSED = frozenset({"gateway", "paused"})
"""Services that nobody pauses: the one shows what is paused, the other keeps it."""


class Why(Strict):
    """What every command takes: why, and by whom (the key's tenant and role if nobody is named)."""

    reason: Reason = ""
    by: Who | None = None


class Cancelling(Why):
    """The body of POST /v1/tasks/{id}/cancel: without a `rollback` what the task's steps did stays."""

    rollback: bool = True


class CancelMany(Cancelling):
    """The body of POST /v1/control/cancel: a list of ids (of a tenant, the caller's by default), or a filter."""

    tasks: Annotated[tuple[TaskId, ...], Field(min_length=1, max_length=MOST_LISTED)] | None = None
    tenant: Tenant | None = None
    filter: Selection | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "CancelMany":
        if (self.tasks is None) == (self.filter is None):
            raise ValueError("give either tasks or filter")
        if self.filter is not None and self.tenant is not None:
            raise ValueError("with a filter, tenant belongs into it")
        return self


class Pausing(Why):
    """The body of POST /v1/control/pause and resume."""

    scope: Scope


async def post_cancel(request: web.Request) -> web.StreamResponse:
    """POST /v1/tasks/{id}/cancel: 202 once it is on the log, 200 if it was before; 409 for a task that has ended."""
    context, caller, task = request.app[CONTEXT], request[CALLER], task_in(request.match_info)
    raw = await read_as(request, context.options.max_body_bytes, "application/json") if request.can_read_body else b""
    asked = validated(Cancelling, parse(raw or b"{}", context.options.max_body_bytes))
    if (owner := elsewhere(request, task)) is not None:
        return await context.proxy.forward(request, owner, raw or None)
    row = await find(context, caller, task)
    if row is None:
        raise unknown(task)
    if has_ended(row) and row["state"] != "cancelled":
        raise _ended(row, "cancelled")
    cancel, repeated = await _cancel(context, row, by_whom(caller, asked.by), asked)
    status_url = f"/v1/tasks/{task}"
    headers = {"Location": status_url} | ({REPLAYED: "true"} if repeated else {})
    answer = {"id": task, "status_url": status_url, "state": row["state"], "cancel": cancel}
    return json_response(answer, status=200 if repeated else 202, headers=headers)


async def post_cancel_many(request: web.Request) -> web.Response:
    """POST /v1/control/cancel: 202 with what becomes of each listed task, or with the filter as it is in force."""
    context, caller = request.app[CONTEXT], request[CALLER]
    asked = validated(CancelMany, await read_json(request, context.options.max_body_bytes))
    if asked.filter is not None:
        return await _cancel_filter(context, asked.filter, by_whom(caller, asked.by), asked)
    owner = Caller(asked.tenant or caller.tenant, caller.role)
    here: list[str] = []
    away: dict[str, list[str]] = {}
    for task in dict.fromkeys(asked.tasks or ()):
        peer = None if HOP in request.headers else context.port.owner(task_key(owner.tenant, task))
        (here if peer is None else away.setdefault(peer, [])).append(task)
    told_here = await asyncio.gather(
        *(_cancel_one(context, owner, task, by_whom(caller, asked.by), asked) for task in here)
    )
    answers = await asyncio.gather(*(_ask(context, request, peer, asked, tasks) for peer, tasks in away.items()))
    rows = {one["id"]: one for one in (*told_here, *(one for answer in answers for one in answer))}
    return json_response({"tasks": [rows[task] for task in dict.fromkeys(asked.tasks or ())]}, status=202)


async def post_pause(request: web.Request) -> web.StreamResponse:
    """POST /v1/control/pause: 202, or 200 with the pause that is in force already; 409 for a task that has ended."""
    context, caller = request.app[CONTEXT], request[CALLER]
    raw = await read_as(request, context.options.max_body_bytes, "application/json")
    asked = validated(Pausing, parse(raw, context.options.max_body_bytes))
    scope = _scope(asked.scope, caller)
    if scope.task is not None and scope.tenant is not None:
        owner = None if HOP in request.headers else context.port.owner(task_key(scope.tenant, scope.task))
        if owner is not None:
            return await context.proxy.forward(request, owner, raw)
        await _check_running(context, Caller(scope.tenant, caller.role), scope.task)
    else:
        _check_known(context, scope.kind, getattr(scope, scope.kind), "#/scope", "paused")
    if (found := context.port.controls.pause_of(scope)) is not None:
        return json_response(told(found), headers={REPLAYED: "true"})
    pause = Switch(at=context.clock(), by=by_whom(caller, asked.by), reason=asked.reason, scope=scope, paused=True)
    await give(context, pause)
    return json_response(told(pause), status=202)


async def post_resume(request: web.Request) -> web.Response:
    """POST /v1/control/resume: 202; 409 for what is not paused."""
    context, caller = request.app[CONTEXT], request[CALLER]
    asked = validated(Pausing, await read_json(request, context.options.max_body_bytes))
    scope = _scope(asked.scope, caller)
    found = context.port.controls.pause_of(scope)
    if found is None:
        raise Problem(409, "not-paused", f"{scope} is not paused; GET /v1/control lists what is")
    # Later than the pause, whatever the clocks of two gateways say.
    at = max(context.clock(), found.at)
    await give(context, Switch(at=at, by=by_whom(caller, asked.by), reason=asked.reason, scope=scope, paused=False))
    return json_response({"scope": told(found)["scope"], "paused_since": found.at, "resumed": at}, status=202)


async def get_control(request: web.Request) -> web.Response:
    """GET /v1/control: pauses and filters in force, and how many single tasks are remembered as cancelled."""
    controls = request.app[CONTEXT].port.controls
    return json_response(
        {
            "pauses": [told(one) for one in controls.pauses_in_force()],
            "filters": [told(one) for one in controls.filters()],
            "cancelled_tasks": controls.tasks_cancelled,
            "most": {"cancelled_tasks": MOST_TASKS, "pauses": MOST_SCOPES, "filters": MOST_SCOPES},
        }
    )


async def _cancel_filter(context: Context, given: Selection, by: str, how: Cancelling) -> web.Response:
    if given.chain is not None:
        _check_known(context, "chain", given.chain, "#/filter", "cancelled")
    now = context.clock()
    before = now if given.created_before is None else min(given.created_before, now)
    selected = given.model_dump(exclude={"created_before"})
    cancel = CancelFilter(at=now, by=by, reason=how.reason, before=before, rollback=how.rollback, **selected)
    await give(context, cancel)
    return json_response({"filter": told(cancel)}, status=202)


async def _cancel(context: Context, row: Json, by: str, how: Cancelling) -> tuple[Json | None, bool]:
    """The cancel of a task, and whether it was there before."""
    if (found := cancel_of(context, row)) is not None:
        return shown(found), True
    if row["state"] == "cancelled":
        # Its command is forgotten by now; the task's own row says by whom and why.
        return None, True
    now = context.clock()
    # The clock of the gateway that took the task may be ahead of this one's.
    cancel: Cancel = CancelTask(
        at=now,
        by=by,
        reason=how.reason,
        tenant=row["tenant"],
        task=row["id"],
        before=max(now, row["created"]),
        rollback=how.rollback,
    )
    await give(context, cancel)
    return shown(cancel), False


async def _cancel_one(context: Context, owner: Caller, task: str, by: str, how: Cancelling) -> Json:
    row = await find(context, owner, task)
    if row is None:
        return {"id": task, "outcome": "unknown"}
    if has_ended(row) and row["state"] != "cancelled":
        return {"id": task, "outcome": "ended", "state": row["state"]}
    _, repeated = await _cancel(context, row, by, how)
    return {"id": task, "outcome": "cancelled before" if repeated else "cancelled", "state": row["state"]}


async def _ask(context: Context, request: web.Request, peer: str, asked: CancelMany, tasks: list[str]) -> list[Json]:
    """What another gateway says of its tasks; `unreached` where it gives no answer that can be used."""
    body = asked.model_dump(mode="json", exclude_none=True, exclude={"tasks"}) | {"tasks": tasks}
    raw = await context.proxy.ask(request, peer, strict_json.dumps(body), _PEER_SECONDS)
    try:
        found = strict_json.loads(raw or b"", _MOST_ANSWER_BYTES)["tasks"]
        rows = {str(one["id"]): dict(one) for one in found}
    except (BadJson, LookupError, TypeError):
        rows = {}
    return [rows.get(task, {"id": task, "outcome": "unreached"}) for task in tasks]


async def give(context: Context, command: AnyCommand) -> None:
    """Put a command on the log. Raises Problem 409 where no more of its kind are kept, Unavailable."""
    try:
        context.port.controls.require_room(command)
    except TooMany as error:
        raise Problem(409, "too-many", str(error)) from None
    await context.port.command(command)


def _scope(scope: Scope, caller: Caller) -> Scope:
    """A task without a tenant is one of the caller's."""
    return scope if scope.task is None or scope.tenant else scope.model_copy(update={"tenant": caller.tenant})


async def _check_running(context: Context, owner: Caller, task: str) -> None:
    """Raises Problem 404 for a task that nobody knows, 409 for one that has ended."""
    row = await find(context, owner, task)
    if row is None:
        raise unknown(task)
    if has_ended(row):
        raise _ended(row, "paused")


def _ended(row: Json, done: str) -> Problem:
    return Problem(409, "already-ended", f"task {row['id']!r} cannot be {done} any more: it is {row['state']}")


def _check_known(context: Context, kind: str, name: str, place: str, done: str) -> None:
    """Raises Problem 422 for a chain, a service or a pool that nobody here knows: a typing error would stop nothing."""
    chains = context.chains
    known = {
        "chain": {chain.name for chain in chains},
        "service": ({"intake", "review", "notify", TIMER} | set(chains.services())) - NEVER_PAUSED,
        "pool": set(context.port.pool_models()),
    }.get(kind)
    if known is not None and name not in known:
        names = ", ".join(sorted(known)) or "none"
        raise unacceptable(f"{place}/{kind}", f"no {kind} {name!r} can be {done} here; there are: {names}")


def by_whom(caller: Caller, named: str | None) -> str:
    """Who gives a command, as audits have it: who is named, else the caller's tenant and role."""
    return named or f"{caller.tenant} ({caller.role.name.lower()})"
