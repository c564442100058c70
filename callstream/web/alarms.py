"""GET /v1/alarms: which alarms ring, which have ended lately, and by which rules."""

from aiohttp import web

from callstream.web.context import CONTEXT
from callstream.web.port import Unavailable
from callstream.web.tasks import json_response


async def get_alarms(request: web.Request) -> web.Response:
    """Every gateway knows all of them: `open` and `recent` (ended), the latest first, and this gateway's `rules`."""
    board = request.app[CONTEXT].port.alarms
    if not board.ready:
        raise Unavailable("this gateway is still reading which alarms there are")
    return json_response(board.told())
