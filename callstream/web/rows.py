"""Rows of tasks as clients see them, and names in paths that have to be checked first."""

import re
from collections.abc import Mapping
from typing import Any

from callstream.streams.chain import Chain
from callstream.streams.event import Event, Json
from callstream.streams.keys import TASK_ID_PATTERN
from callstream.tables.tasks import ENDED
from callstream.web.hub import Update
from callstream.web.problems import Problem, printable

_TASK_ID = re.compile(TASK_ID_PATTERN.replace("$", r"\Z"))


def accepted(event: Event, chain: Chain) -> Json:
    """The row of a task that is on the log but not yet in the table."""
    first = chain.steps[0]
    return {
        "tenant": event.tenant,
        "id": event.task,
        "chain": event.chain,
        "version": chain.version,
        "digest": event.body.digest,
        "run": event.run,
        "state": "accepted",
        "priority": str(event.priority),
        "created": event.time,
        "updated": event.time,
        "deadline": event.deadline,
        "run_at": event.run_at,
        "steps": [],
        "next": {"step": first.name, "service": first.service},
        "result": None,
        "failure": None,
        "held": None,
        "callback": None,
        "parent": event.parent,
        "inherited": event.inherited,
        "sandbox": event.sandbox,
        "missing": None,
        "subtasks": None,
    }


def has_ended(row: Json) -> bool:
    """Whether the task has come to its end; one that failed may be taken up again."""
    return row["state"] in ENDED


def as_update(row: Json) -> Update:
    """The row as an update, for a client that has just begun to listen."""
    return Update(row["tenant"], row["id"], row["chain"], row["state"], len(row["steps"]), row)


def task_in(path: Mapping[str, str]) -> str:
    """The task id in a path. Raises Problem 400 for one that no task can have."""
    return checked_id(path["id"])


def checked_id(task: Any) -> str:
    """A task id from outside. Raises Problem 400."""
    if not isinstance(task, str) or not _TASK_ID.match(task):
        shown = printable(str(task))[:80]
        detail = f"{shown!r} is no task id: 1 to 128 letters, digits, '.', '_', '~' or '-', a letter or digit first"
        raise Problem(400, "bad-id", detail)
    return task


def unknown(task: str) -> Problem:
    """404 for a task of this tenant that nobody knows."""
    return Problem(404, "unknown-task", f"no task {task!r} of this tenant is known; finished ones are kept for a while")
