"""What an actor decided about one event: a value. `callstream.agents.settle` is the one place that performs it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from callstream.streams.event import Event, Failure, Json, Usage
from callstream.streams.review import NO_TERMS, Terms
from callstream.streams.wire import Record


@dataclass(frozen=True, slots=True)
class Forward:
    """The step is done: its output joins the task, which goes on to the chain's next step.

    `edits` are texts of earlier steps' outputs (by step and field) that it has changed. `back` names an earlier step
    that the task is to take again, which the step declares (`Step.regenerates`); how often is for the step to bound.
    `records` go to topics of others, before the task goes on.
    """

    output: Json = field(default_factory=dict)
    usage: Usage | None = None
    notes: tuple[str, ...] = ()
    edits: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    back: str | None = None
    records: Sequence[Record] = ()


@dataclass(frozen=True, slots=True)
class Subtask:
    """A task that another one starts, on the current version of a chain."""

    chain: str
    input: Json


@dataclass(frozen=True, slots=True)
class FanOut:
    """The step is done and starts sub-tasks (1 to 1,000): the chain's next step, a `Join`, waits for them.

    A step that runs again has to give the same ones.
    """

    subtasks: Sequence[Subtask]
    output: Json = field(default_factory=dict)
    usage: Usage | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finish:
    """The task ends here, well (`rejected` is False) or refused by a rule; `reason` is told to the caller."""

    output: Json = field(default_factory=dict)
    rejected: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Hold:
    """A person must decide: the task waits on the `review` topic, holding no worker, until a verdict arrives.

    `terms` say who is to look at it, how soon, and what if nobody does; `text` is what was judged, in which the spans
    of an output's `findings` count; of several texts it is that of the first finding.
    """

    reason: str
    output: Json = field(default_factory=dict)
    terms: Terms = NO_TERMS
    text: str = ""


@dataclass(frozen=True, slots=True)
class Retry:
    """Not now: act again after that many seconds, if attempts are left; else the task is buried with `failure`.

    `usage` is what the attempt took, where that is known.
    """

    failure: Failure
    after_seconds: float | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Bury:
    """Never: the event goes to the dead letters. The task has failed and its caller is told so, unless `ends_task`
    is False: then only this event is refused (a second, different submission under the id of a task, say).
    Without `rollback` what its steps did is not undone.
    """

    failure: Failure
    ends_task: bool = True
    usage: Usage | None = None
    rollback: bool = True


@dataclass(frozen=True, slots=True)
class Keep:
    """Nothing follows: what had to be kept has been saved by the actor's own state."""


@dataclass(frozen=True, slots=True)
class Announce:
    """A remark about a task that ended, for whoever shows it: one record on the `notified` topic."""

    output: Json


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The task was cancelled: it ends here, and `reason` is told to the caller. `usage` is what may have been paid.

    Without `rollback` what its steps did is not undone.
    """

    reason: str
    usage: Usage | None = None
    rollback: bool = True


@dataclass(frozen=True, slots=True)
class Again:
    """The event as it is, once more: to the step that it is about to take, or to where paused tasks wait."""

    paused: bool = False


@dataclass(frozen=True, slots=True)
class Resume:
    """Perform `outcome` for another event of the same task: the one that was held, or the one that starts a chain."""

    event: Event
    outcome: Forward | Finish | Bury | Cancelled


@dataclass(frozen=True, slots=True)
class Redo:
    """Send `event` as it is to where its sequence says: to intake, to a step, or, ended, to whoever tells of ends."""

    event: Event


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What review says of a held task: `then` follows, and those who show the task are told how it stands (`told`).

    `due` is an event that comes back to review at a time (epoch seconds).
    """

    then: Keep | Resume | Redo
    told: Json | None = None
    due: tuple[Event, float] | None = None


Outcome = (
    Forward | FanOut | Finish | Hold | Retry | Bury | Keep | Announce | Cancelled | Again | Redo | Resume | Reviewed
)
