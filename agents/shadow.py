"""Copies that take one step on the side: a rule's `shadow` tries a step on real tasks, without a trace in their result.

A copy is a task of its own, of low priority and without a callback, that ends after that step with its output.
"""

import re

from callstream.agents.control.ancestry import ANCESTRY
from callstream.agents.joining.subtasks import PLACE
from callstream.streams.chain import Chain
from callstream.streams.event import PARENT, SUBTASKS, Event, Json, Priority
from callstream.streams.keys import DERIVED, TASK_ID_PATTERN

SHADOW = "shadow"
"""The attribute of a copy: the step that it takes."""

_ID = re.compile(TASK_ID_PATTERN.replace("$", r"\Z"))


def copy_for(event: Event, step: str, chain: Chain) -> Event | None:
    """The copy of an event that goes to `step`; None where its id would be longer than ids are."""
    task = f"{event.task}{DERIVED}{event.sequence}.{SHADOW}"
    if not _ID.match(task):
        return None
    submission = event.body.submission.model_copy(update={"callback": None})
    copy = event.changed(task=task, sequence=chain.sequence_of(step, 0), priority=Priority.LOW, attempt=1)
    marked = copy.extended(**{SHADOW: step, PARENT: event.task, PLACE: None, SUBTASKS: None, ANCESTRY: None})
    return marked.with_body(submission=submission, trail=(), held=None)


def is_copy(event: Event) -> bool:
    """Whether the event is such a copy."""
    return SHADOW in event.extensions


def result_of(event: Event) -> Json:
    """What a copy ends with: the output of its step."""
    return dict(event.body.outputs.get(event.extensions[SHADOW], {}))
