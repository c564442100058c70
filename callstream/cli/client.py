"""The HTTP API as the command line uses it: errors become one clear line, waits are bounded."""

import asyncio
import getpass
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote, unquote, urlencode

import aiohttp

from callstream.cli.errors import CliError
from callstream.settings import Settings, load
from callstream.settings.gather import API_KEY
from callstream.streams import strict_json
from callstream.streams.event import Json
from callstream.streams.strict_json import BadJson

MOST_ANSWER_BYTES = 16 * 1024 * 1024
MOST_RETRY_SECONDS = 30.0
RETRIES = 6
BUSY = frozenset({429, 502, 503, 504})


Answer = TypeVar("Answer")


class ApiError(CliError):
    """An answer that is an error. `status` is the HTTP status, 0 when nothing answered."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """One session with a gateway; an async context manager.

    Args:
        url: base URL of a gateway, without /v1.
        key: API key, or None for a gateway without keys.
        timeout_seconds: longest wait for one answer.
    """

    def __init__(self, url: str, key: str | None = None, timeout_seconds: float = 60.0) -> None:
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds, connect=10)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=256)
        self._session = aiohttp.ClientSession(headers=self._headers, timeout=self._timeout, connector=connector)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def submit(self, body: Json, idempotency_key: str | None = None) -> Json:
        """POST /v1/tasks: {"id", "status_url", "state"}. A busy gateway is asked again, as often as `RETRIES`."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return await self._json("POST", "/v1/tasks", json=body, headers=headers)

    async def put_blob(self, data: bytes, media_type: str = "application/octet-stream") -> str:
        """POST /v1/blobs: the reference of the bytes."""
        answer = await self._json("POST", "/v1/blobs", data=data, headers={"Content-Type": media_type})
        return str(answer["blob"])

    async def task(self, task: str, wait_seconds: float = 0) -> Json:
        """GET /v1/tasks/ID: its row; with a wait, once it has ended or the time is over."""
        query = f"?wait={wait_seconds:g}" if wait_seconds > 0 else ""
        return await self._json("GET", f"/v1/tasks/{quote(task, safe='')}{query}")

    async def health(self) -> Json:
        """GET /v1/health, whatever its status is."""
        async with self._open("GET", "/v1/health") as answer:
            return _document(await _read(answer))

    async def pools(self) -> Json:
        """GET /v1/pools: what each replica tells of its pools."""
        return await self._json("GET", "/v1/pools")

    async def pool_rules(self, method: str, path: str = "", **request: Any) -> Json:
        """A request about the rules of pools; `path` is /POOL/rules/NAME, or by default all of them are read."""
        return await self._json(method, f"/v1/pools{path or '/rules'}", **request)

    async def alarms(self) -> Json:
        """GET /v1/alarms: open ones, those that ended lately, and the rules."""
        return await self._json("GET", "/v1/alarms")

    async def usage(self, **query: str) -> Json:
        """GET /v1/usage: what calls took and cost."""
        return await self._json("GET", f"/v1/usage?{urlencode(query)}")

    async def dead(self, method: str, path: str = "", **request: Any) -> Json:
        """A request below /v1/dead; `path` begins with a slash or a question mark."""
        return await self._json(method, f"/v1/dead{path}", **request)

    async def control(self) -> Json:
        """GET /v1/control: the commands in force."""
        return await self._json("GET", "/v1/control")

    async def command(self, what: str, document: Json) -> Json:
        """POST /v1/control/WHAT: cancel, pause or resume. Given twice, a command is obeyed once."""
        return await self._json("POST", f"/v1/control/{what}", json=document)

    async def chains(self) -> list[Json]:
        """GET /v1/chains: name, version, steps and input schema of each."""
        answer = await self._json("GET", "/v1/chains")
        return list(answer["chains"])

    async def versions(self) -> Json:
        """GET /v1/chains with the number of unfinished tasks of each version."""
        return await self._json("GET", "/v1/chains?tasks=true")

    async def schedules(self) -> list[Json]:
        """GET /v1/schedules: every schedule of the tenant, without its input."""
        found: list[Json] = []
        after = ""
        while True:
            answer = await self._json("GET", f"/v1/schedules?limit=100{after}")
            found += answer["schedules"]
            if answer["next"] is None:
                return found
            after = f"&after={quote(answer['next'], safe='')}"

    async def schedule(self, method: str, name: str, action: str = "", **request: Any) -> Json:
        """One request about one schedule: to it, or to an action on it."""
        return await self._json(method, f"/v1/schedules/{quote(name, safe='')}{action}", **request)

    async def review(self, method: str, path: str = "", **request: Any) -> Json:
        """A request below /v1/reviews; `path` begins with a slash or a question mark."""
        return await self._json(method, f"/v1/reviews{path}", **request)

    async def messages(self, asks: Iterable[Json]) -> AsyncIterator[Json]:
        """GET /v1/stream (WebSocket): send each ask, then every message as it comes. Ends when the gateway closes."""
        session = self._ready()
        try:
            async with session.ws_connect(f"{self.url}/v1/stream", max_msg_size=MOST_ANSWER_BYTES) as socket:
                for ask in asks:
                    await socket.send_json(ask)
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.TEXT:
                        yield _document(message.data.encode())
        except aiohttp.WSServerHandshakeError as error:
            raise ApiError(f"GET {self.url}/v1/stream: {error.status} {error.message}", error.status) from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._silent(error) from None

    async def _json(self, method: str, path: str, **request: Any) -> Json:
        """One request; busy answers are repeated after what they ask, and so is a POST: each names its task."""
        for attempt in range(RETRIES):
            async with self._open(method, path, **request) as answer:
                raw = await _read(answer)
                if answer.status < 400:
                    return _document(raw)
                if answer.status not in BUSY or attempt == RETRIES - 1:
                    raise ApiError(
                        f"{method} {self.url}{unquote(path)}: {answer.status} {_problem(raw)}", answer.status
                    )
                pause = _retry_after(answer.headers) or 0.2 * 2**attempt
            await asyncio.sleep(min(pause, MOST_RETRY_SECONDS))
        raise AssertionError("the last attempt answers or raises")

    def _open(self, method: str, path: str, **request: Any) -> "_Opened":
        return _Opened(self, self._ready().request(method, f"{self.url}{path}", **request))

    def _ready(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the session is not open: use `async with Api(…)`")
        return self._session

    def _silent(self, error: BaseException) -> ApiError:
        if isinstance(error, TimeoutError):
            return ApiError(f"{self.url} did not answer within {self._timeout.total:g} s; see `callstream lag`")
        return ApiError(
            f"nothing answers at {self.url} ({_line(error)}): start `callstream worker`, or give the gateway's --url"
        )


class _Opened:
    """A request whose connection errors become an ApiError."""

    def __init__(self, api: Api, request: Any) -> None:
        self._api = api
        self._request = request

    async def __aenter__(self) -> aiohttp.ClientResponse:
        try:
            answer: aiohttp.ClientResponse = await self._request.__aenter__()
        except aiohttp.InvalidURL:
            raise ApiError(f"{self._api.url!r} is no URL; give one such as http://127.0.0.1:8420") from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._api._silent(error) from None
        return answer

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._request.__aexit__(kind, error, trace)
        if isinstance(error, aiohttp.ClientError | OSError | TimeoutError):
            raise self._api._silent(error) from None


def who() -> str:
    """Who gives a command, as audits have it: user@host."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        # In a container, say, whose user has no name.
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"[:200]


def ask(url: str | None, question: Callable[[Api], Awaitable[Answer]]) -> Answer:
    """What a question to a gateway gives, in a session of its own. Raises ApiError."""

    async def asking() -> Answer:
        async with api_of(load(), url) as api:
            return await question(api)

    return asyncio.run(asking())


def api_of(settings: Settings, url: str | None) -> Api:
    """The gateway that is named, or else the one of these settings, with the key that fits."""
    key = os.environ.get(API_KEY) or None
    if url is not None:
        return Api(url, key)
    host = settings.web.host if settings.web.host not in ("0.0.0.0", "::") else "127.0.0.1"
    if key is None and settings.web.api_keys:
        key = max(settings.web.api_keys, key=lambda entry: entry.role).key.get_secret_value()
    return Api(f"http://[{host}]:{settings.web.port}" if ":" in host else f"http://{host}:{settings.web.port}", key)


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    raw = await answer.content.read(MOST_ANSWER_BYTES + 1)
    while raw and len(raw) <= MOST_ANSWER_BYTES:
        more = await answer.content.read(MOST_ANSWER_BYTES + 1 - len(raw))
        if not more:
            break
        raw += more
    return raw


def _document(raw: bytes) -> Json:
    try:
        document = strict_json.loads(raw, MOST_ANSWER_BYTES)
    except BadJson as error:
        raise ApiError(f"the gateway's answer cannot be read: {error}") from None
    if not isinstance(document, dict):
        raise ApiError("the gateway's answer is no JSON object")
    return document


def _problem(raw: bytes) -> str:
    """RFC 9457 problem details as one line."""
    try:
        problem = _document(raw)
    except ApiError:
        return " ".join(raw[:200].decode("utf-8", "replace").split())
    errors = problem.get("errors", ())[:5]
    # Of one place the detail says it all.
    places = [f"{place.get('pointer', '')} {place.get('detail', '')}" for place in errors if len(errors) > 1]
    text = f"{problem.get('title', '')}: {problem.get('detail', '')}"
    return text + (f" ({'; '.join(places)})" if places else "")


def _retry_after(headers: Mapping[str, str]) -> float | None:
    try:
        return max(0.0, float(headers["Retry-After"]))
    except (KeyError, ValueError):
        return None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
