"""Held tasks over HTTP: which there are, what a reviewer needs of one, and what people say about them.

What is said takes effect a moment after it is on the log, in the order of the log. The answer waits for that a little,
so that who was too late is told so.
"""

import asyncio
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from callstream.agents.review import Choice, Claim, Command, Release, Verdict, living
from callstream.agents.review.audit import REFUSE, same
from callstream.streams.event import Json, Strict
from callstream.streams.keys import task_key
from callstream.web.access import CALLER
from callstream.web.bodies import parse, read_as
from callstream.web.context import CONTEXT, Context
from callstream.web.held import listed, review_in, reviewed, was_reviewed
from callstream.web.peers import ask_peers
from callstream.web.port import NotHeld, VerdictRefused
from callstream.web.problems import Problem, printable, unacceptable, validated
from callstream.web.rows import task_in, unknown
from callstream.web.tasks import elsewhere, json_response
from callstream.web.waiting import Query, as_cursor, place_in, place_of

MOST_LISTED = 100
EFFECT_SECONDS = 3.0
LOOK_SECONDS = 0.02


class Who(Strict):
    """The body of a claim or a release."""

    reviewer: str


async def get_reviews(request: web.Request) -> web.Response:
    """GET /v1/reviews?group=&chain=&claimed=&after=&limit=: held tasks by priority, due and id, of all gateways."""
    query = query_of(request)
    rows, complete, silent = await list_reviews(request, query)
    following = as_cursor(place_of(rows[-1])) if len(rows) >= query.limit else None
    told = {"reviews": rows, "next": following, "complete": complete, "silent_gateways": silent}
    return json_response(told)


async def list_reviews(request: web.Request, query: Query) -> tuple[list[Json], bool, int]:
    """Held tasks here and on all other gateways in order, whether those are all, and how many gateways are silent."""
    context, caller = request.app[CONTEXT], request[CALLER]
    found, complete = await context.port.reviews(caller.tenant, query)
    rows = [listed(row, query.now) for row in found]
    answers = await ask_peers(request, f"/v1/reviews?{request.query_string}")
    for answer in answers.values():
        rows.extend((answer or {}).get("reviews", ()))
        complete = complete and (answer or {}).get("complete", True)
    silent = [peer for peer, answer in answers.items() if answer is None]
    return sorted(rows, key=place_of)[: query.limit], complete, len(silent)


async def get_review(request: web.Request) -> web.StreamResponse:
    """GET /v1/reviews/{id}: what a reviewer needs, and what was done so far; 409 if it never waited for anybody."""
    context, task = request.app[CONTEXT], task_in(request.match_info)
    if (owner := elsewhere(request, task)) is not None:
        return await context.proxy.forward(request, owner)
    return json_response(await reviewed_row(request, task, context.clock()))


async def post_review(request: web.Request) -> web.StreamResponse:
    """POST /v1/reviews/{id}: a verdict; 202 once the log has it."""
    context, task, raw = request.app[CONTEXT], task_in(request.match_info), await _body(request)
    verdict = validated(Verdict, parse(raw, context.options.max_body_bytes))
    if verdict.verdict is Choice.REJECT and not verdict.reason.strip():
        raise unacceptable("#/reason", "a task is rejected for a reason: say which")
    if (owner := elsewhere(request, task)) is not None:
        return await context.proxy.forward(request, owner, raw)
    row, noted = await _say(context, request[CALLER].tenant, task, verdict)
    status_url = f"/v1/tasks/{task}"
    told = {"id": task, "status_url": status_url, "verdict": str(verdict.verdict)} | _effect(row, noted)
    return json_response(told, status=202, headers={"Location": status_url})


async def post_claim(request: web.Request) -> web.StreamResponse:
    """POST /v1/reviews/{id}/claim: have a held task for a while, or longer; 409 with who has it, if another does."""
    seconds = request.app[CONTEXT].options.review_lease_seconds
    return await _lease(request, lambda who: Claim(reviewer=who, seconds=seconds))


async def post_release(request: web.Request) -> web.StreamResponse:
    """POST /v1/reviews/{id}/release: give a held task back."""
    return await _lease(request, lambda who: Release(reviewer=who))


def query_of(request: web.Request) -> Query:
    """What a request asks to be listed. Raises Problem 400."""
    asked, claimed = request.query, request.query.get("claimed")
    if claimed not in (None, "", "true", "false"):
        raise Problem(400, "bad-filter", "claimed takes true or false")
    try:
        after = place_in(asked["after"]) if asked.get("after") else None
    except ValueError as error:
        raise Problem(400, "bad-cursor", f"after: {error}; it takes the 'next' of an earlier answer") from None
    return Query(
        now=request.app[CONTEXT].clock(),
        after=after,
        limit=_limit(asked.get("limit", "50")),
        group=asked.get("group") or None,
        chain=asked.get("chain") or None,
        claimed=None if not claimed else claimed == "true",
    )


async def _lease(request: web.Request, command_of: Any) -> web.StreamResponse:
    context, task, raw = request.app[CONTEXT], task_in(request.match_info), await _body(request)
    who = validated(Who, parse(raw, context.options.max_body_bytes))
    if not who.reviewer.strip() or len(who.reviewer) > 200:
        raise unacceptable("#/reviewer", "takes a name, of 200 characters at most")
    if (owner := elsewhere(request, task)) is not None:
        return await context.proxy.forward(request, owner, raw)
    row, noted = await _say(context, request[CALLER].tenant, task, command_of(who.reviewer))
    claim = review_in(row)["claim"] if noted is not None else None
    return json_response({"id": task, "claim": claim} | _effect(row, noted), status=200 if noted is not None else 202)


async def _say(context: Context, tenant: str, task: str, command: Command) -> tuple[Json, Json | None]:
    """The task's row after something was said, and what was noted of that; None if that took too long to come.

    Raises Problem 404, 409, 422, Unavailable.
    """
    row = await row_of(context, tenant, task)
    reviewer = getattr(command, "reviewer", "")
    lease = living(review_in(row), context.clock()) if row["state"] == "held" else None
    if lease is not None and not same(lease["by"], reviewer):
        raise _claimed(task, f"{lease['by']} has claimed it", lease)
    try:
        mark = await context.port.say(tenant, task, command)
    except NotHeld as error:
        raise _not_held(task, str(error)) from None
    except VerdictRefused as error:
        raise unacceptable("#/edits", str(error)) from None
    row, noted = await _noted(context, tenant, task, mark)
    if noted is not None and noted["what"] == REFUSE:
        if noted.get("code") == "edits":
            raise unacceptable("#/edits", noted["why"])
        if noted.get("code") == "claimed":
            raise _claimed(task, noted["why"], living(review_in(row), context.clock()))
        raise Problem(409, "refused", f"task {task!r}: {noted['why']}")
    return row, noted


async def _noted(context: Context, tenant: str, task: str, mark: str) -> tuple[Json, Json | None]:
    """The row once it has a note with that mark. Raises Problem 409 where somebody else has decided before."""
    row: Json = {}
    for _ in range(int(EFFECT_SECONDS / LOOK_SECONDS)):
        row = await row_of(context, tenant, task)
        review = review_in(row)
        if (found := next((note for note in review["audit"] if note["mark"] == mark), None)) is not None:
            return row, found
        if review["state"] != "held":
            last = review["audit"][-1] if review["audit"] else {"by": "somebody", "what": "decided"}
            raise _not_held(task, f"it was decided before: {last['what']} by {last['by']}")
        await asyncio.sleep(LOOK_SECONDS)
    return row, None


async def reviewed_row(request: web.Request, task: str, now: float) -> Json:
    """What a reviewer needs of a task that is here. Raises Problem 404, and 409 if it never waited for anybody."""
    row = await row_of(request.app[CONTEXT], request[CALLER].tenant, task)
    if not was_reviewed(row):
        raise _not_held(task, f"it is {row['state']}")
    return reviewed(row, now)


async def row_of(context: Context, tenant: str, task: str) -> Json:
    """The whole row, in the table or, until it is there, that of the submission. Raises Problem 404."""
    row = await context.port.review(tenant, task) or context.recent.row(task_key(tenant, task))
    if row is None:
        raise unknown(task)
    return row


async def _body(request: web.Request) -> bytes:
    return await read_as(request, request.app[CONTEXT].options.max_body_bytes, "application/json")


def _effect(row: Json, noted: Json | None) -> Json:
    """Whether what was said has been taken in, and what the review is after it."""
    return {"in_effect": noted is not None, "review": review_in(row)["state"] if noted is not None else None}


def _claimed(task: str, why: str, lease: Json | None) -> Problem:
    until = "" if lease is None else f" until {datetime.fromtimestamp(lease['until'], UTC).isoformat('T', 'seconds')}"
    return Problem(409, "claimed", f"task {task!r}: {printable(why)}{until}")


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST_LISTED):
        raise Problem(400, "bad-limit", f"limit takes 1 to {MOST_LISTED}")
    return int(text)


def _not_held(task: str, why: str) -> Problem:
    return Problem(409, "not-held", f"task {task!r} waits for no verdict: {why}")
