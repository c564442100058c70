"""The innermost Model: one POST to an OpenAI-compatible endpoint. No payload and no key ever reaches a log."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

import aiohttp

from callstream.agents.inference.admission.ratelimit import Told, told
from callstream.agents.inference.answer import Bounds, failure_of, reply_in, reply_of, too_large, too_long
from callstream.agents.inference.call import CHAT, Call, CallFailed, Draft, Leave, Reply
from callstream.agents.inference.failures import Kind, failed
from callstream.agents.inference.going_on import goes_on, gone_on
from callstream.agents.inference.options import EndpointOptions, InferenceOptions
from callstream.agents.inference.retry_after import retry_after
from callstream.agents.inference.streamed import EVENTS, Streamed
from callstream.streams import strict_json
from callstream.streams.event import Json

MAX_HEADER_LINE_BYTES = 8190
MAX_ERROR_BYTES = 64 * 1024
CHUNK_BYTES = 64 * 1024
KEEPALIVE_SECONDS = 30.0
END_SECONDS = 0.5

# Whether an answer comes piece by piece is the step's to say: a stream of server-sent events is no JSON document.
NEVER_SENT = frozenset({"model", "stream", "stream_options"})
STREAMED: Json = {"stream": True, "stream_options": {"include_usage": True}}
NO_GOING_ON = frozenset({Kind.CONTEXT_TOO_LONG, Kind.REFUSED, Kind.REFUSED_BY_POLICY, Kind.REPLY_TOO_LONG})
"""Failures that may be due to what was gone on from."""
NEVER_ANSWERED = frozenset({Kind.UNAVAILABLE, Kind.BROKEN_REPLY})
MOST_IN_VAIN = 2
"""So often in a row such a failure may have another reason."""


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
        # A second request beside the first has an answer of its own, which is of use only if it is whole.
        draft = Draft() if call.second else call.draft
        try:
            body = strict_json.dumps(_body(route, call, draft))
        except (ValueError, TypeError) as error:
            raise failed(Kind.REFUSED, f"the request is not JSON: {error}") from None
        try:
            return await self._post(route, call, body, draft)
        except CallFailed as failure:
            raise _without(draft, failure) from None
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

    async def _post(self, route: _Route, call: Call, body: bytes, draft: Draft) -> Reply:
        session = self._session = self._session or _session()
        headers = {**_headers(route, call), "Content-Length": str(len(body))}
        if draft.begun:
            # It asks for something else than the request before: whoever knows that one would answer as it did.
            headers["Idempotency-Key"] += f"/from-{draft.begun}"
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
            if call.stream and response.content_type == EVENTS:
                return await self._follow(route, response, draft)
            whole = await _read(response, self._bounds.response)
        if whole is None:
            raise too_large(self._bounds.response)
        reply = reply_of(whole, route.options.model, route.options.name, self._bounds, call.api)
        return _joined(reply, draft, self._bounds.text) if call.stream else reply

    async def _follow(self, route: _Route, response: aiohttp.ClientResponse, draft: Draft) -> Reply:
        """The answer as it comes, piece by piece, into the draft."""
        streamed = Streamed(draft, self._bounds, route.secrets)
        async for chunk in response.content.iter_any():
            if streamed.take(chunk):
                await _to_the_end(response)
                break
        return _noted(reply_in(streamed.whole(), route.options.model, route.options.name, self._bounds), draft)


def _body(route: _Route, call: Call, draft: Draft) -> Json:
    """The request as it is sent: one whose answer broke off goes on from there, where its endpoint can."""
    body = {"model": route.options.model, **{k: v for k, v in call.request.items() if k not in NEVER_SENT}}
    if not call.stream or call.api != CHAT:
        return body
    if begun := draft.begin(goes_on(call, route.options)):
        body = gone_on(body, begun) | (route.options.continue_with or {})
    return body | STREAMED


def _joined(reply: Reply, draft: Draft, most: int) -> Reply:
    """An answer that came at once, behind what it goes on from."""
    text = draft.answer + reply.text
    if len(text.encode()) > most:
        raise too_long(most)
    if draft.text and not draft.begun:
        draft.give_up()
    return _noted(replace(reply, text=text), draft)


def _without(draft: Draft, failure: CallFailed) -> CallFailed:
    """The failure, after which what has come is given up if it may be the reason; then another try may mend it."""
    draft.failed()
    may_be_why = failure.kind in NO_GOING_ON or (failure.kind in NEVER_ANSWERED and draft.in_vain >= MOST_IN_VAIN)
    if not may_be_why or not draft.text:
        return failure
    went_on = draft.begun > 0
    if went_on or failure.kind == Kind.REPLY_TOO_LONG:
        draft.give_up()
    if not went_on:
        return failure
    return CallFailed(failure.kind, f"not gone on with what had come: {failure.message}", failure.after_seconds)


def _noted(reply: Reply, draft: Draft) -> Reply:
    """The reply with what became of what had come before its request."""
    notes = list(reply.notes)
    if draft.begun:
        notes.append(f"went on from {draft.begun:,} characters that an earlier request had brought")
    if draft.dropped:
        notes.append(f"asked anew: {draft.dropped:,} characters that earlier requests had brought are not used")
    return replace(reply, notes=tuple(notes))


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


async def _to_the_end(response: aiohttp.ClientResponse) -> None:
    """Read what follows the last event, which is nothing: a connection that is read to its end is used again.

    However it ends, the answer is there.
    """
    with suppress(TimeoutError, aiohttp.ClientError, OSError):
        async with asyncio.timeout(END_SECONDS):
            await response.content.read(1)


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
