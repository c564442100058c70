"""Schedules over HTTP: what there are and when they fire, and commands to them, answered once the log has them.

A command takes effect a moment after it is on the log. The answer waits for that a little and says whether it came, so
that who asks this gateway next finds what was done.
"""

import asyncio
import re
import secrets
from datetime import datetime

from aiohttp import web

from callstream.agents.schedules.command import Action, Command, command_event
from callstream.agents.schedules.cron import zone_of
from callstream.agents.schedules.directory import MOST_KEPT, Directory
from callstream.agents.schedules.schedule import NAME_PATTERN, Schedule, Spec, upcoming
from callstream.streams.event import Json
from callstream.web.access import CALLER
from callstream.web.admission import chain_for
from callstream.web.bodies import parse, read_as
from callstream.web.context import CONTEXT, Context
from callstream.web.port import Unavailable
from callstream.web.problems import Problem, printable, validated
from callstream.web.tasks import json_response, named_by_key

MOST_LISTED = 100
MOST_TOLD = 5
"""Coming occurrences of a schedule that are told."""
EFFECT_SECONDS = 2.0
LOOK_SECONDS = 0.02
_NAME = re.compile(NAME_PATTERN.replace("$", r"\Z"))


async def get_schedules(request: web.Request) -> web.Response:
    """GET /v1/schedules?after=NAME&limit=N: schedules of the tenant in the order of their names, without inputs."""
    context, caller = request.app[CONTEXT], request[CALLER]
    after = request.query.get("after")
    limit = _limit(request.query.get("limit", "50"))
    found = _directory(context).page(caller.tenant, None if after is None else _checked(after), limit + 1)
    rows = [_shown(one) for one in found[:limit]]
    for row in rows:
        del row["input"]
    return json_response({"schedules": rows, "next": rows[-1]["name"] if len(found) > limit else None})


async def get_schedule(request: web.Request) -> web.Response:
    """GET /v1/schedules/{name}: one schedule, with its next occurrences in its own time zone."""
    context, schedule = request.app[CONTEXT], _existing(request)
    zone = zone_of(schedule.zone)
    coming = upcoming(schedule, context.clock(), MOST_TOLD)
    told = [datetime.fromtimestamp(moment, zone).isoformat() for moment in coming]
    return json_response(_shown(schedule) | {"next": told})


async def put_schedule(request: web.Request) -> web.Response:
    """PUT /v1/schedules/{name}: create it or change it."""
    context, caller, name = request.app[CONTEXT], request[CALLER], _checked(request.match_info["name"])
    raw = await read_as(request, context.options.max_body_bytes, "application/json")
    spec = validated(Spec, parse(raw, context.options.max_body_bytes))
    chain_for(context, spec.submission)
    directory = _directory(context)
    if directory.full and directory.get(caller.tenant, name) is None:
        detail = f"there are {MOST_KEPT:,} schedules, as many as are kept; remove some before others are created"
        raise Problem(409, "too-many-schedules", detail)
    command = Command(action=Action.SET, tenant=caller.tenant, name=name, id=secrets.token_hex(8), spec=spec)
    return await _command(context, command)


async def pause_schedule(request: web.Request) -> web.Response:
    """POST /v1/schedules/{name}/pause: fire nothing until it is resumed."""
    return await _command(request.app[CONTEXT], _to_existing(request, Action.PAUSE))


async def resume_schedule(request: web.Request) -> web.Response:
    """POST /v1/schedules/{name}/resume: fire again from now on."""
    return await _command(request.app[CONTEXT], _to_existing(request, Action.RESUME))


async def trigger_schedule(request: web.Request) -> web.Response:
    """POST /v1/schedules/{name}/trigger: hand in one task now; with an Idempotency-Key once for that key."""
    command = _to_existing(request, Action.TRIGGER)
    if (key := named_by_key(request)) is not None:
        command = command.model_copy(update={"id": key})
    task = f"{command.name}.{command.trigger_suffix}"
    return await _command(request.app[CONTEXT], command, {"task": task, "task_url": f"/v1/tasks/{task}"})


async def delete_schedule(request: web.Request) -> web.Response:
    """DELETE /v1/schedules/{name}: remove it; tasks that it has handed in go on."""
    return await _command(request.app[CONTEXT], _to_existing(request, Action.REMOVE))


async def _command(context: Context, command: Command, more: Json | None = None) -> web.Response:
    await context.port.command_schedule(command_event(command, context.clock()))
    status_url = f"/v1/schedules/{command.name}"
    told = {"name": command.name, "status_url": status_url, "in_effect": await _in_effect(context, command)}
    return json_response(told | (more or {}), status=202, headers={"Location": status_url})


async def _in_effect(context: Context, command: Command) -> bool:
    """Whether the service has obeyed, waited for up to `EFFECT_SECONDS`."""
    looks = int(EFFECT_SECONDS / LOOK_SECONDS)
    for _ in range(looks):
        schedule = context.port.schedules.get(command.tenant, command.name)
        if schedule is None if command.action is Action.REMOVE else schedule and command.id in schedule.applied:
            return True
        await asyncio.sleep(LOOK_SECONDS)
    return False


def _to_existing(request: web.Request, action: Action) -> Command:
    schedule = _existing(request)
    return Command(action=action, tenant=schedule.tenant, name=schedule.name, id=secrets.token_hex(8))


def _existing(request: web.Request) -> Schedule:
    name = _checked(request.match_info["name"])
    schedule = _directory(request.app[CONTEXT]).get(request[CALLER].tenant, name)
    if schedule is None:
        raise Problem(404, "unknown-schedule", f"no schedule {name!r} of this tenant is known; PUT creates it")
    return schedule


def _directory(context: Context) -> Directory:
    directory = context.port.schedules
    if not directory.ready:
        raise Unavailable("this gateway is still reading which schedules there are")
    return directory


def _shown(schedule: Schedule) -> Json:
    """A schedule as clients see it."""
    return schedule.model_dump(mode="json", exclude={"applied"})


def _checked(name: str) -> str:
    if not _NAME.match(name):
        shown = printable(name)[:80]
        detail = f"{shown!r} is no name: 1 to 80 letters, digits, '.', '_' or '-', a letter or digit first"
        raise Problem(400, "bad-name", detail)
    return name


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST_LISTED):
        raise Problem(400, "bad-limit", f"limit takes 1 to {MOST_LISTED}")
    return int(text)
