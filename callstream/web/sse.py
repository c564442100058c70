"""GET /v1/tasks/{id}/events: a task's changes as server-sent events, until its end.

The first event is the row as it is, or with `Last-Event-ID` the changes since then; each has its cursor as id. A
client that comes back after the end gets 204, which tells browsers to come no more.
"""

import asyncio

from aiohttp import web

from callstream.streams.event import Json
from callstream.tables.tasks import ENDED
from callstream.web.access import CALLER
from callstream.web.context import CONTEXT
from callstream.web.hub import Closed, Filter, Lagged, Listener, Update, encode
from callstream.web.port import Unavailable
from callstream.web.proxy import break_off
from callstream.web.rows import as_update, has_ended, task_in, unknown
from callstream.web.tasks import elsewhere, find

COME_BACK_MILLISECONDS = 2000


async def get_events(request: web.Request) -> web.StreamResponse:
    """Stream the changes of one task."""
    context, task = request.app[CONTEXT], task_in(request.match_info)
    if (owner := elsewhere(request, task)) is not None:
        return await context.proxy.forward(request, owner)
    with context.streams.listen("sse") as listener:
        # Following begins before the row is read, so that no change falls between.
        position = context.streams.position
        after = request.headers.get("Last-Event-ID")
        resumed = listener.follow(Filter(request[CALLER].tenant, task=task), after) and after is not None
        row = await find(context, request[CALLER], task)
        if row is None:
            raise unknown(task)
        if resumed and has_ended(row) and not listener.waiting:
            return web.Response(status=204)
        response = await _begin(request)
        stream = _Stream(request, response, listener)
        try:
            await stream.run(position, None if resumed else row)
        except (Closed, Unavailable):
            # The gateway stops or cannot tell: the client comes again, with its last cursor.
            pass
        except Lagged:
            context.metrics.lagged.labels("sse").inc()
            break_off(request)
        except (ConnectionError, TimeoutError):
            break_off(request)
        return response


async def _begin(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
    await response.prepare(request)
    return response


class _Stream:
    """One client's stream of one task, begun."""

    def __init__(self, request: web.Request, response: web.StreamResponse, listener: Listener) -> None:
        self._request = request
        self._options = request.app[CONTEXT].options
        self._response = response
        self._listener = listener

    async def run(self, position: str, row: Json | None) -> None:
        """Send the row (unless the client goes on from a cursor), then what comes, to the end of the task."""
        await self._send(f"retry: {COME_BACK_MILLISECONDS}\n\n".encode())
        if row is not None:
            await self._send(_event(position, encode(as_update(row), position)))
        while row is None or not has_ended(row):
            message = await self._listener.next(self._options.heartbeat_seconds)
            if message is None:
                await self._send(b": still here\n\n")
                if elsewhere(self._request, task_in(self._request.match_info)) is not None:
                    return
            elif row is None or not _is_old(message.update, row):
                await self._send(_event(message.cursor, message.data))
                row = message.update.row

    async def _send(self, data: bytes) -> None:
        async with asyncio.timeout(self._options.slow_client_seconds):
            await self._response.write(data)


def _is_old(update: Update, shown: Json) -> bool:
    """Whether an update was queued before the row was read that the client has seen since. An end is never old."""
    return update.state not in ENDED and (update.row == shown or update.row["updated"] < shown["updated"])


def _event(cursor: str, data: bytes) -> bytes:
    return b"id: %b\ndata: %b\n\n" % (cursor.encode(), data)
