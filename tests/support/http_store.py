"""An HTTP server that does what `docs/guide/sinks.md` asks of one: the smallest that keeps its promises."""

import json
from typing import Any

from aiohttp import web

from callstream.agents.delivery.http_sink import IDEMPOTENCY_KEY, KEEP, VERSION, WRITE
from callstream.agents.delivery.versions import Version, Versions, put, standing, without, wrote

TOKEN = "let-me-in"


class HttpStore:
    """Keeps values in memory. `refuses`, if set, is the status and headers of every answer; `requests` are counted."""

    def __init__(self) -> None:
        self.refuses: tuple[int, dict[str, str]] | None = None
        self.requests = 0
        self.repeated = 0
        self._kept: dict[tuple[str, str], Versions] = {}
        self._taken: dict[str, str] = {}
        self._runner: web.AppRunner | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """Where values are."""
        return f"http://127.0.0.1:{self._port}/values"

    def value(self, tenant: str, key: str) -> Any:
        """What stands under a key."""
        stands = standing(self._kept.get((tenant, key), ()))
        return None if stands is None else stands.value

    async def start(self) -> None:
        """Listen, on the same port as before."""
        app = web.Application()
        for method, handler in (("PUT", self._put), ("DELETE", self._delete), ("HEAD", self._head)):
            app.router.add_route(method, "/values/{tenant}/{key}", handler)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._port or self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop; connections are cut."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _put(self, request: web.Request) -> web.Response:
        place, (task, step) = self._asked(request)
        raw = await request.text()
        value = json.loads(raw)
        if not isinstance(value.get("text"), str):
            raise web.HTTPUnprocessableEntity(text="text: must be a string")
        once = request.headers[IDEMPOTENCY_KEY]
        if self._taken.setdefault(once, raw) != raw:
            raise web.HTTPUnprocessableEntity(text="the idempotency key was used for another body")
        keeps = request.headers[KEEP] == "true"
        before = self._kept.get(place, ())
        self._kept[place] = put(before, Version(request.headers[VERSION], task, step, keeps, value))
        self.repeated += self._kept[place] == before
        return web.Response(status=204)

    async def _delete(self, request: web.Request) -> web.Response:
        place, write = self._asked(request)
        before = self._kept.get(place, ())
        self._kept[place] = without(before, *write)
        return web.Response(status=404 if self._kept[place] == before else 204)

    async def _head(self, request: web.Request) -> web.Response:
        place, write = self._asked(request)
        return web.Response(status=204 if wrote(self._kept.get(place, ()), *write) else 404)

    def _asked(self, request: web.Request) -> tuple[tuple[str, str], tuple[str, str]]:
        self.requests += 1
        if self.refuses is not None:
            status, headers = self.refuses
            raise _Refusal(status, headers)
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise web.HTTPUnauthorized
        task, _, step = request.headers[WRITE].rpartition("/")
        return (request.match_info["tenant"], request.match_info["key"]), (task, step)


class _Refusal(web.HTTPException):
    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status_code = status
        super().__init__(headers=headers)
