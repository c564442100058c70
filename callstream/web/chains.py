"""GET /v1/chains: what can be submitted, and how many tasks of each version have not ended."""

import asyncio
from collections import Counter

from aiohttp import web

from callstream.streams.chain import Chain
from callstream.streams.event import Json
from callstream.web.access import CALLER
from callstream.web.context import CONTEXT
from callstream.web.options import Role
from callstream.web.problems import Problem
from callstream.web.proxy import HOP
from callstream.web.tasks import json_response


async def get_chains(request: web.Request) -> web.Response:
    """GET /v1/chains: each chain with the JSON schema of its input.

    With `?tasks=true` also how many tasks of each version have not ended, on this gateway and all others: of all
    tenants for a key that operates, else of its own.
    """
    chains = list(request.app[CONTEXT].chains)
    newest = {chain.name: max(one.version for one in chains if one.name == chain.name) for chain in chains}
    told: Json = {
        "chains": [describe_chain(chain) | {"current": chain.version == newest[chain.name]} for chain in chains]
    }
    if _wants_tasks(request.query.get("tasks", "false")):
        told |= await _unfinished(request)
    return json_response(told)


def describe_chain(chain: Chain) -> Json:
    """Name, version, steps and input of a chain."""
    return {
        "name": chain.name,
        "version": chain.version,
        "steps": [{"step": step.name, "service": step.service} for step in chain.steps],
        "input": chain.input.model_json_schema(),
    }


async def _unfinished(request: web.Request) -> Json:
    context, caller = request.app[CONTEXT], request[CALLER]
    tenant = None if caller.role >= Role.OPERATE else caller.tenant
    counts, complete = await context.port.unfinished(tenant)
    total, silent = Counter(counts), 0
    if HOP not in request.headers:
        answers = await asyncio.gather(*(context.proxy.asked(request, peer) for peer in context.port.peers()))
        for answer in answers:
            if answer is None or "unfinished" not in answer:
                silent += 1
                continue
            total.update({(one["chain"], one["version"]): one["tasks"] for one in answer["unfinished"]})
            complete = complete and answer["complete"]
    rows = [{"chain": name, "version": version, "tasks": n} for (name, version), n in sorted(total.items())]
    return {"unfinished": rows, "complete": complete and not silent, "silent_gateways": silent}


def _wants_tasks(text: str) -> bool:
    if text not in ("true", "false"):
        raise Problem(400, "bad-query", "tasks takes true or false")
    return text == "true"
