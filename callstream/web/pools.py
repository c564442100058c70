"""GET /v1/pools: what the replicas that call models have, allow, and let wait."""

from aiohttp import web

from callstream.web.context import CONTEXT
from callstream.web.tasks import json_response


async def get_pools(request: web.Request) -> web.Response:
    """Every replica's pools: endpoints with their windows and limits, and what waits, as they last told it."""
    return json_response({"replicas": request.app[CONTEXT].port.pools()})
