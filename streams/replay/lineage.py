"""The lineage of replayed tasks: which id a replay's task has, and the event that starts it. Pure.

The id follows from the parent, the replay's name and the number of partitions, so that the same replay given again
means the same tasks. Of the ids that could follow the first is taken whose key lies in the partition of the parent's:
there the parent's receipts are, and a reader of that partition sees both the recorded input and what was started.
"""

import hashlib
import json
from dataclasses import dataclass

from callstream.streams.event import LAST_SECOND, TASK, Event
from callstream.streams.keys import DERIVED, partition_of, task_key

DIGEST_DIGITS = 12
MOST_PARENT = 128 - 1 - DIGEST_DIGITS
TRIES_A_PARTITION = 64
"""Ids tried for each partition there is: that none of them fits has a chance of e^-64."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How tasks are replayed: from which step, with their paid answers or new ones, with effects or in a sandbox.

    `name` tells replays apart that are alike otherwise.
    """

    step: str
    reuse_answers: bool = False
    sandbox: bool = False
    name: str = ""


def named(manner: Manner, **selection: str | float | None) -> str:
    """The name of a replay, hex: the same manner and the same selection of tasks have the same."""
    told = [manner.step, manner.reuse_answers, manner.sandbox, manner.name, sorted(selection.items())]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def child_of(tenant: str, parent: str, replay: str, partitions: int) -> str:
    """The id of the task that a replay makes of another. It begins with the parent's, as far as there is room.

    >>> child_of("acme", "mug-1", "0" * 64, partitions=8)
    'mug-1~7bd32a0b46e2'
    """
    home = partition_of(task_key(tenant, parent), partitions)
    for number in range(partitions * TRIES_A_PARTITION):
        told = f"{number}/{replay}/{tenant}/{parent}"
        child = f"{parent[:MOST_PARENT]}{DERIVED}{hashlib.sha256(told.encode()).hexdigest()[:DIGEST_DIGITS]}"
        if partition_of(task_key(tenant, child), partitions) == home:
            return child
    raise ValueError(f"no id was found for a replay of {parent!r} in partition {home} of {partitions}")


def drawn_by(tenant: str, task: str) -> bytes:
    """What shares of tasks go by: the key of the first task that this one was made of, or its own.

    So a replay, a replay of that, a sub-task and a shadow copy draw as the first did. Of a long id it is what their
    ids have of it.

    >>> drawn_by("acme", "mug-1~2.3~7bd32a0b46e2")
    b'4:acme:mug-1'
    """
    return task_key(tenant, task.partition(DERIVED)[0][:MOST_PARENT])


def begin(recorded: Event, manner: Manner, child: str, now: float) -> Event:
    """The event that starts the child at the step whose recorded input is given; `now` is epoch seconds.

    Input, outputs and trail are as they were recorded. A deadline gives the child as long as its parent had. The
    trace is a new one: a task is one trace.
    """
    allowed = None if recorded.deadline is None else max(1.0, recorded.deadline - recorded.time)
    return recorded.changed(
        task=child,
        type=TASK,
        attempt=1,
        time=now,
        deadline=None if allowed is None else min(now + allowed, LAST_SECOND),
        traceparent=None,
        parent=recorded.task,
        inherited=len(recorded.body.trail),
        # What the parent took from another it has no receipts of.
        reuses=(recorded.reuses or recorded.task) if manner.reuse_answers else None,
        sandbox=manner.sandbox,
        run=0,
        run_at=None,
        # A sub-task's replay is none of its join's.
        extensions={},
    ).with_body(end=None, failure=None, held=None, result=None, waiting=None)
