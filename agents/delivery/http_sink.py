"""To an HTTP server that keeps what it is sent: PUT to write, DELETE to take back, HEAD to ask.

What such a server has to do is in `docs/guide/sinks.md`; the one in `tests/support/http_store.py` does it.
"""

import asyncio
import time
from collections.abc import Sequence
from urllib.parse import quote

import aiohttp
from yarl import URL

from callstream.agents.delivery.sink import Away, Entry, Refused
from callstream.agents.inference.retry_after import retry_after

WRITE, VERSION, KEEP = "Callstream-Write", "Callstream-Version", "Callstream-Keep"
IDEMPOTENCY_KEY = "Idempotency-Key"

LATER = frozenset({401, 403, 407, 408, 425, 429})
"""Tried again, beside 5xx: the server has too much to do, or the credentials have to be mended, which no row can."""
SUPERSEDED = 412
UNSUPPORTED = 501
GONE = frozenset({404, 410})
MOST_TOLD = 200


class HttpSink:
    """Each value is a resource: `URL/TENANT/KEY`, its JSON the body. `token` is sent as a bearer token."""

    def __init__(self, url: str, token: str | None = None, timeout_seconds: float = 10.0, connections: int = 8) -> None:
        self._url = url.rstrip("/")
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._timeout_seconds = timeout_seconds
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the HTTP session: no cookies, no redirects."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=self._timeout_seconds),
        )

    async def close(self) -> None:
        """Close its connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def write(self, entries: Sequence[Entry]) -> list[Refused | Away | None]:
        """One PUT each, side by side; those of one key and tenant one after another."""
        queues: dict[tuple[str, str], list[int]] = {}
        for place, entry in enumerate(entries):
            queues.setdefault((entry.tenant, entry.key), []).append(place)
        results: list[Refused | Away | None] = [None] * len(entries)

        async def send(places: list[int]) -> None:
            for place in places:
                try:
                    await self._put(entries[place])
                except (Refused, Away) as error:
                    results[place] = error

        await asyncio.gather(*map(send, queues.values()))
        return results

    async def has(self, entry: Entry) -> bool:
        """Whether the server knows of the write; one that cannot be asked does not. Raises Away."""
        status, _ = await self._sent("HEAD", entry, {WRITE: entry.write})
        return 200 <= status < 300

    async def undo(self, entry: Entry) -> bool:
        """Have the server take the write back: what it had before stands again, or nothing. Raises Refused, Away."""
        status, told = await self._sent("DELETE", entry, {WRITE: entry.write})
        if not (200 <= status < 300 or status in GONE):
            raise Refused(f"it takes nothing back: {told}")
        return status not in GONE

    async def _put(self, entry: Entry) -> None:
        headers = {
            WRITE: entry.write,
            VERSION: entry.order,
            KEEP: "true" if entry.keeps else "false",
            IDEMPOTENCY_KEY: entry.id,
            "Content-Type": "application/json",
        }
        status, told = await self._sent("PUT", entry, headers, entry.raw())
        if not (200 <= status < 300 or status == SUPERSEDED):
            raise Refused(told)

    async def _sent(
        self, method: str, entry: Entry, headers: dict[str, str], body: bytes | None = None
    ) -> tuple[int, str]:
        """Status, and what was answered for people. Raises Away for what is tried again."""
        if self._session is None:
            raise RuntimeError("the sink is not open")
        if entry.key in (".", ".."):
            return (400 if method == "PUT" else 404), f"key: {entry.key!r} is no name in a URL"
        url = URL(f"{self._url}/{entry.tenant}/{quote(entry.key, safe='')}", encoded=True)
        try:
            async with self._session.request(method, url, data=body, headers=headers, allow_redirects=False) as answer:
                status = answer.status
                told = f"{url.host} answered {status}"
                if 400 <= status < 500 and method == "PUT":
                    text = (await answer.content.read(MOST_TOLD * 4)).decode("utf-8", "replace")
                    told += f": {' '.join(text.split())[:MOST_TOLD]}" if text.strip() else ""
                after = retry_after(answer.headers.get("Retry-After"), time.time())
        except TimeoutError:
            raise Away(f"{url.host}: no answer in {self._timeout_seconds:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Away(f"{type(error).__name__}: {error}"[:500]) from None
        if status in LATER or (status >= 500 and status != UNSUPPORTED):
            raise Away(told, after)
        return status, told + ("; redirects are not followed" if 300 <= status < 400 else "")
