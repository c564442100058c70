"""The innermost Model: one POST to an OpenAI-compatible endpoint. No payload and no key ever reaches a log."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

import aiohttp

from callstream.agents.inference.admission.ratelimit import Told, told
from callstream.agents.inference.answer import Bounds, failure_of, reply_of
from callstream.agents.inference.call import Call, CallFailed, Leave, Reply
from callstream.agents.inference.failures import Kind, failed
from callstream.agents.inference.options import EndpointOptions, InferenceOptions
from callstream.agents.inference.retry_after import retry_after
from callstream.streams import strict_json

MAX_HEADER_LINE_BYTES = 8190
MAX_ERROR_BYTES = 64 * 1024
CHUNK_BYTES = 64 * 1024
KEEPALIVE_SECONDS = 30.0

# A stream of server-sent events is no JSON document, so it is never asked for.
NEVER_SENT = frozenset({"model", "stream", "stream_options"})


@dataclass(frozen=True, slots=True)
class _Route:
    options: EndpointOptions
    headers: Mapping[str, str]
    secrets: tuple[str, ...]
    timeout: aiohttp.ClientTimeout


class Client:
    """Sends calls whose `endpoint` is set. One HTTP session for the whole process, opened by the first call.

    `told` is what each endpoint said of its limits with its last answer.
    """

    def __init__(self, options: InferenceOptions, clock: Callable[[], float]) -> None:
        self._bounds = Bounds(options.max_response_bytes, options.max_text_bytes)
        self._routes = {name: _route(endpoint) for name, endpoint in options.endpoints().items()}
        self._clock = clock
        self.told: dict[str, Told | None] = {}
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, call: Call) -> Reply:
        """The endpoint's answer to one request. Raises CallFailed."""
        if call.endpoint is None:
            raise ValueError("a call must have its endpoint chosen before it is sent")
        route = self._routes[call.endpoint]
        try:
            body = strict_json.dumps(
                {"model": route.options.model, **{k: v for k, v in call.request.items() if k not in NEVER_SENT}}
            )
        except (ValueError, TypeError) as error:
            raise failed(Kind.REFUSED, f"the request is not JSON: {error}") from None
        try:
            return await self._post(route, call, body)
        except aiohttp.ConnectionTimeoutError:
            raise failed(Kind.UNREACHABLE, f"{call.endpoint}: no connection in time") from None
        except TimeoutError:
            raise failed(
                Kind.TIMEOUT, f"{call.endpoint}: no answer within {route.options.timeout_seconds:g} s"
            ) from None
        except (aiohttp.ClientPayloadError, aiohttp.ClientResponseError) as error:
            # The text of these errors quotes bytes of the answer.
            raise failed(Kind.BROKEN_REPLY, f"{call.endpoint}: broken HTTP answer ({type(error).__name__})") from None
        except aiohttp.ClientError as error:
            if call.permit is not None and not call.permit.sent:
                # What raised may be the last moment itself, below the connection.
                call.permit.require()
            raise failed(Kind.UNREACHABLE, f"{call.endpoint}: {type(error).__name__}") from None

    def reconfigured(self, options: InferenceOptions) -> None:
        """Send to these endpoints from now on."""
        self._bounds = Bounds(options.max_response_bytes, options.max_text_bytes)
        self._routes = {name: _route(endpoint) for name, endpoint in options.endpoints().items()}

    async def close(self) -> None:
        """Close the connections; a later call would open new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _post(self, route: _Route, call: Call, body: bytes) -> Reply:
        session = self._session = self._session or _session()
        headers = {**_headers(route, call), "Content-Length": str(len(body))}
        data = body if call.permit is None else _at_the_last_moment(body, call.permit)
        url = f"{route.options.base_url}/{call.api}"
        async with session.post(
            url, data=data, headers=headers, timeout=route.timeout, allow_redirects=False
        ) as response:
            self.told[route.options.name] = told(response.headers, self._clock())
            if response.status != 200:
                after = retry_after(response.headers.get("Retry-After"), self._clock())
                raw = await _read(response, MAX_ERROR_BYTES)
                raise failure_of(response.status, raw or b"", after, route.secrets)
            if (encoding := response.headers.get("Content-Encoding", "identity").lower()) != "identity":
                raise failed(Kind.BROKEN_REPLY, f"the answer is encoded as {encoding[:20]!r}, which was not asked for")
            whole = await _read(response, self._bounds.response)
        if whole is None:
            raise _too_large(self._bounds.response)
        return reply_of(whole, route.options.model, route.options.name, self._bounds, call.api)


async def _at_the_last_moment(body: bytes, permit: Leave) -> AsyncIterator[bytes]:
    """The body, if the call may still be sent when its connection stands."""
    permit.require()
    permit.sent = True
    yield body


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes | None:
    """The body, or None as soon as it is seen to be longer; the connection is then dropped, not drained."""
    if (response.content_length or 0) > most:
        response.close()
        return None
    read = bytearray()
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        read += chunk
        if len(read) > most:
            response.close()
            return None
    return bytes(read)


def _too_large(most: int) -> CallFailed:
    return failed(Kind.BROKEN_REPLY, f"the answer is larger than {most:,} bytes")


def _route(endpoint: EndpointOptions) -> _Route:
    headers = endpoint.secret_headers()
    # A shorter value is no secret, and would blot out parts of words.
    secrets = tuple(text for value in headers.values() if len(text := value.removeprefix("Bearer ")) >= 8)
    seconds = endpoint.timeout_seconds
    timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=endpoint.connect_timeout_seconds, sock_read=seconds)
    return _Route(endpoint, headers, secrets, timeout)


def _headers(route: _Route, call: Call) -> dict[str, str]:
    headers = {
        **route.headers,
        "Content-Type": "application/json",
        # Compressed answers could unfold without bound; text this short gains nothing from it.
        "Accept-Encoding": "identity",
        "Idempotency-Key": call.id,
        "X-Callstream-Task": call.task,
        "X-Callstream-Tenant": call.tenant,
    }
    if call.traceparent is not None:
        headers["traceparent"] = call.traceparent
    return headers


def _session() -> aiohttp.ClientSession:
    # The layers above bound the calls in flight; a second bound here would only hide waiting from them.
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, limit_per_host=0, keepalive_timeout=KEEPALIVE_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        max_line_size=MAX_HEADER_LINE_BYTES,
        max_field_size=MAX_HEADER_LINE_BYTES,
    )
