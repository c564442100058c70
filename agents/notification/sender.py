"""One POST of a webhook: checked address, no redirects, bounded in time; what came of it is a value."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from callstream.agents.inference.retry_after import retry_after
from callstream.agents.notification.address import AddressRefused, guarded_socket
from callstream.agents.notification.options import NotifyOptions

_LATER = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Taken:
    """The receiver has it; `status` is what it answered."""

    status: int


@dataclass(frozen=True, slots=True)
class NotTaken:
    """It has not. `again`: another attempt may help, after so many seconds if it asked for that.

    Kinds: `callback-unreachable`, `callback-busy` (both: again), `callback-refused`, `callback-address`.
    """

    kind: str
    message: str
    again: bool = False
    after_seconds: float | None = None


class Sender:
    """The HTTP session of webhooks. `clock` gives epoch seconds."""

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

    async def post(self, target: str, body: bytes, headers: dict[str, str]) -> Taken | NotTaken:
        """Send it once. Raises RuntimeError where it was not opened."""
        if self._session is None:
            raise RuntimeError("the sender is not open")
        try:
            url = _url(target)
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                return self._answered(url, answer)
        except ValueError as error:
            return NotTaken("callback-refused", f"not a URL that can be called: {error}"[:500])
        except TimeoutError:
            return NotTaken("callback-unreachable", f"no answer in {self._options.timeout_seconds:g} s", again=True)
        except (aiohttp.ClientError, OSError) as error:
            if (refused := _refused(error)) is not None:
                return NotTaken("callback-address", str(refused))
            return NotTaken("callback-unreachable", f"{type(error).__name__}: {error}"[:500], again=True)

    def _answered(self, url: URL, answer: aiohttp.ClientResponse) -> Taken | NotTaken:
        # The body is not read: it is closed with the response, however long it may be.
        status, told = answer.status, f"{url.host} answered {answer.status}"
        if 200 <= status < 300:
            return Taken(status)
        if status in _LATER or status >= 500:
            return NotTaken("callback-busy", told, True, retry_after(answer.headers.get("Retry-After"), self._clock()))
        return NotTaken("callback-refused", told + ("; redirects are not followed" if 300 <= status < 400 else ""))


def _url(callback: str) -> URL:
    url = URL(callback)
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("no http or https URL with a host")
    return url


def _refused(error: BaseException) -> AddressRefused | None:
    """The guard's refusal within what aiohttp made of it."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, AddressRefused):
        seen = getattr(seen, "os_error", None) or seen.__cause__ or seen.__context__
    return seen
