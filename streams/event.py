"""The one thing that flows: a CloudEvent that carries a task, where it is in its chain and what was done so far.

An event on a service's topic is the recorded input of one step. Its attributes travel as Kafka headers, its body as
JSON (CloudEvents 1.0, Kafka binding, binary mode); `callstream.streams.wire` turns it into bytes and back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from callstream.streams.keys import Name, TaskId, Tenant, event_id, task_key
from callstream.streams.spend import MOST_SPENDS, Spend

TASK = "callstream.task"
TASK_UNDO = "callstream.task.undo"
TASK_HELD = "callstream.task.held"
TASK_DEAD = "callstream.task.dead"
TASK_NOTIFIED = "callstream.task.notified"
TASK_SUBTASK = "callstream.task.subtask"
TASK_JOIN_DUE = "callstream.task.due"
TASK_UNVERSIONED = "callstream.task.unversioned"
TASK_WAITING = "callstream.task.waiting"
TASK_REVIEWED = "callstream.task.reviewed"
TASK_PARTIAL = "callstream.task.partial"
VERDICT = "callstream.review.verdict"
LETTER_COMMAND = "callstream.letter.command"

PARENT = "subtaskof"
"""The attribute of a task that another one made: that one's id."""
SUBTASKS = "subtasks"
"""The attribute of a task at its join: how many sub-tasks it has."""

Json = dict[str, Any]
"""A JSON object that `strict_json.loads` has accepted: finite numbers, unique keys, bounded depth."""

MAX_LINE = 2000
MAX_HOPS = 64
MAX_NOTES = 32
MAX_EXTENSIONS = 16
MAX_ATTEMPTS_TOLD = 16
"""Of a dead letter: the first and the last of them."""
LAST_SECOND = 253_402_300_799
"""The last second of the year 9999, past which a time can't be written down."""

Line = Annotated[str, StringConstraints(max_length=MAX_LINE)]
Moment = Annotated[float, Field(ge=0, le=LAST_SECOND)]
Count = Annotated[int, Field(ge=0, le=10**18)]


NO_DIGEST = "0" * 64
"""Of a task whose submission is not known any more."""


class Priority(StrEnum):
    """How urgent a task is; every pool has a lane for each."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class End(StrEnum):
    """How a task ended for good."""

    FINISHED = "finished"
    REJECTED = "rejected"
    FAILED = "failed"
    CANCELLED = "cancelled"


class WaitReason(StrEnum):
    """Why a task is with the timer."""

    RETRY = "retry"
    SCHEDULED = "scheduled"


class Strict(BaseModel):
    """Base of everything that may come from outside: frozen, no unknown keys, no NaN, no infinity (never as null)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ser_json_inf_nan="constants")


class Failure(Strict):
    """Why an attempt failed. `kind` is one of a fixed set, `message` is for people."""

    kind: Name
    message: Line
    step: Annotated[str, StringConstraints(max_length=100)] = ""
    traceback: Annotated[str, StringConstraints(max_length=8000)] = ""


class Usage(Strict):
    """What one step's model calls took. Of `tokens_in` the endpoint had `tokens_cached` in its cache."""

    model: Annotated[str, StringConstraints(max_length=200)] = ""
    endpoint: Annotated[str, StringConstraints(max_length=200)] = ""
    calls: Count = 0
    repeated: Count = 0
    tokens_in: Count = 0
    tokens_out: Count = 0
    tokens_cached: Count = 0


class Attempt(Strict):
    """One attempt that failed: which, when it was over (epoch seconds), why, and what it took where that is known."""

    number: Annotated[int, Field(ge=1, le=1_000_000)]
    ended: Moment
    kind: Name
    message: Annotated[str, StringConstraints(max_length=300)]
    usage: Usage | None = None


class Burial(Strict):
    """What a dead letter tells beside its event: the record that it came on, and the attempts that failed.

    `ended_task`: the task has failed with it; without that only this event was refused. `before` is the failure that
    the event had already: of a task that had ended, and of whose end its caller could not be told.
    """

    topic: Annotated[str, StringConstraints(max_length=249)]
    partition: Annotated[int, Field(ge=0)]
    offset: Annotated[int, Field(ge=0)]
    ended_task: bool
    attempts: Annotated[tuple[Attempt, ...], Field(max_length=MAX_ATTEMPTS_TOLD)] = ()
    before: Failure | None = None


class Hop(Strict):
    """One step done, or undone: when (epoch seconds), in which attempt, and with what remarks.

    Of the seconds between, it `waited` so many for capacity, and so many went into tries that failed and their pauses.
    `spends` is what all requests to models cost that were sent for it, those without an answer too.
    """

    step: Name
    service: Name
    started: Moment
    ended: Moment
    attempts: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    usage: Usage | None = None
    notes: Annotated[tuple[Line, ...], Field(max_length=MAX_NOTES)] = ()
    waited: Moment = 0.0
    retried: Moment = 0.0
    spends: Annotated[tuple[Spend, ...], Field(max_length=MOST_SPENDS)] = ()
    undo: bool = False


class Undoing(Strict):
    """A task on its way back: the number of the step that is to be undone next, and how the task ends after it.

    `number` is that of the end, where it is fixed beforehand; else the end has the number after the last undo.
    """

    step: Count
    end: End
    number: Count | None = None


class Waiting(Strict):
    """Why a task is with the timer, until when (epoch seconds), and what was tried of its step before.

    Since `started` so many `attempts` of the step have ended without an outcome, the last of them in `failure`; none of
    a task that has yet to begin.
    """

    reason: WaitReason
    until: Moment
    started: Moment | None = None
    attempts: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    failure: Failure | None = None
    notes: Annotated[tuple[Line, ...], Field(max_length=MAX_NOTES)] = ()


class Submission(Strict):
    """A task as its caller hands it in; the same model at the HTTP door and on the intake topic."""

    chain: Name
    input: Json
    callback: Annotated[str, StringConstraints(max_length=2000, pattern=r"^https?://[^\s]+$")] | None = None


class Body(Strict):
    """The JSON body of an event: the task's input, each step's output by name, and the trail of what was done.

    `digest` is the SHA-256 of the submission (chain, input and callback), hex: two submissions are the same if it is.
    `additions` is for members that older programs do not know: they pass them on as they are.
    `waiting` is set while the timer has the event, and stays when it has come back, until its step is done.
    `generation` counts what makes earlier answers of models unfit: answers of another generation are not used.
    """

    submission: Submission
    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    outputs: dict[str, Json] = {}
    trail: Annotated[tuple[Hop, ...], Field(max_length=MAX_HOPS)] = ()
    end: End | None = None
    failure: Failure | None = None
    held: Line | None = None
    waiting: Waiting | None = None
    result: Json | None = None
    undoing: Undoing | None = None
    generation: Count = 0
    burial: Burial | None = None
    additions: Annotated[dict[Name, Json], Field(max_length=MAX_EXTENSIONS)] = {}


@dataclass(frozen=True)
class Event:
    """One task about to take one step (or just ended). Times are epoch seconds, UTC.

    `sequence` counts steps: 0 is intake, n is the chain's n-th step; an ended task has the number after its last step.
    `extensions` are the attributes beside those that have a field here, by name: whoever reads them passes them on.
    The first step starts no earlier than `run_at`.
    `run` counts how often the task was taken up again after it had failed: what a later run says stands.
    A task that replays another has that one as `parent`, and the first `inherited` hops of its trail are the parent's.
    `reuses` is the task whose paid answers it takes in place of calls. In a `sandbox` no step has an effect outside.
    """

    tenant: Tenant
    task: TaskId
    chain: Name
    version: int
    sequence: int
    body: Body
    attempt: int = 1
    priority: Priority = Priority.NORMAL
    time: float = 0.0
    deadline: float | None = None
    traceparent: str | None = None
    type: str = TASK
    extensions: Mapping[str, str] = field(default_factory=dict)
    run_at: float | None = None
    run: int = 0
    parent: TaskId | None = None
    inherited: int = 0
    reuses: TaskId | None = None
    sandbox: bool = False
    key: bytes = field(default=b"", compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", task_key(self.tenant, self.task))

    def changed(self, **members: Any) -> "Event":
        """This event with some members replaced, in a fifth of the time that `dataclasses.replace` takes.

        Raises TypeError for what is no member.
        """
        other = object.__new__(Event)
        own = other.__dict__
        own.update(self.__dict__)
        own.update(members)
        if len(own) != len(self.__dict__):
            raise TypeError(f"an event has no {', '.join(sorted(own.keys() - self.__dict__.keys()))}")
        if "task" in members or "tenant" in members:
            own["key"] = task_key(other.tenant, other.task)
        return other

    @property
    def id(self) -> str:
        """Deterministic: the same step of the same task in the same attempt has the same id wherever it lands."""
        return event_id(self.key, self.sequence, self.attempt, self.run)

    @property
    def input(self) -> Json:
        """What the caller handed in, as validated by the chain's input model."""
        return self.body.submission.input

    def extended(self, **attributes: str | None) -> "Event":
        """This event with some extension attributes set, or (None) taken away."""
        merged = {**self.extensions, **attributes}
        return self.changed(extensions={name: value for name, value in merged.items() if value is not None})

    def as_type(self, kind: str) -> "Event":
        """This event as one that says something else about its task."""
        return self.changed(type=kind)

    def saying(self, kind: str, name: str, told: Json, **changes: Any) -> "Event":
        """A remark about its task: of this event's body it has, beside `changes`, only what is told under a name."""
        bare = self.body.submission.model_copy(update={"input": {}, "callback": None})
        body = {"submission": bare, "outputs": {name: told}, "trail": (), "held": None, "additions": {}, **changes}
        return self.with_body(**body).as_type(kind)

    def with_body(self, **changes: Any) -> "Event":
        """This event with some members of its body replaced."""
        return self.changed(body=self.body.model_copy(update=changes))
