"""An S3 server as some are: it takes objects, and heeds only those conditions of a write that it is told to."""

import hashlib

from aiohttp import web


class CarelessS3:
    """Keeps objects in memory, asks nobody who they are; `heeds` names the headers that it looks at."""

    def __init__(self) -> None:
        self.heeds: set[str] = set()
        self._kept: dict[str, bytes] = {}
        self._runner: web.AppRunner | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Listen."""
        app = web.Application()
        app.router.add_get("/{path:.*}", self._get)
        app.router.add_put("/{path:.*}", self._put)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _get(self, request: web.Request) -> web.Response:
        kept = self._kept.get(request.path)
        if kept is None:
            raise web.HTTPNotFound
        headers = {"ETag": _etag(kept), "Last-Modified": "Wed, 21 Oct 2026 07:28:00 GMT"}
        return web.Response(body=kept, headers=headers)

    async def _put(self, request: web.Request) -> web.Response:
        kept = self._kept.get(request.path)
        asked = {name: request.headers.get(name) for name in self.heeds}
        if kept is not None and asked.get("If-None-Match") == "*":
            raise web.HTTPPreconditionFailed
        if asked.get("If-Match") is not None and (kept is None or asked["If-Match"] != _etag(kept)):
            raise web.HTTPPreconditionFailed
        self._kept[request.path] = await request.read()
        return web.Response(headers={"ETag": _etag(self._kept[request.path])})


def _etag(kept: bytes) -> str:
    return f'"{hashlib.md5(kept, usedforsecurity=False).hexdigest()}"'
