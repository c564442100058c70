"""The same question to every other gateway: each answers for its partitions, and who is silent is counted."""

import asyncio

import aiohttp
from aiohttp import web

from callstream.streams import strict_json
from callstream.streams.event import Json
from callstream.streams.strict_json import BadJson
from callstream.web.context import CONTEXT
from callstream.web.proxy import HOP, Proxy, handed_on

_MOST_ANSWER_BYTES = 64 * 1024**2
_PEER_SECONDS = 10.0


async def ask_peers(request: web.Request, url: str | None = None) -> dict[str, Json | None]:
    """What each other gateway says to a GET of this request (or another URL): its JSON, None for one without an answer.

    A request that came from a gateway goes no further.
    """
    if HOP in request.headers:
        return {}
    context = request.app[CONTEXT]
    peers = context.port.peers()
    path = str(request.rel_url) if url is None else url
    answers = await asyncio.gather(*(_ask(context.proxy, request, peer.rstrip("/") + path) for peer in peers))
    return dict(zip(peers, answers, strict=True))


async def _ask(proxy: Proxy, request: web.Request, url: str) -> Json | None:
    try:
        async with asyncio.timeout(_PEER_SECONDS):
            async with proxy.session.get(url, headers=handed_on(request), allow_redirects=False) as answer:
                raw = await answer.content.read(_MOST_ANSWER_BYTES) if answer.status == 200 else b""
                while raw and (more := await answer.content.read(_MOST_ANSWER_BYTES - len(raw))):
                    raw += more
        told = strict_json.loads(raw, _MOST_ANSWER_BYTES) if raw else None
    except (aiohttp.ClientError, TimeoutError, BadJson):
        return None
    return told if isinstance(told, dict) else None
