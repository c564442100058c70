"""Who asks: the API key says the tenant and the role, never the body. Without keys, only loopback may ask."""

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from callstream.web.options import Role, WebOptions, is_loopback
from callstream.web.problems import Problem

DEFAULT_TENANT = "default"

Roles = Mapping[tuple[str, str], Role | None]
"""The role that each route (method, canonical path) needs; None lets everyone in."""


@dataclass(frozen=True, slots=True)
class Caller:
    """For whom a request acts, and what it may do."""

    tenant: str
    role: Role


CALLER = web.RequestKey("caller", Caller)


def guard(options: WebOptions, roles: Roles) -> Middleware:
    """The middleware that lets a request through to its route, with `request[CALLER]` set, or refuses it."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        _refuse_other_sites(request)
        resource = request.match_info.route.resource
        method = "GET" if request.method == "HEAD" else request.method
        needed = roles[method, resource.canonical] if resource else None
        if needed is not None:
            caller = identify(request, options)
            if caller.role < needed:
                raise Problem(
                    403, "role-too-low", f"this needs the role {needed.name.lower()}; the key has a lower one"
                )
            request[CALLER] = caller
        return await handler(request)

    return check


def identify(request: web.Request, options: WebOptions) -> Caller:
    """Whoever the request's key belongs to. Raises Problem 401 or 403."""
    if not options.api_keys:
        return _local(request)
    given = _shown_key(request.headers.get("Authorization", "")).encode("utf-8", "surrogateescape")
    found: Caller | None = None
    for entry in options.api_keys:
        if hmac.compare_digest(entry.key.get_secret_value().encode(), given):
            found = Caller(entry.tenant, entry.role)
    if found is None:
        detail = "send 'Authorization: Bearer KEY' with a known API key (or Basic, with the key as password)"
        raise Problem(401, "unknown-key", detail, headers={"WWW-Authenticate": 'Basic realm="callstream"'})
    return found


def _local(request: web.Request) -> Caller:
    """The one tenant of a gateway without keys; a name other than loopback in Host means a page that rebinds DNS."""
    name = urlsplit("//" + request.host).hostname or ""
    if not is_loopback(request.remote or "") or not is_loopback(name):
        raise Problem(403, "not-local", "without api_keys this gateway answers only on 127.0.0.1 and localhost")
    return Caller(DEFAULT_TENANT, Role.OPERATE)


def _refuse_other_sites(request: web.Request) -> None:
    """A page of another site may reach us through a person's browser; browsers always name the page's origin."""
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.host:
        raise Problem(403, "other-origin", "pages of other sites may not call this gateway")


def _shown_key(authorization: str) -> str:
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""
