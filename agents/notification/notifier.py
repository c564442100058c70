"""Tells callers that their tasks have ended: one signed POST to the task's callback, tried again within bounds."""

import time
from collections.abc import Callable

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from callstream.agents.inference.retry_after import retry_after
from callstream.agents.notification.address import AddressRefused, guarded_socket
from callstream.agents.notification.options import NotifyOptions
from callstream.agents.notification.payload import payload, signed_headers
from callstream.agents.ports import Policy
from callstream.streams.chain import Attempts, Cell
from callstream.streams.event import Event, Failure
from callstream.streams.outcome import Announce, Bury, Keep, Outcome, Retry

_LATER = frozenset({408, 425, 429})
_SPARE_SECONDS = 5.0


class Notifier:
    """Acts on ended tasks. Kinds of failure: `callback-unreachable`, `callback-busy` (both tried again),
    `callback-refused`, `callback-address`, `callback-secret`.

    A task that is over is never ended a second time: what cannot be delivered goes to the dead letters alone.
    """

    def __init__(
        self,
        options: NotifyOptions,
        clock: Callable[[], float] = time.time,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._options = options
        self._clock = clock
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None

    @property
    def policy(self) -> Policy:
        """How the actor is to try it."""
        options = self._options
        attempts = Attempts(options.attempts, options.first_pause_seconds, options.longest_pause_seconds)
        return Policy("notify", attempts, options.timeout_seconds + _SPARE_SECONDS)

    async def open(self) -> None:
        """Make the HTTP session: no cookies, no redirects, no proxy, no unpacking of answers."""
        connector = aiohttp.TCPConnector(
            limit=self._options.connections,
            limit_per_host=max(1, self._options.connections // 4),
            resolver=self._resolver,
            socket_factory=None if self._options.allow_private else guarded_socket,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._options.timeout_seconds),
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close its connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Tell one caller, if it asked to be told."""
        callback, end = event.body.submission.callback, event.body.end
        if end is None:
            return _bury("callback-refused", "the task has not ended")
        if callback is None:
            return Keep()
        if event.sandbox:
            return Announce({"callback": {"state": "sandbox", "attempts": 0, "url": callback}})
        secret = self._options.secret_of(event.tenant)
        if secret is None:
            return _bury(
                "callback-secret", f"no secret signs callbacks of tenant {event.tenant!r}: set `notify.secret`"
            )
        return await self._post(event, callback, secret)

    async def _post(self, event: Event, callback: str, secret: str) -> Outcome:
        if self._session is None:
            raise RuntimeError("the notifier is not open")
        body = payload(event)
        headers = signed_headers(secret, event, body, self._clock())
        try:
            url = _url(callback)
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                return self._answered(event, url, answer)
        except ValueError as error:
            return _bury("callback-refused", f"not a URL that can be called: {error}"[:500])
        except TimeoutError:
            return self._again(event, "callback-unreachable", f"no answer in {self._options.timeout_seconds:g} s", None)
        except (aiohttp.ClientError, OSError) as error:
            if (refused := _refused(error)) is not None:
                return _bury("callback-address", str(refused))
            return self._again(event, "callback-unreachable", f"{type(error).__name__}: {error}"[:500], None)

    def _answered(self, event: Event, url: URL, answer: aiohttp.ClientResponse) -> Outcome:
        # The body is not read: it is closed with the response, however long it may be.
        status, told = answer.status, f"{url.host} answered {answer.status}"
        if 200 <= status < 300:
            return Announce({"callback": {"state": "delivered", "attempts": event.attempt, "status": status}})
        if status in _LATER or status >= 500:
            return self._again(
                event, "callback-busy", told, retry_after(answer.headers.get("Retry-After"), self._clock())
            )
        return _bury("callback-refused", told + ("; redirects are not followed" if 300 <= status < 400 else ""))

    def _again(self, event: Event, kind: str, message: str, after_seconds: float | None) -> Outcome:
        if event.attempt >= self._options.attempts:
            return _bury(kind, f"{message}, in attempt {event.attempt} of {self._options.attempts}")
        return Retry(Failure(kind=kind, message=message), after_seconds)


def _url(callback: str) -> URL:
    url = URL(callback)
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("no http or https URL with a host")
    return url


def _bury(kind: str, message: str) -> Bury:
    return Bury(Failure(kind=kind, message=message, step="notify"), ends_task=False)


def _refused(error: BaseException) -> AddressRefused | None:
    """The guard's refusal within what aiohttp made of it."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, AddressRefused):
        seen = getattr(seen, "os_error", None) or seen.__cause__ or seen.__context__
    return seen
