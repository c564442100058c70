"""Requests for a task of another gateway are handed to it, once: a request that was handed on goes no further."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from callstream.streams import strict_json
from callstream.streams.event import Json
from callstream.streams.strict_json import BadJson
from callstream.web.options import WebOptions
from callstream.web.problems import Problem

HOP = "Callstream-Hop"
"""Marks a request that a gateway sent: its receiver answers by itself, whatever it thinks of the owner."""

_PASSED_IN = ("Accept", "Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "traceparent")
_PASSED_BACK = ("Content-Type", "Location", "Retry-After", "Cache-Control", "Idempotent-Replayed", "traceparent")
_MOST_CONNECTIONS = 1000
_MOST_ANSWER_BYTES = 64 * 1024**2
_PEER_SECONDS = 5.0


class Proxy:
    """The way to other gateways: one client session, open while the application runs."""

    def __init__(self, options: WebOptions) -> None:
        self._first_byte_seconds = options.proxy_seconds
        self._silence_seconds = 3 * options.heartbeat_seconds + options.max_wait_seconds
        self._slow_client_seconds = options.slow_client_seconds
        self._session: aiohttp.ClientSession | None = None

    async def run(self, _: web.Application) -> AsyncIterator[None]:
        """Keep the session open (an aiohttp cleanup context)."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=3.0, sock_read=self._silence_seconds)
        self._session = aiohttp.ClientSession(
            timeout=timeout,
            connector=aiohttp.TCPConnector(limit=_MOST_CONNECTIONS),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        try:
            yield
        finally:
            await self._session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """The open session. Raises RuntimeError before the application has started."""
        if self._session is None:
            raise RuntimeError("the proxy is used before the application has started")
        return self._session

    async def asked(self, request: web.Request, peer: str) -> Json | None:
        """What another gateway answers to the same request (JSON of 64 MiB at most); None if it can't be used."""
        try:
            async with asyncio.timeout(_PEER_SECONDS):
                url = peer.rstrip("/") + str(request.rel_url)
                async with self.session.get(url, headers=handed_on(request), allow_redirects=False) as answer:
                    raw = b""
                    while answer.status == 200 and (more := await answer.content.read(_MOST_ANSWER_BYTES - len(raw))):
                        raw += more
            found = strict_json.loads(raw, _MOST_ANSWER_BYTES) if raw else None
        except (aiohttp.ClientError, TimeoutError, BadJson):
            return None
        return found if isinstance(found, dict) else None

    async def forward(
        self, request: web.Request, base_url: str, body: bytes | None = None, wait_seconds: float = 0.0
    ) -> web.StreamResponse:
        """Answer with what the gateway at `base_url` answers, piece by piece. Raises Problem 502.

        The answer has to begin within `wait_seconds` (how long the request itself asks to be kept waiting) and a bit.
        """
        try:
            async with asyncio.timeout(self._first_byte_seconds + wait_seconds):
                upstream = await self.session.request(
                    request.method,
                    base_url.rstrip("/") + str(request.rel_url),
                    headers=handed_on(request),
                    data=body,
                    allow_redirects=False,
                )
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            raise Problem(502, "owner-silent", f"the gateway that has this does not answer: {reason}"[:300]) from None
        async with upstream:
            return await self._pass_on(request, upstream)

    async def ask(self, request: web.Request, base_url: str, body: bytes, seconds: float) -> bytes | None:
        """What the gateway at `base_url` answers to this request with another body; None where it does not take it."""
        try:
            async with asyncio.timeout(seconds):
                url = base_url.rstrip("/") + str(request.rel_url)
                headers = handed_on(request)
                async with self.session.request(request.method, url, data=body, headers=headers) as answer:
                    return await answer.read() if answer.status < 300 else None
        except (aiohttp.ClientError, TimeoutError):
            return None

    async def _pass_on(self, request: web.Request, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
        kept = {name: upstream.headers[name] for name in _PASSED_BACK if name in upstream.headers}
        response = web.StreamResponse(status=upstream.status, headers=kept)
        response.content_length = upstream.content_length
        await response.prepare(request)
        try:
            async for piece in upstream.content.iter_any():
                async with asyncio.timeout(self._slow_client_seconds):
                    await response.write(piece)
            await response.write_eof()
        except (aiohttp.ClientError, ConnectionError, TimeoutError):
            break_off(request)
        return response


def handed_on(request: web.Request) -> CIMultiDict[str]:
    """The headers that go along to another gateway, with the mark that keeps the request from going round."""
    headers = CIMultiDict({name: request.headers[name] for name in _PASSED_IN if name in request.headers})
    headers[HOP] = "1"
    return headers


def break_off(request: web.Request) -> None:
    """End the connection in the middle, so that the client sees that the answer is not whole."""
    if request.transport is not None:
        request.transport.abort()
