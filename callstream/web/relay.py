"""One client's WebSocket over several gateways: what others own is subscribed to there and passed through.

Nothing is queued here: what comes from another gateway is sent on before the next is read, so a slow client fills
that gateway's bounded queue and is dropped by it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp
from aiohttp import WSCloseCode, WSMsgType, web

from callstream.streams import strict_json
from callstream.streams.event import Json
from callstream.streams.strict_json import BadJson
from callstream.web.port import Unavailable
from callstream.web.proxy import Proxy, handed_on

TOO_SLOW = 4008
"""Close code for a client that does not read as fast as updates come."""

_CONNECT_SECONDS = 5.0
_MOST_MESSAGE_BYTES = 8 * 1024**2

Send = Callable[[bytes], Awaitable[None]]
End = Callable[[int, str], Awaitable[None]]


@dataclass(eq=False)
class _Peer:
    socket: aiohttp.ClientWebSocketResponse
    reader: asyncio.Task[None]
    tasks: set[str] = field(default_factory=set)


class Relays:
    """The connections of one client to other gateways, opened when first needed. `send` and `end` are the client's."""

    def __init__(self, proxy: Proxy, request: web.Request, send: Send, end: End) -> None:
        self._proxy = proxy
        self._request = request
        self._send = send
        self._end = end
        self._peers: dict[str, _Peer] = {}

    @property
    def tasks(self) -> int:
        """How many subscriptions to tasks go through other gateways."""
        return sum(len(peer.tasks) for peer in self._peers.values())

    async def task(self, base_url: str, task: str, message: Json) -> None:
        """Subscribe to a task at its owner, whose answers go to the client. Raises Unavailable."""
        peer = await self._peer(base_url)
        peer.tasks.add(task)
        await _say(peer.socket, message)

    async def chain(self, base_url: str, message: Json) -> None:
        """Subscribe to a chain at another gateway. Raises Unavailable."""
        await _say((await self._peer(base_url)).socket, message)

    async def leave(self, task: str | None, message: Json) -> None:
        """Unsubscribe wherever it was subscribed."""
        for peer in self._peers.values():
            if task is None or task in peer.tasks:
                peer.tasks.discard(task or "")
                await _say(peer.socket, message)

    async def close(self) -> None:
        """Hang up everywhere."""
        for peer in self._peers.values():
            peer.reader.cancel()
            await asyncio.gather(peer.reader, return_exceptions=True)
            await peer.socket.close()
        self._peers.clear()

    async def _peer(self, base_url: str) -> _Peer:
        if base_url not in self._peers:
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    socket = await self._proxy.session.ws_connect(
                        base_url.rstrip("/") + "/v1/stream",
                        headers=handed_on(self._request),
                        max_msg_size=_MOST_MESSAGE_BYTES,
                    )
            except (aiohttp.ClientError, TimeoutError) as error:
                raise Unavailable(f"another gateway does not answer: {type(error).__name__}") from None
            self._peers[base_url] = _Peer(socket, asyncio.create_task(self._pass_on(socket)))
        return self._peers[base_url]

    async def _pass_on(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT and _is_for_client(message.data):
                    await self._send(message.data.encode())
        except (TimeoutError, ConnectionError):
            # The client does not read or is gone; its own conversation notices too.
            pass
        code = TOO_SLOW if socket.close_code == TOO_SLOW else WSCloseCode.SERVICE_RESTART
        await self._end(code, "another gateway ended its part; come again")


async def _say(socket: aiohttp.ClientWebSocketResponse, message: Json) -> None:
    try:
        await socket.send_str(strict_json.dumps(message).decode())
    except (aiohttp.ClientError, ConnectionError) as error:
        raise Unavailable(f"another gateway does not answer: {type(error).__name__}") from None


def _is_for_client(text: str) -> bool:
    """Updates and errors, and the answer about a task; that about a chain the client's own gateway gave already."""
    try:
        document = strict_json.loads(text.encode(), _MOST_MESSAGE_BYTES)
    except BadJson:
        return False
    return "update" in document or "error" in document or "task" in document.get("subscribed", {})
