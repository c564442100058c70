"""Sub-tasks: tasks that a step of another task starts, and what their ends tell the join that waits for them.

Pure. A sub-task is a task like any other, by intake, with an id made of its parent's: the same step of the same task
starts the same sub-tasks however often it runs. Attributes travel with it: its parent,
where its end is told, and all tasks above it.
"""

import re
from dataclasses import dataclass, replace

from pydantic import ValidationError

from callstream.agents.control.ancestry import ANCESTRY, ancestry_for
from callstream.streams.chain import Step
from callstream.streams.event import PARENT, TASK_SUBTASK, Body, End, Event, Json, Submission
from callstream.streams.findings import describe
from callstream.streams.keys import DERIVED, NAME_PATTERN, TASK_ID_PATTERN
from callstream.streams.outcome import FanOut, Subtask
from callstream.streams.submission import Order, new_event
from callstream.tables.tasks import SUBTASK

PLACE = "join"
"""The attribute of a sub-task: the join's chain, version and sequence, the sub-task's number, how deep it is, and the
run of its parent."""
MOST_SUBTASKS = 1_000
MOST_DEPTH = 3
"""Sub-tasks of sub-tasks: each level multiplies their number."""
MOST_BYTES = 32 * 1024 * 1024
"""Of all sub-tasks of one step, as they are sent."""

_ID = re.compile(TASK_ID_PATTERN.replace("$", r"\Z"))
_PLACE = re.compile(rf"^({NAME_PATTERN[1:-1]})/(\d{{1,6}})/(\d{{1,4}})/(\d{{1,4}})/(\d)/(\d{{1,6}})\Z")


class BadFanOut(ValueError):
    """Sub-tasks that cannot be started; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the end of a sub-task is told: the join of its parent, and as which number (from 1)."""

    chain: str
    version: int
    sequence: int
    number: int
    depth: int
    run: int

    def __str__(self) -> str:
        return f"{self.chain}/{self.version}/{self.sequence}/{self.number}/{self.depth}/{self.run}"


def place_of(event: Event) -> Place | None:
    """Where a task's end is told; None for one that is no sub-task."""
    found = _PLACE.match(event.extensions.get(PLACE, ""))
    if found is None or PARENT not in event.extensions:
        return None
    return Place(found[1], *(int(part) for part in found.groups()[1:]))


def subtask_id(task: str, sequence: int, number: int) -> str:
    """The id of a task's sub-task: of the step with that sequence, the `number`-th (from 1).

    >>> subtask_id("mug-1", 2, 3)
    'mug-1~2.3'
    """
    return f"{task}{DERIVED}{sequence}.{number}"


def started(event: Event, done: Event, outcome: FanOut, following: Step | None, now: float) -> list[Event]:
    """The events that start the sub-tasks of an event whose step is `done`. Raises BadFanOut."""
    count = len(outcome.subtasks)
    if not 1 <= count <= MOST_SUBTASKS:
        raise BadFanOut(f"{count:,} sub-tasks; a step starts 1 to {MOST_SUBTASKS:,}")
    if following is None or not following.joins:
        name = "the end" if following is None else repr(following.name)
        raise BadFanOut(f"sub-tasks are taken by a Join, but the next step is {name}")
    inside = place_of(event)
    depth = 1 if inside is None else inside.depth + 1
    if depth > MOST_DEPTH:
        raise BadFanOut(f"sub-tasks of sub-tasks go {MOST_DEPTH} deep at most")
    longest = subtask_id(event.task, event.sequence, count)
    if not _ID.match(longest):
        raise BadFanOut(f"the id {longest[:140]!r} of a sub-task would be longer than ids are: 128 characters")
    place = Place(event.chain, event.version, done.sequence, 0, depth, event.run)
    return [
        _one(event, one, replace(place, number=number), now) for number, one in enumerate(outcome.subtasks, start=1)
    ]


def told(ended: Event) -> Event | None:
    """The event that tells a join of the end of its sub-task, under the parent's key; None for any other task."""
    place = place_of(ended)
    if place is None or not _ID.match(ended.extensions[PARENT]):
        return None
    body = ended.body
    failure = body.failure.model_dump(include={"kind", "message", "step"}) if body.failure is not None else None
    said: Json = {"number": place.number, "id": ended.task, "state": str(body.end), "failure": failure}
    if body.end is End.FINISHED:
        said["result"] = body.result
    return ended.changed(
        task=ended.extensions[PARENT],
        chain=place.chain,
        version=place.version,
        sequence=place.sequence,
        body=Body(submission=Submission(chain=place.chain, input={}), digest=body.digest, outputs={SUBTASK: said}),
        attempt=1,
        run=place.run,
        deadline=None,
        type=TASK_SUBTASK,
        extensions={},
    )


def _one(event: Event, subtask: Subtask, place: Place, now: float) -> Event:
    try:
        submission = Submission(chain=subtask.chain, input=dict(subtask.input))
    except ValidationError as error:
        raise BadFanOut(f"sub-task {place.number}: {describe(error)}") from None
    except (TypeError, ValueError):
        raise BadFanOut(f"sub-task {place.number}: its input is no JSON object") from None
    task = subtask_id(event.task, event.sequence, place.number)
    order = Order(event.tenant, task, event.priority, event.deadline, event.traceparent)
    return new_event(submission, order, now).extended(
        **{PARENT: event.task, PLACE: str(place), ANCESTRY: ancestry_for(event)}
    )
