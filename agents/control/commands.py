"""Commands as they stand on the topic `control`: one record each, under a key that a later one replaces. Pure.

A pause and the end of it share the key of their scope, so that compaction keeps the latest. What was swept is a
tombstone.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from callstream.agents.inference.choice import Rule
from callstream.streams import strict_json
from callstream.streams.event import Json, Moment, Strict
from callstream.streams.keys import Name, TaskId, Tenant
from callstream.streams.topics import CONTROL, topic_of
from callstream.streams.wire import Record

MAX_COMMAND_BYTES = 16 * 1024
CANCEL, FILTER, PAUSE, RULE = "cancel", "filter", "pause", "rule"
MOST_PLACE = 1_000_000

Reason = Annotated[str, StringConstraints(max_length=500)]
Who = Annotated[str, StringConstraints(min_length=1, max_length=200)]
State = Literal["accepted", "running", "held"]


class Command(Strict):
    """What every command says: when it was given (epoch seconds), by whom, and why."""

    at: Moment
    by: Who
    reason: Reason = ""


class CancelTask(Command):
    """One task is cancelled: the one of that id that was accepted (epoch seconds) no later than `before`.

    With a `rollback` its steps that can be undone are undone; without it what they did stays.
    """

    tenant: Tenant
    task: TaskId
    before: Moment
    rollback: bool = True

    @property
    def key(self) -> str:
        """The key of its record."""
        return f"{CANCEL}/{self.tenant}/{self.task}"


class CancelFilter(Command):
    """Every task of that chain, tenant and state (None: any) that was accepted no later than `before`."""

    chain: Name | None = None
    tenant: Tenant | None = None
    state: State | None = None
    before: Moment
    rollback: bool = True

    @property
    def key(self) -> str:
        """The key of its record: a filter never replaces one that reaches further, or ends its tasks otherwise."""
        place = f"{FILTER}/{self.chain or ''}/{self.tenant or ''}/{self.state or ''}/{self.before!r}"
        return place if self.rollback else f"{place}/keep"


Cancel = CancelTask | CancelFilter


def reason_of(cancel: Cancel) -> str:
    """What the caller of a cancelled task is told."""
    return f"cancelled by {cancel.by}" + (f": {cancel.reason}" if cancel.reason else "")


class Scope(Strict):
    """What is paused: a task (of a tenant), a chain, a service, a pool, or all of a tenant."""

    task: TaskId | None = None
    chain: Name | None = None
    service: Name | None = None
    pool: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] | None = None
    tenant: Tenant | None = None

    @model_validator(mode="after")
    def _one_thing(self) -> "Scope":
        named = [name for name in ("task", "chain", "service", "pool", "tenant") if getattr(self, name) is not None]
        if named != ["task", "tenant"] and len(named) != 1:
            said = f"not {' and '.join(named)}" if named else "and none is named"
            raise ValueError(f"a scope names one of task, chain, service, pool and tenant, {said}")
        return self

    @property
    def kind(self) -> str:
        """task, chain, service, pool or tenant."""
        return next(name for name in ("task", "chain", "service", "pool", "tenant") if getattr(self, name) is not None)

    @property
    def key(self) -> str:
        """The key of its record, and what it is looked up by."""
        if self.task is not None:
            return f"task/{self.tenant}/{self.task}"
        return f"{self.kind}/{getattr(self, self.kind)}"

    def __str__(self) -> str:
        """In words: `chain quick`."""
        return f"{self.kind} {getattr(self, self.kind)}"


class Switch(Command):
    """A scope is paused from now on, or not any more."""

    scope: Scope
    paused: bool

    @property
    def key(self) -> str:
        """The key of its record."""
        return f"{PAUSE}/{self.scope.key}"


class PoolRule(Command):
    """A rule of a pool is set from now on, or, without one, taken away. Of a pool the lowest `place` is asked first."""

    pool: Name
    name: Name
    place: Annotated[int, Field(ge=0, le=MOST_PLACE)] = 100
    rule: Rule | None = None

    @property
    def key(self) -> str:
        """The key of its record."""
        return f"{RULE}/{self.pool}/{self.name}"


AnyCommand = CancelTask | CancelFilter | Switch | PoolRule
_KINDS: dict[str, type[AnyCommand]] = {CANCEL: CancelTask, FILTER: CancelFilter, PAUSE: Switch, RULE: PoolRule}


class BadCommand(ValueError):
    """A record of the topic that is no command; the message says why."""


def as_value(command: AnyCommand) -> bytes:
    """The value of a command's record."""
    return strict_json.dumps(command.model_dump(mode="json", exclude_defaults=True))


def record_of(command: AnyCommand) -> Record:
    """A command's record."""
    return Record(topic_of(CONTROL), command.key.encode(), as_value(command), [])


def read(key: str, value: bytes) -> AnyCommand:
    """The command of a record. Raises BadCommand."""
    kind = _KINDS.get(key.partition("/")[0])
    if kind is None:
        raise BadCommand(f"no command has the key {key[:80]!r}")
    try:
        command = kind.model_validate(strict_json.loads(value, MAX_COMMAND_BYTES))
    except ValueError as error:
        raise BadCommand(f"command {key[:80]!r}: {str(error)[:300]}") from None
    if command.key != key:
        raise BadCommand(f"command {key[:80]!r} belongs under {command.key[:80]!r}")
    return command


def told(command: AnyCommand) -> Json:
    """A command as people and programs are told of it."""
    said = command.model_dump(mode="json", exclude_none=True, exclude={"paused", "at"})
    return {**said, "since" if isinstance(command, Switch | PoolRule) else "at": command.at}


@dataclass(frozen=True, slots=True)
class Subject:
    """A task as commands see it: whose, of which chain, accepted when (epoch seconds), and how far it is.

    Of a sub-task, also the tasks `above` it, which have started it or what started it.
    """

    tenant: str
    task: str
    chain: str
    time: float
    state: str = "running"
    above: "tuple[Subject, ...]" = ()


class Selection(Strict):
    """Which tasks a filter takes, as a caller says it; `created_before` is epoch seconds, now if it is not given."""

    chain: Name | None = None
    tenant: Tenant | None = None
    state: State | None = None
    created_before: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _something(self) -> "Selection":
        if not self.model_fields_set:
            raise ValueError("a filter names at least one of chain, tenant, state and created_before")
        return self
