"""Replays over HTTP: one step of one task is done again, by a task of its own."""

import asyncio
from typing import Annotated

from aiohttp import web
from pydantic import Field, StringConstraints

from callstream.agents.turns import Turns
from callstream.streams.blobs import BlobError, BlobStore
from callstream.streams.chain import Chains, UnknownChain
from callstream.streams.event import Event, Json, Strict
from callstream.streams.keys import Name
from callstream.streams.replay.find import find_input
from callstream.streams.replay.lineage import Manner
from callstream.streams.replay.recorded import Topics, TopicsUnreadable
from callstream.streams.replay.run import swept
from callstream.streams.replay.selection import Selection, gone, never_reached
from callstream.streams.wire import BadEvent
from callstream.web.access import CALLER
from callstream.web.bodies import parse, read_as
from callstream.web.context import CONTEXT
from callstream.web.port import NotRecorded, Unavailable
from callstream.web.problems import Problem, unacceptable, validated
from callstream.web.rows import has_ended, task_in, unknown
from callstream.web.tasks import REPLAYED, elsewhere, find, json_response

SLACK_SECONDS = 30.0
"""How far the clocks of two workers may be apart: an event is looked for so much around the time that its hop tells."""
LOOK_SECONDS = 20.0
MOST_AT_ONCE = 4


class ReplayRequest(Strict):
    """The body of POST /v1/tasks/{id}/replay."""

    step: Name = Field(alias="from")
    reuse_answers: bool = False
    sandbox: bool = False
    name: Annotated[str, StringConstraints(max_length=100)] = ""


class Recorded:
    """Finds recorded inputs on the topics, for a few callers at a time."""

    def __init__(self, bootstrap: str, blobs: BlobStore, chains: Chains) -> None:
        self._bootstrap = bootstrap
        self._blobs = blobs
        self._chains = chains
        self._places = asyncio.Semaphore(MOST_AT_ONCE)
        self.turns = Turns()

    async def find(self, row: Json, step: str) -> tuple[Event, str]:
        """The recorded input of a step that the task of this row has reached, and its topic.

        Raises NotRecorded when it is not there (any more), Unavailable when the topics cannot be read in time.
        """
        selection = Selection(self._chains, step, row["chain"], row["tenant"])
        try:
            async with self._places, asyncio.timeout(LOOK_SECONDS), Topics(self._bootstrap) as topics:
                found = await find_input(topics, self._blobs, selection, row["id"], window(row, step))
                if found is not None:
                    return found
                reaches = await topics.reach(selection.topics())
        except TimeoutError:
            late = f"it was not found within {LOOK_SECONDS:g} s: use `callstream replay --task`, which takes its time"
            raise Unavailable(late) from None
        except TopicsUnreadable as error:
            raise Unavailable(str(error)) from None
        except (BadEvent, BlobError, UnknownChain) as error:
            raise NotRecorded(f"the input of step {step!r} of task {row['id']!r} cannot be used: {error}") from None
        asked = f"the input of step {step!r} of task {row['id']!r}"
        for reach in reaches:
            if reach.complete_since is not None:
                raise NotRecorded(swept(asked, reach))
        raise NotRecorded(f"{asked} is on no topic")


def window(row: Json, step: str) -> tuple[float, float | None]:
    """When the input of a step was recorded, as the task's row has it: right after the step before ended."""
    hops, inherited = row["steps"], row.get("inherited", 0)
    last = max((at for at, hop in enumerate(hops) if hop["step"] == step and at >= inherited), default=len(hops))
    before = hops[last - 1]["ended"] if last else 0.0
    since = max(before, row["created"]) - SLACK_SECONDS
    return max(0.0, since), hops[last]["started"] + SLACK_SECONDS if last < len(hops) else None


def check_step(row: Json, step: str, chains: Chains) -> None:
    """Raises Problem: no such step (422), the version is gone (409), it was never reached (409)."""
    try:
        chain = chains.get(row["chain"], row["version"])
    except UnknownChain as error:
        raise Problem(409, "chain-gone", gone(error)) from None
    names = [one.name for one in chain.steps]
    if step not in names:
        raise unacceptable("#/from", f"chain {chain.name!r} has no step {step!r}; steps: {', '.join(names)}")
    inherited = row.get("inherited", 0)
    taken = [hop["step"] for hop in row["steps"]]
    following = row.get("next") or {}
    if step in taken[inherited:] or (following.get("step") == step and row["state"] != "held"):
        return
    if step in taken[:inherited]:
        detail = f"task {row['id']!r} began behind step {step!r}, as a replay of {row['parent']!r}: replay that one"
        raise Problem(409, "not-reached", detail)
    ended = row["state"] if has_ended(row) else None
    raise Problem(409, "not-reached", never_reached(row["id"], step, taken, ended))


async def post_replay(request: web.Request) -> web.StreamResponse:
    """POST /v1/tasks/{id}/replay: 202 once the log has the new task, 200 if this replay was started before."""
    context, caller, task = request.app[CONTEXT], request[CALLER], task_in(request.match_info)
    raw = await read_as(request, context.options.max_body_bytes, "application/json")
    asked = validated(ReplayRequest, parse(raw, context.options.max_body_bytes))
    if (owner := elsewhere(request, task)) is not None:
        return await context.proxy.forward(request, owner, raw, wait_seconds=LOOK_SECONDS)
    row = await find(context, caller, task)
    if row is None:
        raise unknown(task)
    check_step(row, asked.step, context.chains)
    manner = Manner(asked.step, asked.reuse_answers, asked.sandbox, asked.name)
    try:
        child, repeated = await context.port.replay(row, manner)
    except NotRecorded as error:
        raise Problem(410, "not-recorded", str(error)) from None
    status_url = f"/v1/tasks/{child}"
    told = {"id": child, "status_url": status_url, "parent": task, "from": asked.step, "sandbox": asked.sandbox}
    headers = {"Location": status_url} | ({REPLAYED: "true"} if repeated else {})
    return json_response(told, status=200 if repeated else 202, headers=headers)
