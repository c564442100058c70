"""Pages for reviewers: which tasks wait for a person, and one of them with all that it takes to decide."""

from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from callstream.agents.review import living
from callstream.streams.event import Json
from callstream.web.context import CONTEXT
from callstream.web.marking import MOST_SHOWN, marked
from callstream.web.pages import PAGES
from callstream.web.reviews import list_reviews, query_of, reviewed_row
from callstream.web.rows import task_in
from callstream.web.tasks import elsewhere
from callstream.web.tree import tree
from callstream.web.waiting import as_cursor, place_of

MOST_TEXTS = 16
MOST_MESSAGES = 20


async def get_reviews_page(request: web.Request) -> web.Response:
    """GET /reviews: held tasks, the most urgent first."""
    query = query_of(request)
    rows, complete, silent = await list_reviews(request, query)
    following = None
    if len(rows) >= query.limit:
        following = urlencode({**request.query, "after": as_cursor(place_of(rows[-1]))})
    asked = {name: request.query.get(name, "") for name in ("group", "chain", "claimed")}
    names = {"rows": rows, "asked": asked, "following": following, "is_first": query.after is None, "now": query.now}
    first = urlencode({name: value for name, value in asked.items() if value})
    return request.app[PAGES].render(
        request, "reviews.html", {**names, "first": first, "complete": complete, "silent": silent, "marked": marked}
    )


async def get_review_page(request: web.Request) -> web.StreamResponse:
    """GET /reviews/{id}: one held task, or what was decided about it."""
    context, task = request.app[CONTEXT], task_in(request.match_info)
    if (owner := elsewhere(request, task)) is not None:
        return await context.proxy.forward(request, owner)
    now = context.clock()
    shown = await reviewed_row(request, task, now)
    names = {
        "row": shown,
        "review": shown["review"],
        "lease": living(shown["review"], now),
        "now": now,
        "marked": marked,
    }
    return request.app[PAGES].render(request, "review.html", {**names, **_contents(shown)})


def _contents(row: Json) -> dict[str, Any]:
    """What a page shows of a held task: its judged text, the texts that may be edited, pictures and the prompt."""
    outputs = row.get("outputs") or {}
    holding = row["steps"][-1]["step"] if row["steps"] else ""
    judged = outputs.get(holding, {})
    told = judged.get("findings") if isinstance(judged, dict) else None
    findings = [one for one in told or () if isinstance(one, dict)]
    texts = texts_of(row, holding)
    return {
        "text": row.get("text") or "",
        "findings": findings,
        # Of the findings in several texts those in the one that is shown, which is the first one's.
        "marks": [one for one in findings if one.get("part") == findings[0].get("part")],
        "texts": texts,
        "edited": max((note["at"] for note in row["review"]["audit"] if note["what"] == "edit"), default=0),
        "pictures": _pictures(row.get("input")),
        "messages": _messages(outputs),
        "input": tree("input", row.get("input")) if row.get("input") is not None else None,
        "outputs": tree("outputs", outputs),
    }


def texts_of(row: Json, holding: str) -> list[dict[str, str]]:
    """The texts of a held task that may be edited: those that were judged; where none was, all of its steps.

    What was edited and waits for another person's approval is there in its place.
    """
    edits, judged = row["review"]["edits"], row.get("text") or ""
    found = []
    for step, output in (row.get("outputs") or {}).items():
        for name, value in output.items() if step != holding and isinstance(output, dict) else ():
            if isinstance(value, str) and value and len(value) <= MOST_SHOWN:
                now = edits.get(step, {}).get(name, value)
                found.append({"step": step, "field": name, "text": now, "was": value})
    in_judged = [one for one in found if one["was"] in judged]
    return (in_judged or found)[:MOST_TEXTS]


def _pictures(given: Any) -> list[str]:
    """References to pictures in a task's input."""
    values = given.values() if isinstance(given, dict) else ()
    flat = [one for value in values for one in (value if isinstance(value, list) else [value])]
    return [one for one in flat if isinstance(one, str) and one.startswith(("blob:", "https://", "http://"))][
        :MOST_TEXTS
    ]


def _messages(outputs: Json) -> list[dict[str, str]]:
    """What the model was asked, from the output of the step `prompt`."""
    given = outputs.get("prompt")
    messages = given.get("messages") if isinstance(given, dict) else None
    found = [one for one in messages if isinstance(one, dict)] if isinstance(messages, list) else []
    return [
        {"role": str(one.get("role", "")), "content": _content(one.get("content"))} for one in found[:MOST_MESSAGES]
    ]


def _content(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text", part.get("type", ""))) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
