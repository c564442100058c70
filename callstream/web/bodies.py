"""Bodies of requests, read within bounds of size and time and parsed by the one strict JSON parser."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from callstream.streams import strict_json
from callstream.streams.strict_json import BadJson
from callstream.web.problems import Problem, answer

SLOWEST_UPLOAD_SECONDS = 60.0
UNPACKED = ("identity", "gzip", "deflate")
_CHUNK = 64 * 1024


async def read(request: web.Request, most_bytes: int) -> bytes:
    """The body, unpacked and read no further than `most_bytes`. Raises Problem 400, 408, 413 or 415."""
    if request.headers.get("Content-Encoding", "identity").lower() not in UNPACKED:
        raise Problem(415, "wrong-content-encoding", f"the header Content-Encoding takes {', '.join(UNPACKED)}")
    if (request.content_length or 0) > most_bytes:
        raise _too_large(most_bytes)
    chunks, size = [], 0
    try:
        async with asyncio.timeout(SLOWEST_UPLOAD_SECONDS):
            async for chunk in request.content.iter_chunked(_CHUNK):
                size += len(chunk)
                if size > most_bytes:
                    raise _too_large(most_bytes)
                chunks.append(chunk)
    except TimeoutError:
        raise Problem(408, "slow-upload", f"the body took over {SLOWEST_UPLOAD_SECONDS:.0f} s to arrive") from None
    except web.RequestPayloadError:
        # Else the server would read on, come upon the same error and reset the connection before its answer is read.
        request.content.feed_eof()
        if request.protocol is not None:
            request.protocol.close()
        detail = "the body is not packed as the header Content-Encoding says"
        raise Problem(400, "bad-body", detail, headers={"Connection": "close"}) from None
    return b"".join(chunks)


async def read_json(request: web.Request, most_bytes: int, media_type: str = "application/json") -> Any:
    """The body as JSON. Raises Problem 400, 408, 413 or 415."""
    return parse(await read_as(request, most_bytes, media_type), most_bytes)


async def read_as(request: web.Request, most_bytes: int, media_type: str) -> bytes:
    """The body of a request that says it is of that media type, in UTF-8. Raises Problem 408, 413 or 415."""
    if request.content_type != media_type or (request.charset or "utf-8").lower() not in ("utf-8", "utf8", "us-ascii"):
        raise Problem(415, "wrong-content-type", f"send the header 'Content-Type: {media_type}' and UTF-8")
    return await read(request, most_bytes)


def parse(raw: bytes, most_bytes: int) -> Any:
    """Bytes as JSON. Raises Problem 400."""
    try:
        return strict_json.loads(raw, most_bytes)
    except BadJson as error:
        raise Problem(400, "bad-json", f"the body cannot be read: {error}") from None


def expect_within(most_bytes: int) -> Callable[[web.Request], Awaitable[web.StreamResponse | None]]:
    """A handler of `Expect: 100-continue` that refuses a body that says it is too long before any of it is sent."""

    async def expect(request: web.Request) -> web.StreamResponse | None:
        if request.headers.get("Expect", "").lower() != "100-continue":
            return answer(request, Problem(417, "unknown-expectation", "only 'Expect: 100-continue' is understood"))
        if (request.content_length or 0) > most_bytes:
            return answer(request, _too_large(most_bytes))
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
        return None

    return expect


def _too_large(most_bytes: int) -> Problem:
    return Problem(413, "too-large", f"at most {most_bytes:,} bytes are taken here")
