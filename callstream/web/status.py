"""How this worker is: health and metrics."""

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from callstream.web.context import CONTEXT
from callstream.web.tasks import json_response


async def get_live(request: web.Request) -> web.Response:
    """GET /v1/health/live: 200 while the process is worth keeping, else 503."""
    health = request.app[CONTEXT].port.health()
    return json_response({"live": health.live}, status=200 if health.live else 503)


async def get_ready(request: web.Request) -> web.Response:
    """GET /v1/health/ready: 200 when tasks can be taken, else 503, with the reasons."""
    health = request.app[CONTEXT].port.health()
    told = {"ready": health.ready, "reasons": list(health.reasons)}
    return json_response(told, status=200 if health.ready else 503)


async def get_health(request: web.Request) -> web.Response:
    """GET /v1/health: both, 200 if both are so."""
    health = request.app[CONTEXT].port.health()
    told = {"live": health.live, "ready": health.ready, "reasons": list(health.reasons)}
    return json_response(told, status=200 if health.live and health.ready else 503)


async def get_metrics(request: web.Request) -> web.Response:
    """GET /metrics: the process's metrics as Prometheus reads them."""
    body = generate_latest(request.app[CONTEXT].metrics.registry)
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})
