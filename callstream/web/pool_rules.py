"""Rules of pools over HTTP: which endpoints calls should have, set while workers run; each with who, when and why.

A rule is a command: it is answered once the log has it and this gateway obeys it, and every worker obeys it as soon.
"""

from typing import Annotated

from aiohttp import web
from pydantic import Field, TypeAdapter, ValidationError

from callstream.agents.control.commands import MOST_PLACE, PoolRule, Reason, Who, told
from callstream.agents.inference.choice import Rule
from callstream.streams.event import Json
from callstream.streams.keys import Name
from callstream.web.access import CALLER
from callstream.web.bodies import parse, read_as, read_json
from callstream.web.context import CONTEXT
from callstream.web.control import Why, by_whom, give
from callstream.web.problems import Problem, unacceptable, validated
from callstream.web.tasks import json_response

_NAME: TypeAdapter[str] = TypeAdapter(Name)


class Setting(Rule):
    """The body of PUT /v1/pools/{pool}/rules/{rule}: a rule, its place among the pool's, why, and by whom."""

    place: Annotated[int, Field(ge=0, le=MOST_PLACE)] = 100
    reason: Reason = ""
    by: Who | None = None


async def put_rule(request: web.Request) -> web.Response:
    """PUT /v1/pools/{pool}/rules/{rule}: 202 with the rule as it is in force, in place of the one of that name."""
    context, (pool, name) = request.app[CONTEXT], _names(request)
    asked = validated(Setting, await read_json(request, context.options.max_body_bytes))
    rule = Rule.model_validate(asked.model_dump(include=set(Rule.model_fields)))
    if (wrong := rule.unusable(pool, context.port.pool_models())) is not None:
        raise unacceptable("#", wrong)
    by = by_whom(request[CALLER], asked.by)
    at = _after(context.clock(), context.port.controls.rule_of(pool, name))
    command = PoolRule(at=at, by=by, reason=asked.reason, pool=pool, name=name, place=asked.place, rule=rule)
    await give(context, command)
    return json_response(_shown(command), status=202)


async def delete_rule(request: web.Request) -> web.Response:
    """DELETE /v1/pools/{pool}/rules/{rule}: 202; its body, if there is one, says why and by whom. 404: no such rule."""
    context, (pool, name) = request.app[CONTEXT], _names(request)
    raw = await read_as(request, context.options.max_body_bytes, "application/json") if request.can_read_body else b""
    asked = validated(Why, parse(raw or b"{}", context.options.max_body_bytes))
    found = context.port.controls.rule_of(pool, name)
    if found is None or found.rule is None:
        there = [one.name for one in context.port.controls.pool_rules() if one.pool == pool]
        known = ", ".join(there) or "none"
        raise Problem(404, "unknown-rule", f"pool {pool!r} has no rule {name!r} in force; there are: {known}")
    at = _after(context.clock(), found)
    command = PoolRule(at=at, by=by_whom(request[CALLER], asked.by), reason=asked.reason, pool=pool, name=name)
    await give(context, command)
    return json_response(_shown(command), status=202)


async def get_rules(request: web.Request) -> web.Response:
    """GET /v1/pools/rules: the rules of every pool in the order in which they are asked, then those taken away lately.

    `unusable` says why one in force is passed over.
    """
    port = request.app[CONTEXT].port
    pools = port.pool_models()
    found = []
    for one in port.controls.pool_rules(with_removed=True):
        wrong = one.rule.unusable(one.pool, pools) if one.rule is not None else None
        found.append(_shown(one) | ({} if wrong is None else {"unusable": wrong}))
    return json_response({"rules": found})


def _shown(command: PoolRule) -> Json:
    said = "unset" if command.rule is None else str(command.rule)
    return {
        **told(command),
        "rule": None if command.rule is None else command.rule.model_dump(mode="json"),
        "says": said,
    }


def _after(now: float, found: PoolRule | None) -> float:
    """Later than what was commanded before, whatever the clocks of two gateways say."""
    return now if found is None else max(now, found.at)


def _names(request: web.Request) -> tuple[str, str]:
    """Pool and rule of a path. Raises Problem 400."""
    pool, name = request.match_info["pool"], request.match_info["rule"]
    for one in (pool, name):
        try:
            _NAME.validate_python(one)
        except ValidationError:
            told_name = one[:60].encode("ascii", "backslashreplace").decode()
            raise Problem(
                400, "bad-name", f"{told_name!r} is no name: letters, digits, dots, dashes and underscores are taken"
            ) from None
    return pool, name
