"""Many dead letters over HTTP, redriven, discarded or edited: one job, with progress, that can be paused."""

import re
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel

from callstream.agents.letters.commands import Action, Command, Does, Job
from callstream.streams.event import Json
from callstream.web.access import CALLER
from callstream.web.bodies import read_json
from callstream.web.context import CONTEXT
from callstream.web.dead import command_id, condition_of, who
from callstream.web.dead_bodies import Decision, DiscardMany, EditMany, Many, RedriveMany
from callstream.web.letters import MOST_JOBS, whole_job
from callstream.web.peers import ask_peers
from callstream.web.problems import Problem, validated
from callstream.web.proxy import HOP
from callstream.web.tasks import json_response

Body = TypeVar("Body", bound=BaseModel)
_JOB = re.compile(r"^[a-z0-9][a-z0-9-]{0,63}\Z")
MOVES = {"pause": Action.PAUSE, "resume": Action.RESUME, "cancel": Action.CANCEL}
ENDED = ("done", "cancelled")


async def post_job(request: web.Request) -> web.Response:
    """POST /v1/dead/redrive {where or tasks, rate?, from_step?, ask_again?, reason?, by?}: a job, as all of these."""
    asked = await _read(request, RedriveMany)
    more = {"from_step": asked.from_step, "ask_again": asked.ask_again}
    return await _begin(request, asked, _command(request, asked, Does.REDRIVE).model_copy(update=more))


async def post_discard_many(request: web.Request) -> web.Response:
    """POST /v1/dead/discard {where or tasks, reason, rate?, by?}."""
    asked = await _read(request, DiscardMany)
    return await _begin(request, asked, _command(request, asked, Does.DISCARD))


async def post_edit_many(request: web.Request) -> web.Response:
    """POST /v1/dead/edit {where or tasks, patch, rate?, reason?, by?}: what a patch would spoil is left and told."""
    asked = await _read(request, EditMany)
    return await _begin(request, asked, _command(request, asked, Does.EDIT, asked.patch))


def _command(
    request: web.Request, asked: RedriveMany | DiscardMany | EditMany, does: Does, patch: Json | None = None
) -> Command:
    identity = command_id(request)
    job = Job(
        id=identity,
        does=does,
        patch=patch,
        tenant=(asked.tenant or request[CALLER].tenant) if asked.tasks else "",
        tasks=asked.tasks or (),
        where=asked.where,
        rate=asked.rate or request.app[CONTEXT].port.letters.rate,
    )
    return Command(id=identity, action=Action.JOB, by=who(request, asked.by), reason=asked.reason, job=job)


async def _begin(request: web.Request, asked: Many, command: Command) -> web.Response:
    """202 once every partition has the job."""
    condition_of(asked.where)
    await request.app[CONTEXT].port.letters.all_partitions(command)
    url = f"/v1/dead/jobs/{command.id}"
    return json_response({"job": command.id, "status_url": url}, status=202, headers={"Location": url})


async def _read(request: web.Request, model: type[Body]) -> Body:
    return validated(model, await read_json(request, request.app[CONTEXT].options.max_body_bytes))


async def get_jobs(request: web.Request) -> web.Response:
    """GET /v1/dead/jobs: the jobs that are kept, the latest first."""
    box = request.app[CONTEXT].port.letters
    parts = box.jobs()
    if HOP in request.headers:
        return json_response({"parts": parts})
    answers = await ask_peers(request)
    by_job: dict[str, list[Json]] = {}
    for part in [*parts, *(part for told in answers.values() for part in (told or {}).get("parts", ()))]:
        by_job.setdefault(part["job"], []).append(part)
    jobs = sorted((whole_job(each, box.partitions) for each in by_job.values()), key=lambda job: -job["created"])
    silent = sum(told is None for told in answers.values())
    return json_response({"jobs": jobs[:MOST_JOBS], "silent_gateways": silent})


async def get_job(request: web.Request) -> web.Response:
    """GET /v1/dead/jobs/{id}: how far a job has come; `accepted` until the first partition has begun with it."""
    job = _job(request)
    if HOP in request.headers:
        box = request.app[CONTEXT].port.letters
        return json_response({"parts": box.job(job), "accepted": box.accepted(job)})
    return json_response(await _whole(request, job))


async def post_job_move(request: web.Request) -> web.Response:
    """POST /v1/dead/jobs/{id}/pause, /resume, /cancel {by?}: 202 once every partition has it."""
    move = MOVES.get(request.match_info["move"])
    if move is None:
        raise Problem(404, "unknown-move", f"a job takes {', '.join(MOVES)}")
    job = _job(request)
    asked = await _decision(request)
    box = request.app[CONTEXT].port.letters
    whole = await _whole(request, job)
    if whole["state"] in ENDED:
        raise Problem(409, "job-ended", f"job {job.id!r} is {whole['state']} and changes no more")
    await box.all_partitions(Command(id=command_id(request), action=move, by=who(request, asked.by), job=job))
    return json_response({"job": job.id, "status_url": f"/v1/dead/jobs/{job.id}"}, status=202)


async def _whole(request: web.Request, job: Job) -> Json:
    """A job with its parts on every gateway, or as it was accepted where none has begun. Raises Problem 404."""
    box = request.app[CONTEXT].port.letters
    parts, accepted = box.job(job), box.accepted(job)
    answers = await ask_peers(request, f"/v1/dead/jobs/{job.id}")
    for told in answers.values():
        parts += (told or {}).get("parts", ())
        accepted = accepted or (told or {}).get("accepted")
    silent = sum(told is None for told in answers.values())
    if parts:
        return whole_job(parts, box.partitions) | {"silent_gateways": silent}
    if accepted is None:
        raise Problem(404, "unknown-job", f"no job {job.id!r} is kept; ended ones are kept for a while")
    return whole_job([accepted], box.partitions) | {"missing": box.partitions, "silent_gateways": silent}


async def _decision(request: web.Request) -> Decision:
    if not request.can_read_body:
        return Decision()
    return validated(Decision, await read_json(request, request.app[CONTEXT].options.max_body_bytes))


def _job(request: web.Request) -> Job:
    name = request.match_info["id"]
    if not _JOB.match(name):
        raise Problem(400, "bad-id", f"{name[:80]!r} is no id of a job")
    return Job(id=name)
