"""Held tasks and the verdicts of people about them."""

from aiohttp import web

from callstream.agents.review import Verdict
from callstream.web.access import CALLER
from callstream.web.bodies import parse, read_as
from callstream.web.context import CONTEXT
from callstream.web.peers import ask_peers
from callstream.web.port import NotHeld, VerdictRefused
from callstream.web.problems import Problem, unacceptable, validated
from callstream.web.rows import checked_id, task_in, unknown
from callstream.web.tasks import elsewhere, find, json_response

MOST_LISTED = 100


async def get_reviews(request: web.Request) -> web.Response:
    """GET /v1/reviews?after=ID&limit=N: held tasks in the order of their ids, on this gateway and all others."""
    context, caller = request.app[CONTEXT], request[CALLER]
    after = request.query.get("after")
    if after is not None:
        checked_id(after)
    limit = _limit(request.query.get("limit", "50"))
    held = await context.port.held(caller.tenant, after, limit)
    answers = await ask_peers(request)
    for answer in answers.values():
        held.extend((answer or {}).get("reviews", ()))
    silent = [peer for peer, answer in answers.items() if answer is None]
    rows = sorted(held, key=lambda row: str(row["id"]))
    following = rows[limit - 1]["id"] if len(rows) >= limit else None
    return json_response({"reviews": rows[:limit], "next": following, "silent_gateways": len(silent)})


async def get_review(request: web.Request) -> web.StreamResponse:
    """GET /v1/reviews/{id}: the row of a held task; 409 if it waits for nobody."""
    context, task = request.app[CONTEXT], task_in(request.match_info)
    if (owner := elsewhere(request, task)) is not None:
        return await context.proxy.forward(request, owner)
    row = await find(context, request[CALLER], task)
    if row is None:
        raise unknown(task)
    if row["state"] != "held":
        raise _not_held(task, f"it is {row['state']}")
    return json_response(row)


async def post_review(request: web.Request) -> web.StreamResponse:
    """POST /v1/reviews/{id}: a verdict; 202 once the log has it."""
    context, caller, task = request.app[CONTEXT], request[CALLER], task_in(request.match_info)
    raw = await read_as(request, context.options.max_body_bytes, "application/json")
    verdict = validated(Verdict, parse(raw, context.options.max_body_bytes))
    if (owner := elsewhere(request, task)) is not None:
        return await context.proxy.forward(request, owner, raw)
    if await find(context, caller, task) is None:
        raise unknown(task)
    try:
        await context.port.verdict(caller.tenant, task, verdict)
    except NotHeld as error:
        raise _not_held(task, str(error)) from None
    except VerdictRefused as error:
        raise unacceptable("#/edits", str(error)) from None
    status_url = f"/v1/tasks/{task}"
    told = {"id": task, "status_url": status_url, "verdict": str(verdict.verdict)}
    return json_response(told, status=202, headers={"Location": status_url})


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST_LISTED):
        raise Problem(400, "bad-limit", f"limit takes 1 to {MOST_LISTED}")
    return int(text)


def _not_held(task: str, why: str) -> Problem:
    return Problem(409, "not-held", f"task {task!r} waits for no verdict: {why}")
