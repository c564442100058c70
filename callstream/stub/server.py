"""The HTTP side: routes, the key, and the pages by which the stub is asked and told."""

import hmac
import json
import time
from collections.abc import Awaitable, Callable

from aiohttp import web
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from callstream.stub import chat, moderation, vectors
from callstream.stub.chat import chat_work
from callstream.stub.desk import Desk
from callstream.stub.errors import ApiError, bad_request
from callstream.stub.moderation import moderation_work
from callstream.stub.options import StubOptions
from callstream.stub.reading import ANONYMOUS, read_json, read_number
from callstream.stub.vectors import embedding_work

MOST_CALLS_A_PAGE = 10_000
CALLS_A_PAGE = 1_000
MOST_ERRORS_TOLD = 5
MODELS = (chat.DEFAULT_MODEL, vectors.DEFAULT_MODEL, moderation.DEFAULT_MODEL)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class StubServer:
    """`handle` answers every request of an aiohttp `web.Server`."""

    def __init__(self, options: StubOptions) -> None:
        self._options = options
        self._desk = Desk(options)
        self._started = time.monotonic()
        self._routes: dict[tuple[str, str], Handler] = {
            ("POST", "/v1/chat/completions"): self._chat,
            ("POST", "/v1/embeddings"): self._embeddings,
            ("POST", "/v1/moderations"): self._moderations,
            ("GET", "/v1/models"): self._models,
            ("GET", "/stub/report"): self._report,
            ("GET", "/stub/calls"): self._calls,
            ("GET", "/stub/seconds"): self._seconds,
            ("GET", "/stub/task"): self._task,
            ("POST", "/stub/reset"): self._reset,
            ("POST", "/stub/control"): self._control,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; an error is answered in OpenAI's form."""
        try:
            handler = self._routes.get((request.method, request.path))
            if handler is None:
                text = f"There is no {request.method} {request.path}."
                raise ApiError(404, "invalid_request_error", "unknown_url", text)
            if request.path.startswith("/v1/"):
                self._check_key(request)
            return await handler(request)
        except ApiError as error:
            return web.json_response(error.body, status=error.status, headers=error.headers)
        except web.HTTPRequestEntityTooLarge:
            text = f"The body is too large: at most {self._options.body_limit_bytes} bytes are read."
            return web.json_response(ApiError(413, "invalid_request_error", "too_large", text).body, status=413)

    def _check_key(self, request: web.BaseRequest) -> None:
        key = self._options.key
        given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if key is not None and not hmac.compare_digest(given, f"Bearer {key}".encode()):
            raise ApiError(401, "invalid_request_error", "invalid_api_key", "Incorrect or missing API key.")

    async def _chat(self, request: web.BaseRequest) -> web.StreamResponse:
        body = read_json(await request.read())
        return await self._desk.serve(request, chat_work(body, self._options.seed, int(time.time())))

    async def _embeddings(self, request: web.BaseRequest) -> web.StreamResponse:
        body = read_json(await request.read())
        return await self._desk.serve(request, embedding_work(body))

    async def _moderations(self, request: web.BaseRequest) -> web.StreamResponse:
        body = read_json(await request.read())
        return await self._desk.serve(request, moderation_work(body, self._options.seed))

    async def _models(self, request: web.BaseRequest) -> web.StreamResponse:
        data = [{"id": model, "object": "model", "created": 0, "owned_by": "callstream"} for model in MODELS]
        return web.json_response({"object": "list", "data": data})

    async def _report(self, request: web.BaseRequest) -> web.StreamResponse:
        now, desk = time.monotonic(), self._desk
        slots = desk.slots
        return web.json_response(
            {
                "seed": self._options.seed,
                "behaviour": desk.behaviour.model_dump(mode="json"),
                "now_unix": now + desk.origin_unix,
                "uptime_seconds": now - self._started,
                "running": slots.running,
                "waiting": slots.waiting,
                "max_concurrency": slots.most_running,
                "max_waiting": slots.most_waiting,
                **desk.witness.report(now),
            }
        )

    async def _calls(self, request: web.BaseRequest) -> web.StreamResponse:
        offset = read_number(request.query, "offset", 0, 2**53)
        limit = read_number(request.query, "limit", CALLS_A_PAGE, MOST_CALLS_A_PAGE)
        return web.json_response(self._desk.witness.page(offset, limit))

    async def _seconds(self, request: web.BaseRequest) -> web.StreamResponse:
        since = read_number(request.query, "since", 0, 2**53)
        return web.json_response({"seconds": self._desk.witness.seconds.rows(since)})

    async def _task(self, request: web.BaseRequest) -> web.StreamResponse:
        tenant, task = request.query.get("tenant", ANONYMOUS), request.query.get("id", "")
        counts = self._desk.witness.task(tenant, task)
        return web.json_response({"tenant": tenant, "task": task, **counts._asdict()})

    async def _reset(self, request: web.BaseRequest) -> web.StreamResponse:
        self._desk.reset()
        return web.json_response({"reset": True})

    async def _control(self, request: web.BaseRequest) -> web.StreamResponse:
        changes = read_json(await request.read())
        try:
            behaviour = self._desk.behaviour.changed(changes)
        except ValidationError as error:
            raise bad_request(explain(error)) from None
        self._desk.change(behaviour)
        return web.json_response(behaviour.model_dump(mode="json"))


def explain(error: ValidationError) -> str:
    """What is wrong with some settings: name, value and what is allowed, one after the other."""
    return "; ".join(map(_explain_one, error.errors()[:MOST_ERRORS_TOLD]))


def _explain_one(detail: ErrorDetails) -> str:
    name, told = ".".join(map(str, detail["loc"])), detail["msg"].removeprefix("Value error, ")
    # Of all together the message says which do not fit.
    return f"{name} = {json.dumps(detail['input'], default=str)[:80]}: {told}" if name else told
