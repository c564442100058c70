"""A model server that answers from a script, one answer for each request, and keeps what it was asked."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from callstream.streams.event import Json

USED = {"prompt_tokens": 12, "completion_tokens": 3}
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Answer:
    """What is sent for one request: `cut` breaks the connection off where the answer should go on."""

    body: bytes
    status: int = 200
    kind: str = "text/event-stream"
    cut: bool = False


@dataclass
class Scripted:
    """The server, with the body and the idempotency key of each request."""

    url: str = ""
    bodies: list[Json] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


def pieces(*texts: str, finish: str | None = None, done: bool = False) -> bytes:
    """A stream of these texts; with a reason why it stopped, its usage too."""
    deltas: list[Json] = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in texts]
    if finish is not None:
        deltas.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}], "usage": USED})
    raw = b"".join(b"data: " + json.dumps(delta).encode() + b"\n\n" for delta in deltas)
    return raw + (DONE if done else b"")


def whole(*texts: str) -> Answer:
    """An answer in pieces that lacks nothing."""
    return Answer(pieces(*texts, finish="stop", done=True))


def at_once(text: str | None) -> Answer:
    """The answer of an endpoint that knows no streams."""
    choices = [{"message": {"content": text}, "finish_reason": "stop"}]
    return Answer(json.dumps({"choices": choices, "usage": USED}).encode(), kind="application/json")


def refused(code: str, message: str = "no", status: int = 400) -> Answer:
    """A request that is not taken."""
    return Answer(json.dumps({"error": {"code": code, "message": message}}).encode(), status, "application/json")


@asynccontextmanager
async def scripted(answers: Sequence[Answer]) -> AsyncIterator[Scripted]:
    """Answer the n-th request with the n-th answer, all further ones with the last."""
    server = Scripted()

    async def answer(request: web.Request) -> web.StreamResponse:
        server.bodies.append(await request.json())
        server.keys.append(request.headers["Idempotency-Key"])
        given = answers[min(len(server.bodies), len(answers)) - 1]
        response = web.StreamResponse(status=given.status, headers={"Content-Type": given.kind})
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(given.body)
        if given.cut and request.transport is not None:
            request.transport.close()
        return response

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        yield server
    finally:
        await runner.cleanup()
