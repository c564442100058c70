"""GET /v1/stream: changes of many tasks over one WebSocket.

In:  {"subscribe": {"task": ID} | {"chain": NAME}, "after"?: CURSOR} and {"unsubscribe": {...}}
Out: {"subscribed": {...}, "cursor", "resumed"}, {"unsubscribed": {...}}, {"update": {...}}, {"error": {...}}

A subscription to a task begins with its row as it is. `resumed` false after a cursor means that it is too old and
changes in between are not told. Close codes: 1001 the gateway stops, 1012 tasks have moved to another gateway: both
mean come again; 4008 the client read too slowly: come again with the last cursor.
"""

import asyncio
import contextlib
from typing import Annotated

from aiohttp import WSCloseCode, WSMsgType, web
from pydantic import StringConstraints, model_validator

from callstream.streams import strict_json
from callstream.streams.chain import UnknownChain
from callstream.streams.event import Json, Strict
from callstream.streams.keys import Name, TaskId
from callstream.streams.strict_json import BadJson
from callstream.web.access import CALLER
from callstream.web.context import CONTEXT
from callstream.web.hub import Closed, Filter, Lagged, Listener, encode
from callstream.web.options import Role
from callstream.web.port import Unavailable
from callstream.web.problems import Problem, as_problem, validated
from callstream.web.proxy import HOP
from callstream.web.relay import TOO_SLOW, Relays
from callstream.web.rows import as_update, unknown
from callstream.web.tasks import elsewhere, find

MOST_MESSAGE_BYTES = 4096
_CLOSE_SECONDS = 1.0


class Target(Strict):
    """What a subscription is about: a task or a chain."""

    task: TaskId | None = None
    chain: Name | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> "Target":
        if (self.task is None) == (self.chain is None):
            raise ValueError('give {"task": ID} or {"chain": NAME}')
        return self


class Ask(Strict):
    """One message of a client."""

    subscribe: Target | None = None
    unsubscribe: Target | None = None
    after: Annotated[str, StringConstraints(max_length=64)] | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> "Ask":
        if (self.subscribe is None) == (self.unsubscribe is None):
            raise ValueError('give {"subscribe": ...} or {"unsubscribe": ...}')
        return self


async def get_stream(request: web.Request) -> web.StreamResponse:
    """Serve one WebSocket to its end."""
    context = request.app[CONTEXT]
    with context.streams.listen("websocket") as listener:
        socket = web.WebSocketResponse(heartbeat=context.options.heartbeat_seconds, max_msg_size=MOST_MESSAGE_BYTES)
        if not socket.can_prepare(request).ok:
            raise Problem(426, "no-websocket", "connect with a WebSocket client", headers={"Upgrade": "websocket"})
        await socket.prepare(request)
        await _Conversation(request, socket, listener).run()
        return socket


class _Conversation:
    """One client: a reader of its messages and a writer of its updates."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse, listener: Listener) -> None:
        self._request = request
        self._context = request.app[CONTEXT]
        self._caller = request[CALLER]
        self._socket = socket
        self._listener = listener
        self._peers = self._known_peers()
        self._ending: asyncio.Task[None] | None = None
        self._relays = Relays(self._context.proxy, request, self._send, self._end)

    async def run(self) -> None:
        """Talk until one side ends it."""
        writer = asyncio.create_task(self._write())
        try:
            async for message in self._socket:
                if message.type is WSMsgType.TEXT:
                    await self._answer(message.data)
                else:
                    await self._tell(Problem(400, "bad-message", "send text with one JSON object"))
        except TimeoutError:
            await self._end(TOO_SLOW, "too slow")
        except ConnectionError:
            # The client is gone, as clients go.
            pass
        finally:
            if self._ending is not None:
                await asyncio.wait((self._ending,))
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            await self._relays.close()

    async def _write(self) -> None:
        """Send updates as they come; end the conversation when that is no longer possible."""
        pause = self._context.options.heartbeat_seconds
        look_again = asyncio.get_running_loop().time() + pause
        try:
            while True:
                message = await self._listener.next(pause)
                if message is not None:
                    await self._send(b'{"update":%b}' % message.data)
                if asyncio.get_running_loop().time() >= look_again:
                    look_again += pause
                    if self._moved():
                        await self._end(WSCloseCode.SERVICE_RESTART, "tasks have moved to another gateway; come again")
                        return
        except Closed:
            await self._end(WSCloseCode.GOING_AWAY, "the gateway stops")
        except (Lagged, TimeoutError):
            self._context.metrics.lagged.labels("websocket").inc()
            await self._end(TOO_SLOW, "too slow: come again with the last cursor")
        except ConnectionError:
            await self._end(WSCloseCode.GOING_AWAY, "")

    async def _answer(self, text: str) -> None:
        try:
            ask = validated(Ask, strict_json.loads(text.encode("utf-8", "replace"), MOST_MESSAGE_BYTES))
            if ask.subscribe is not None:
                await self._subscribe(ask.subscribe, ask)
            elif ask.unsubscribe is not None:
                await self._unsubscribe(ask.unsubscribe, ask)
        except BadJson as error:
            await self._tell(Problem(400, "bad-json", str(error)))
        except (Problem, Unavailable) as error:
            await self._tell(as_problem(error))

    async def _subscribe(self, target: Target, ask: Ask) -> None:
        if len(self._listener.filters) + self._relays.tasks >= self._context.options.max_subscriptions:
            most = self._context.options.max_subscriptions
            raise Problem(429, "too-many-subscriptions", f"at most {most} subscriptions on one connection")
        told = {"subscribed": target.model_dump(exclude_none=True)}
        if target.task is not None:
            if (owner := elsewhere(self._request, target.task)) is not None:
                await self._relays.task(owner, target.task, _as_message(ask))
                return
            row = await find(self._context, self._caller, target.task)
            if row is None:
                raise unknown(target.task)
        else:
            self._known_chain(target.chain or "")
            row = None
        position = self._context.streams.position
        resumed = self._listener.follow(self._filter(target), ask.after)
        await self._send(strict_json.dumps(told | {"cursor": position, "resumed": resumed and ask.after is not None}))
        if row is not None:
            await self._send(b'{"update":%b}' % encode(as_update(row), position))
        if target.chain is not None:
            for peer in self._peers:
                await self._relays.chain(peer, _as_message(ask))

    async def _unsubscribe(self, target: Target, ask: Ask) -> None:
        self._listener.leave(self._filter(target))
        await self._relays.leave(target.task, _as_message(ask))
        await self._send(strict_json.dumps({"unsubscribed": target.model_dump(exclude_none=True)}))

    def _known_chain(self, name: str) -> None:
        try:
            self._context.chains.current(name)
        except UnknownChain as error:
            raise Problem(404, "unknown-chain", str(error)) from None

    def _filter(self, target: Target) -> Filter:
        """Only who operates the gateway sees all tenants, and only of a chain."""
        everyone = self._caller.role >= Role.OPERATE and target.chain is not None
        return Filter(None if everyone else self._caller.tenant, target.task, target.chain)

    def _known_peers(self) -> tuple[str, ...]:
        return () if HOP in self._request.headers else self._context.port.peers()

    def _moved(self) -> bool:
        """Whether updates that this client follows now come by another gateway."""
        if any(wanted.chain is not None for wanted in self._listener.filters) and self._known_peers() != self._peers:
            return True
        return any(wanted.task and elsewhere(self._request, wanted.task) for wanted in self._listener.filters)

    async def _tell(self, problem: Problem) -> None:
        await self._send(strict_json.dumps({"error": problem.document("/v1/stream")}))

    async def _send(self, data: bytes) -> None:
        async with asyncio.timeout(self._context.options.slow_client_seconds):
            await self._socket.send_str(data.decode())

    async def _end(self, code: int, reason: str) -> None:
        """Close with a code, once. In a task of its own: closing wakes the reader, which ends who asked for it."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._close(code, reason))
        await asyncio.wait((self._ending,))

    async def _close(self, code: int, reason: str) -> None:
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._socket.close(code=code, message=reason.encode())
                return
        if self._request.transport is not None:
            self._request.transport.abort()


def _as_message(ask: Ask) -> Json:
    return ask.model_dump(exclude_none=True)
