"""Answers put on the wire, whole or broken on purpose."""

import asyncio
import json
import socket
import struct
from collections.abc import Mapping

from aiohttp import web

from callstream.stub.chat import chunks
from callstream.stub.faults import FaultKind
from callstream.stub.work import Work

DRIPS = 40
PACED_STEPS = 20
GARBAGE = b'{"id": "chatcmpl-garbage", "choices": [{"message": {"content": "\xff\xfe the ans'
_LINGER_NOT = struct.pack("ii", 1, 0)

Headers = Mapping[str, str]


def is_gone(request: web.BaseRequest) -> bool:
    """True if the client has closed the connection."""
    return request.transport is None or request.transport.is_closing()


async def send_whole(request: web.BaseRequest, work: Work, headers: Headers, usage: bool) -> web.StreamResponse:
    """The answer as one JSON body, written before this returns."""
    response = web.Response(body=_encoded(work, usage), content_type="application/json", headers=headers)
    await response.prepare(request)
    await response.write_eof()
    return response


async def send_stream(
    request: web.BaseRequest, work: Work, headers: Headers, usage: bool, seconds: float
) -> web.StreamResponse:
    """The answer as server-sent events, spread over so many seconds."""
    response = _stream(headers, "text/event-stream")
    await response.prepare(request)
    events = _events(work, usage)
    size = -(-len(events) // PACED_STEPS)
    for start in range(0, len(events), size):
        await response.write(b"".join(events[start : start + size]))
        if seconds:
            await asyncio.sleep(seconds * min(size, len(events) - start) / len(events))
    await response.write_eof()
    return response


async def send_garbage(request: web.BaseRequest, work: Work, headers: Headers) -> web.StreamResponse:
    """200 with a body that is neither JSON nor UTF-8, or with such an event."""
    body = b"data: " + GARBAGE + b"\n\n" if work.stream else GARBAGE
    kind = "text/event-stream" if work.stream else "application/json"
    response = web.Response(body=body, content_type=kind, headers=headers)
    await response.prepare(request)
    await response.write_eof()
    return response


async def send_dripping(request: web.BaseRequest, work: Work, headers: Headers, seconds: float) -> web.StreamResponse:
    """The right answer, a few bytes at a time, over so many seconds."""
    body = b"".join(_events(work, work.include_usage)) if work.stream else _encoded(work, usage=True)
    response = _stream(headers, "text/event-stream" if work.stream else "application/json")
    await response.prepare(request)
    size = -(-len(body) // DRIPS)
    for start in range(0, len(body), size):
        await response.write(body[start : start + size])
        await asyncio.sleep(seconds / DRIPS)
    await response.write_eof()
    return response


async def send_half(request: web.BaseRequest, work: Work, headers: Headers) -> web.StreamResponse:
    """Half of the answer, then a TCP reset."""
    body = b"".join(_events(work, work.include_usage)) if work.stream else _encoded(work, usage=True)
    response = _stream(headers, "text/event-stream" if work.stream else "application/json")
    if not work.stream:
        response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    break_off(request)
    return response


def break_off(request: web.BaseRequest) -> None:
    """Reset the connection; bytes not sent yet are dropped."""
    if request.transport is not None:
        sock = request.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        request.transport.abort()


async def send(
    request: web.BaseRequest, work: Work, headers: Headers, fault: FaultKind | None, seconds: float
) -> web.StreamResponse:
    """The answer to a paid call, as its fault has it. Raises ConnectionError if the client has gone."""
    match fault:
        case FaultKind.RESET:
            return await send_half(request, work, headers)
        case FaultKind.GARBAGE:
            return await send_garbage(request, work, headers)
        case FaultKind.DRIP:
            return await send_dripping(request, work, headers, seconds)
    usage = fault is not FaultKind.NO_USAGE
    if work.stream:
        return await send_stream(request, work, headers, usage and work.include_usage, seconds)
    return await send_whole(request, work, headers, usage)


def _encoded(work: Work, usage: bool) -> bytes:
    return json.dumps(work.answer if usage else work.without_usage()).encode()


def _events(work: Work, usage: bool) -> list[bytes]:
    return [*(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks(work, usage)), b"data: [DONE]\n\n"]


def _stream(headers: Headers, content_type: str) -> web.StreamResponse:
    response = web.StreamResponse(headers=headers)
    response.content_type = content_type
    return response
