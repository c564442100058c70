"""Pages for people: what this gateway takes and does now, one task, the tables and the latency windows."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any
from urllib.parse import quote

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from jinja2 import Environment, PackageLoader, StrictUndefined

from callstream import __version__
from callstream.web.access import CALLER
from callstream.web.context import CONTEXT
from callstream.web.problems import Problem, as_problem, printable
from callstream.web.rows import has_ended, task_in, unknown
from callstream.web.tasks import elsewhere, find
from callstream.web.tree import human_bytes, human_seconds, human_time, machine_time, preview, tree

_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}
_YEAR_SECONDS = 365 * 24 * 3600


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file that pages load, whole in memory."""

    body: bytes
    content_type: str
    version: str


class Pages:
    """The templates and the files that they load, read once."""

    def __init__(self) -> None:
        self.files = _static_files()
        self._templates = Environment(
            loader=PackageLoader("callstream.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {
            "bytes": human_bytes,
            "seconds": human_seconds,
            "time": human_time,
            "datetime": machine_time,
            "preview": preview,
            "part": _path_part,
        }
        self._templates.globals |= {"static": self._link, "version": __version__}

    def render(self, request: web.Request, template: str, names: Mapping[str, Any], status: int = 200) -> web.Response:
        """A page; every name is escaped where it is shown."""
        health = request.app[CONTEXT].port.health()
        text = self._templates.get_template(template).render(names, health=health, path=request.path)
        headers = {"Cache-Control": "no-store"}
        return web.Response(status=status, text=text, content_type="text/html", headers=headers)

    def _link(self, name: str) -> str:
        return f"/static/{name}?v={self.files[name].version}"


PAGES = web.AppKey("pages", Pages)


def html_problems(pages: Pages) -> Middleware:
    """The middleware that shows errors as pages to those who look with a browser, outside of the API."""

    @web.middleware
    async def show(request: web.Request, handler: Handler) -> web.StreamResponse:
        wanted = "text/html" in request.headers.get("Accept", "") and not request.path.startswith("/v1/")
        try:
            return await handler(request)
        except web.HTTPException as error:
            if not wanted or error.status < 400:
                raise
            problem = as_problem(error)
        except Exception as error:
            if not wanted:
                raise
            problem = as_problem(error)
        document = problem.document(printable(request.path))
        response = pages.render(request, "problem.html", {"problem": document}, problem.status)
        response.headers.update(problem.headers)
        return response

    return show


async def get_home(request: web.Request) -> web.Response:
    """GET /: chains, how to hand in a task, and a live tail of what happens."""
    context = request.app[CONTEXT]
    chains = sorted(context.chains, key=lambda chain: (chain.name, -chain.version))
    return request.app[PAGES].render(request, "home.html", {"chains": chains, "host": request.host})


async def get_task_page(request: web.Request) -> web.StreamResponse:
    """GET /tasks/{id}: one task of the caller's tenant."""
    context, task = request.app[CONTEXT], task_in(request.match_info)
    if (owner := elsewhere(request, task)) is not None:
        return await context.proxy.forward(request, owner)
    row = await find(context, request[CALLER], task)
    if row is None:
        raise unknown(task)
    names = {"row": row, "ended": has_ended(row), "tree": tree("task", row), "result": tree("result", row["result"])}
    return request.app[PAGES].render(request, "task.html", names)


async def get_static(request: web.Request) -> web.Response:
    """GET /static/{name}: a file that a page loads; asked for by its version it may be kept for good."""
    file = request.app[PAGES].files.get(request.match_info.get("name", "icon.svg"))
    if file is None:
        raise Problem(404, "", "no such file")
    kept = "v" in request.query
    headers = {"Cache-Control": f"public, max-age={_YEAR_SECONDS}, immutable" if kept else "no-cache"}
    return web.Response(body=file.body, content_type=file.content_type, charset="utf-8", headers=headers)


def _path_part(text: str) -> str:
    """Text as one part of a path."""
    return quote(text, safe="")


def _static_files() -> Mapping[str, StaticFile]:
    root = resources.files("callstream.web") / "static"
    folders, files = [("", root)], {}
    while folders:
        prefix, folder = folders.pop()
        for entry in folder.iterdir():
            name = prefix + entry.name
            suffix = "." + entry.name.rpartition(".")[2]
            if entry.is_dir():
                folders.append((name + "/", entry))
            elif suffix in _TYPES:
                body = entry.read_bytes()
                files[name] = StaticFile(body, _TYPES[suffix], hashlib.sha256(body).hexdigest()[:12])
    return files
