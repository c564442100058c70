"""GET /v1/usage: what model calls took and cost, as JSON or CSV, on this gateway and all others."""

import csv
import io
import time
from dataclasses import dataclass
from datetime import date

from aiohttp import web

from callstream.streams.event import Json
from callstream.tables.usage import AMOUNTS, BY, COUNTS, day_of, regrouped
from callstream.web.access import CALLER
from callstream.web.context import CONTEXT
from callstream.web.options import Role
from callstream.web.peers import ask_peers
from callstream.web.port import Unavailable, UsageQuery
from callstream.web.problems import Problem
from callstream.web.tasks import json_response

USUAL_BY = ("tenant", "chain", "model")
MOST_DAYS = 400
MOST_ROWS = 20_000
COLUMNS = ("currency", *COUNTS, *AMOUNTS)
_KNOWN = frozenset({"from", "to", "by", "tenant", "chain", "format"})


@dataclass(frozen=True, slots=True)
class _Asked:
    query: UsageQuery
    as_csv: bool


async def get_usage(request: web.Request) -> web.Response:
    """GET /v1/usage?from=&to=&by=&tenant=&chain=&format=: sums of whole days, UTC, both ends included.

    Of all tenants for a key that operates, else of its own. CSV is given whole or not at all.
    """
    asked = _asked(request)
    query = asked.query
    mine = await request.app[CONTEXT].port.usage(query)
    rel = request.rel_url.update_query({"from": query.first, "to": query.last, "format": "json"})
    answers = await ask_peers(request, str(rel))
    silent = sum(answer is None for answer in answers.values())
    rows = [*mine, *(row for answer in answers.values() if answer is not None for row in answer["usage"])]
    found = regrouped(rows, query.by)
    if len(found) > MOST_ROWS:
        raise Problem(
            400, "too-many-rows", f"{len(found):,} rows; at most {MOST_ROWS:,}: ask for fewer days or by less"
        )
    if asked.as_csv:
        if silent:
            raise Unavailable(f"{silent} other gateways did not answer, and a part of the sums is theirs")
        name = f"usage-{query.first}-{query.last}.csv"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return web.Response(text=as_csv(found, query.by), content_type="text/csv", charset="utf-8", headers=headers)
    told: Json = {"from": query.first, "to": query.last, "by": list(query.by), "usage": found}
    told |= {"complete": not silent, "silent_gateways": silent, "budgets": _budgets(request)}
    return json_response(told)


def _budgets(request: web.Request) -> list[Json]:
    """Those of all for a key that operates, else of its own tenant."""
    caller, found = request[CALLER], request.app[CONTEXT].port.budgets()
    return [one for one in found if caller.role >= Role.OPERATE or one["budget"] == f"tenant {caller.tenant}"]


def as_csv(rows: list[Json], by: tuple[str, ...]) -> str:
    """The rows with a line of names above them (RFC 4180)."""
    out = io.StringIO()
    writer = csv.writer(out)
    names = (*by, *COLUMNS)
    writer.writerow(names)
    writer.writerows([row[name] for name in names] for row in rows)
    return out.getvalue()


def _asked(request: web.Request) -> _Asked:
    given, caller = request.query, request[CALLER]
    if unknown := sorted(set(given) - _KNOWN):
        raise Problem(400, "bad-query", f"{unknown[0][:40]!r} is not known; there are: {', '.join(sorted(_KNOWN))}")
    today = day_of(request.app[CONTEXT].clock())
    last = _day(given.get("to", today), "to")
    first = _day(given.get("from", f"{last[:8]}01"), "from")
    if first > last:
        raise Problem(400, "bad-range", f"from ({first}) is later than to ({last})")
    if (days := (date.fromisoformat(last) - date.fromisoformat(first)).days + 1) > MOST_DAYS:
        raise Problem(400, "bad-range", f"{first} to {last} are {days:,} days; at most {MOST_DAYS} at once")
    tenant = given.get("tenant")
    if caller.role < Role.OPERATE:
        if tenant not in (None, caller.tenant):
            raise Problem(403, "role-too-low", "the usage of other tenants needs the role operate")
        tenant = caller.tenant
    query = UsageQuery(first, last, _by(given.get("by", ",".join(USUAL_BY))), tenant, given.get("chain"))
    return _Asked(query, _wants_csv(request))


def _by(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",")) if text.strip() else ()
    if unknown := [name for name in names if name not in BY]:
        raise Problem(400, "bad-by", f"by takes some of {', '.join(BY)}; {unknown[0][:40]!r} is none")
    if len(set(names)) < len(names):
        raise Problem(400, "bad-by", "by names the same twice")
    return names


def _day(text: str, name: str) -> str:
    """A day as it is written in keys: `date.fromisoformat` takes other spellings too."""
    try:
        time.strptime(text, "%Y-%m-%d")
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise Problem(400, "bad-day", f"{name} takes a day such as 2026-11-30, and got {text[:40]!r}") from None


def _wants_csv(request: web.Request) -> bool:
    wanted = request.query.get("format")
    if wanted is None:
        return "text/csv" in request.headers.get("Accept", "")
    if wanted not in ("json", "csv"):
        raise Problem(400, "bad-format", "format takes json or csv")
    return wanted == "csv"
