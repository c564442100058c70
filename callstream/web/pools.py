"""GET /v1/pools: what the replicas that call models have, allow, and let wait."""

from aiohttp import web

from callstream.agents.control.commands import told
from callstream.web.context import CONTEXT
from callstream.web.tasks import json_response


async def get_pools(request: web.Request) -> web.Response:
    """Every replica's pools: endpoints with their windows and limits, and what waits, as they last told it.

    `paused` are the pauses of pools.
    """
    port = request.app[CONTEXT].port
    pauses = {one.scope.pool: told(one) for one in port.controls.pauses_in_force() if one.scope.pool is not None}
    return json_response({"replicas": port.pools(), "paused": pauses})
