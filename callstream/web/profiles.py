"""What is known about users, put and erased over HTTP; tasks that come later are completed with it."""

from urllib.parse import quote

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from callstream.streams import strict_json
from callstream.tables.profiles import MAX_PROFILE_BYTES, User
from callstream.web.access import CALLER
from callstream.web.bodies import parse, read_as
from callstream.web.context import CONTEXT
from callstream.web.problems import Problem, unacceptable
from callstream.web.tasks import json_response

_USER: TypeAdapter[str] = TypeAdapter(User)


async def put_profile(request: web.Request) -> web.Response:
    """PUT /v1/profiles/{user}: all that is known about a user of the tenant, in place of what was; 202 once logged."""
    context, user = request.app[CONTEXT], _user(request)
    profile = parse(await read_as(request, MAX_PROFILE_BYTES, "application/json"), MAX_PROFILE_BYTES)
    if not isinstance(profile, dict):
        raise unacceptable("#", "a profile is a JSON object")
    if len(strict_json.dumps(profile)) > MAX_PROFILE_BYTES:
        raise unacceptable("#", f"a profile has at most {MAX_PROFILE_BYTES:,} bytes")
    await context.port.put_profile(request[CALLER].tenant, user, profile)
    return json_response({"user": user}, status=202)


async def delete_profile(request: web.Request) -> web.Response:
    """DELETE /v1/profiles/{user}: forget all about that user, a known one or not; 202 once logged."""
    context, user = request.app[CONTEXT], _user(request)
    await context.port.put_profile(request[CALLER].tenant, user, None)
    return json_response({"user": user}, status=202)


def _user(request: web.Request) -> str:
    user = request.match_info["user"]
    try:
        return _USER.validate_python(user)
    except ValidationError:
        told = quote(user[:40])
        raise Problem(400, "bad-user", f"{told!r} names no user: 1 to 128 printable characters are taken") from None
