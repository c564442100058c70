"""What people decide about dead letters, as events: which letter, what, by whom, and why."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from callstream.streams.event import LETTER_COMMAND, Body, Event, Json, Strict, Submission
from callstream.streams.keys import TaskId, partition_of
from callstream.tables.letters import MOST_WHERE

COMMAND = "command"
OPERATOR = "callstream"
"""The tenant of commands that are about a partition and no task: no task of that tenant is meant."""
MOST_REDRIVES_A_SECOND = 1_000.0
MOST_TASKS = 1_000
"""That a job names by their ids."""
MOST_PATCH_BYTES = 64 * 1024

Text = Annotated[str, StringConstraints(max_length=500)]
Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._~:-]{0,199}$")]
JobId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]


class Action(StrEnum):
    """What is to be done."""

    REDRIVE = "redrive"
    DISCARD = "discard"
    EDIT = "edit"
    JOB = "job"
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"


class Does(StrEnum):
    """What a job does with each of its letters."""

    REDRIVE = "redrive"
    DISCARD = "discard"
    EDIT = "edit"


class Job(Strict):
    """What is done with every letter that a condition holds for, or with those of a tenant's `tasks`: at most so many a
    second over all partitions. `patch` is what an edit makes of each input: a JSON merge patch (RFC 7386).
    """

    id: JobId
    does: Does = Does.REDRIVE
    patch: Json | None = None
    tenant: Annotated[str, StringConstraints(max_length=64)] = ""
    tasks: Annotated[tuple[TaskId, ...], Field(max_length=MOST_TASKS)] = ()
    where: Annotated[str, StringConstraints(max_length=MOST_WHERE)] = ""
    rate: Annotated[float, Field(gt=0, le=MOST_REDRIVES_A_SECOND)] = 50.0


class Command(Strict):
    """One decision. Its `id` makes a repeat recognisable; `run` is that of the letter as whoever decides has seen it.

    `from_step` names where a redriven task begins, by default where it failed; `ask_again` has models asked anew where
    there is a paid answer. An edit has a whole `input`, or a `patch` of the one that is there. `job` is what the
    actions over many letters are about.
    """

    id: Id
    action: Action
    by: Text
    reason: Text = ""
    letter: Annotated[str, StringConstraints(max_length=20)] = ""
    tenant: Annotated[str, StringConstraints(max_length=64)] = ""
    task: Annotated[str, StringConstraints(max_length=400)] = ""
    run: Annotated[int, Field(ge=0)] = 0
    from_step: Annotated[str, StringConstraints(max_length=48)] | None = None
    ask_again: bool = False
    input: Json | None = None
    patch: Json | None = None
    job: Job | None = None


def to_task(command: Command, row: Json, now: float) -> Event:
    """The event of a command about a task's letter, for the task's partition; `now` is epoch seconds."""
    return Event(
        tenant=row["tenant"],
        task=row["task"],
        chain=row["chain"],
        version=row["version"],
        sequence=row["sequence"],
        run=row["run"],
        body=_body(command, row["chain"]),
        time=now,
        type=LETTER_COMMAND,
    )


def to_partition(command: Command, partition: int, partitions: int, now: float) -> Event:
    """The event of a command about a partition; its key is the first of a series that falls there."""
    body = _body(command, "letters")
    event = Event(
        tenant=OPERATOR, task="0", chain="letters", version=0, sequence=0, body=body, time=now, type=LETTER_COMMAND
    )
    number = 0
    while partition_of((event := event.changed(task=f"partition-{number}")).key, partitions) != partition:
        number += 1
    return event


def command_of(event: Event) -> Command:
    """The command that an event carries. Raises pydantic.ValidationError."""
    return Command.model_validate(event.body.outputs.get(COMMAND))


def _body(command: Command, chain: str) -> Body:
    told = command.model_dump(mode="json", exclude_defaults=True)
    return Body(submission=Submission(chain=chain, input={}), digest="0" * 64, outputs={COMMAND: told})
