"""Chains: a named, versioned list of steps with a pydantic model of the input they take.

A step is a class with `act`. Its `service` says which process runs it; callstream's own are `prepare`, `infer`,
`moderate` and `deliver`, and a step that names another gets a service, a topic and a group of its own.
"""

import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, TypeAdapter, ValidationError

from callstream.streams import strict_json
from callstream.streams.errorclass import FINAL, ErrorClass
from callstream.streams.event import MAX_HOPS, Event, Json
from callstream.streams.findings import describe
from callstream.streams.foreseen import Foreseen
from callstream.streams.keys import Name
from callstream.streams.outcome import Outcome
from callstream.streams.routes import END, Routes
from callstream.streams.topics import (
    CONTROL,
    DEAD,
    FINISHED,
    INTAKE,
    JOIN,
    NOTIFIED,
    PAUSED,
    PROFILES,
    REDRIVES,
    REVIEW,
    SCHEDULE,
    SCHEDULES,
    TIMER,
    VERDICTS,
)

MAX_STEPS = MAX_HOPS // 2 - 1
"""Each step may leave two hops, its own and a reviewer's; intake and a failure leave one each."""

MAX_VERSION = 999_999
LONGEST_DEADLINE_SECONDS = 366 * 24 * 3600.0
MAX_INPUT_BYTES = 3 * 1024 * 1024
RESERVED = frozenset(
    {
        INTAKE,
        FINISHED,
        DEAD,
        REVIEW,
        VERDICTS,
        NOTIFIED,
        PROFILES,
        TIMER,
        SCHEDULE,
        SCHEDULES,
        CONTROL,
        PAUSED,
        REDRIVES,
        "gateway",
        "notify",
    }
)
"""Names of topics and services that take no steps."""


class NotRehearsable(Exception):
    """The step cannot be run without its effects; the message says so."""


class UnknownChain(Foreseen, LookupError):
    """No chain of that name or version is known to this worker; the message says which are."""


class MissingVersion(UnknownChain):
    """The chain, or that version of it, is not on this worker: it may be on another, or come with a newer program."""

    def __init__(self, chain: str, version: int, known: str) -> None:
        super().__init__(f"this worker has no {chain!r} version {version}; it has: {known}")
        self.chain = chain
        self.version = version


class InvalidInput(ValueError):
    """The input does not fit the chain's model; the message says where and why."""


class Cell(Protocol):
    """What an actor remembers about one task, in the service's table; no table, no memory (`value` stays None)."""

    @property
    def value(self) -> Json | None:
        """The row as it stands, or None."""

    async def save(self, value: Json) -> None:
        """Write the row and wait until the log has it. Raises LostOwnership if another worker owns it by now."""


_TRIED_AGAIN = [str(one) for one in ErrorClass if one not in FINAL]


@dataclass(frozen=True, slots=True)
class Attempts:
    """How often a step is tried, and how long the pauses between tries grow (full jitter, capped).

    `by_class` says it otherwise for failures of a class (`callstream.streams.errorclass`), such as
    `{"bug": Attempts(most=1), "overloaded": Attempts(most=20, longest_pause_seconds=120)}`. What was refused, or is
    past its deadline, is never tried again. Raises ValueError for what makes no policy.
    """

    most: int = 5
    first_pause_seconds: float = 0.5
    longest_pause_seconds: float = 30.0
    by_class: Mapping[str, "Attempts"] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ValueError(f"attempts: most is {self.most}; a step is tried at least once")
        for name in ("first_pause_seconds", "longest_pause_seconds"):
            seconds = getattr(self, name)
            if not 0 <= seconds < math.inf:
                raise ValueError(f"attempts: {name} is {seconds}; it takes seconds, 0 or more")
        for name, own in self.by_class.items():
            if name not in _TRIED_AGAIN:
                known = ", ".join(_TRIED_AGAIN)
                raise ValueError(f"attempts: by_class has {name!r}; what may be tried again is {known}")
            if own.by_class:
                raise ValueError(f"attempts: by_class[{name!r}] has a by_class of its own")

    def of(self, error_class: str) -> "Attempts":
        """Those for failures of a class."""
        return self.by_class.get(error_class, self)


@dataclass(frozen=True, slots=True)
class Late:
    """What a step does when less time is left than it, and the rest of its chain, usually take.

    `first`: its model calls go before the others of their tenant and lane, the earliest deadline first. `pool`: its
    calls ask this one instead, a cheaper or a faster one. `skip`: the task goes on without the step's output; else it
    ends here (kind `deadline`), and takes no more of what others need. Where a pool is named, that is asked first.

    >>> Late(first=True, pool="small", skip=True)
    Late(first=True, pool='small', skip=True)
    """

    first: bool = False
    pool: str | None = None
    skip: bool = False


class Step:
    """One entry of a chain.

    `name` is where its output goes (`event.body.outputs[name]`), `service` which process runs it. A step that
    `remembers` gets a row for each task to keep its state in (the receipts of its model calls, say). `load` is called
    in that process before any service starts, `open` once with its `Tools` before the first event, `close` after the
    last. Where its task is cancelled
    meanwhile `act` is cancelled too, unless the step is not `cuttable`: what it has begun is then brought to its end.

    `late` says what happens when the task's time is short; unset, the step begins as long as any is left.
    `expected_seconds` is what it usually takes, without waiting; unset, that is learned from what it took.

    A step that is `harmless` has no effect but its outcome: it may be run to see what it would do. Another one may say
    it in `rehearse`.
    """

    name: str
    service: ClassVar[str]
    remembers: ClassVar[bool] = False
    joins: ClassVar[bool] = False
    cuttable: ClassVar[bool] = True
    harmless: ClassVar[bool] = False
    attempts: Attempts = Attempts()
    timeout_seconds: float = 60.0
    late: Late | None = None
    expected_seconds: float | None = None
    rechecks: ClassVar[bool] = False
    """Whether it judges a text that a reviewer has edited, by `recheck`: it is then opened where reviews are, too."""
    regenerates: str | None = None
    """The step to which this one, or a reviewer of what it holds, may send a task back: itself, or one before it."""
    topics: tuple[str, ...] = ()
    """Topics of others that `Forward.records` go to: they are made if they are missing."""
    undoes: bool = False
    """Whether `undo` takes back what `act` has done, when the task ends badly after all."""

    @property
    def queue(self) -> str:
        """What its events wait for: a backlog there holds up no event of another queue on the same service."""
        return self.name

    def load(self) -> None:
        """Read what takes long and never changes, such as dictionaries: here nothing else stands still for it."""

    async def open(self, tools: Any) -> None:
        """Take what the step needs from the worker's tools (`callstream.agents.tools.Tools`)."""

    async def close(self) -> None:
        """Give it back."""

    async def was_done(self, event: Event) -> bool:
        """Whether its effect is there already: asked of one that is not `cuttable`, before its task is cancelled."""
        return False

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Decide about one event. It may save its state; it can neither send nor acknowledge."""
        raise NotImplementedError

    async def undo(self, event: Event, state: Cell) -> Outcome:
        """Take back what the step did for a task that ends badly: `Forward` once that is done, else `Retry` or `Bury`.

        It may come more than once, and for a step that failed before it did anything. `event.body.failure` says why.
        """
        raise NotImplementedError

    async def recheck(self, event: Event) -> str | None:
        """What stands against passing on the event with its edited texts, whatever a reviewer says; None: nothing."""
        return None

    async def rehearse(self, event: Event) -> Json:
        """What the step would do with this event, without doing it. Raises NotRehearsable unless a step says it."""
        raise NotRehearsable(f"step {self.name!r} is not harmless and has no rehearsal: it can only be run in earnest")


@dataclass(frozen=True)
class Chain:
    """A versioned list of steps for one kind of task. A task finishes on the version that it started on.

    A task that is handed in without a deadline has one `deadline_seconds` later, if that is set.
    """

    name: str
    input: type[BaseModel]
    steps: tuple[Step, ...]
    version: int = 1
    result: Callable[[Event], Json] | None = None
    """What the caller gets in the end; by default the outputs of all steps."""
    routes: Mapping[str, Routes] = field(default_factory=dict)
    """Where a task goes after a step, by its name (`intake`: where it starts); without one, to the next step."""
    deadline_seconds: float | None = None

    def __post_init__(self) -> None:
        TypeAdapter(Name).validate_python(self.name)
        self._check_seconds("deadline_seconds", self.deadline_seconds)
        if not 1 <= self.version <= MAX_VERSION:
            raise ValueError(f"chain {self.name}: version {self.version} is not within 1 to {MAX_VERSION:,}")
        names = [step.name for step in self.steps]
        if not names:
            raise ValueError(f"chain {self.name}: no steps")
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"chain {self.name}: two steps are called {', '.join(sorted(twice))}")
        if len(names) > MAX_STEPS:
            raise ValueError(f"chain {self.name}: {len(names)} steps; at most {MAX_STEPS} leave room for their trail")
        for step in self.steps:
            TypeAdapter(Name).validate_python(step.name)
            TypeAdapter(Name).validate_python(step.service)
            if step.service in RESERVED:
                raise ValueError(f"chain {self.name}: {step.service!r} is no service that steps can run on")
            if (step.service == JOIN) != step.joins:
                raise ValueError(f"chain {self.name}: on the service {JOIN!r} runs a Join, and nothing else does")
            self._check_seconds(f"expected_seconds of step {step.name}", step.expected_seconds)
            self._check_regenerates(step)
        for name, routes in self.routes.items():
            self._check_routes(name, routes)

    def _check_routes(self, name: str, routes: Routes) -> None:
        known = [step.name for step in self.steps]
        for target in (*(() if name == INTAKE else (name,)), *routes.targets):
            if target not in (*known, END):
                told = ", ".join(known)
                raise ValueError(f"chain {self.name}: routes of {name!r}: no step is called {target!r}; known: {told}")

    def _check_regenerates(self, step: Step) -> None:
        names = [one.name for one in self.steps]
        known = names[: names.index(step.name) + 1]
        if step.regenerates is not None and step.regenerates not in known:
            told = ", ".join(known)
            wrong = f"{step.regenerates!r} is neither {step.name!r} nor a step before it; known: {told}"
            raise ValueError(f"chain {self.name}: step {step.name} regenerates: {wrong}")

    def _check_seconds(self, what: str, seconds: float | None) -> None:
        if seconds is not None and not 0 < seconds <= LONGEST_DEADLINE_SECONDS:
            raise ValueError(f"chain {self.name}: {what} is {seconds}; it takes seconds, more than 0, a year at most")

    def validate_input(self, given: Mapping[str, Any]) -> Json:
        """The input as the model has it, in JSON types. Raises InvalidInput, naming each place and what is wrong."""
        try:
            valid: Json = self.input.model_validate(given).model_dump(mode="json")
            strict_json.readable(valid, MAX_INPUT_BYTES)
        except ValidationError as error:
            raise InvalidInput(describe(error, given)) from None
        except ValueError as error:
            raise InvalidInput(f"what {self.input.__name__} makes of it cannot be passed on: {error}"[:2000]) from None
        return valid

    def step(self, sequence: int) -> Step | None:
        """The step with that number (the first is 1), or None past the last one.

        A task may go back: its number then goes on in another round, in which each step has a number too.
        """
        index = (sequence - 1) % self._stride if self.goes_back else sequence - 1
        return self.steps[index] if sequence >= 1 and index < len(self.steps) else None

    def sequence_of(self, name: str, after: int) -> int:
        """The first number of that step beyond `after`: numbers only grow, whichever way a task goes."""
        index = next(index for index, step in enumerate(self.steps) if step.name == name)
        return after + 1 + (index - after) % self._stride

    def before_round(self, sequence: int) -> int:
        """How many numbers lie before the round that a number is of: 0 in the first one."""
        return (sequence - 1) // self._stride * self._stride if self.goes_back and sequence >= 1 else 0

    @property
    def goes_back(self) -> bool:
        """Whether a task may take a step again, in another round of numbers."""
        return bool(self.routes) or any(step.regenerates is not None for step in self.steps)

    @property
    def _stride(self) -> int:
        """Numbers of a round: one for each step, and one for the end."""
        return len(self.steps) + 1


class Chains:
    """The chains this worker knows, by name and version."""

    def __init__(self, chains: Iterable[Chain]) -> None:
        self._chains: dict[tuple[str, int], Chain] = {}
        for chain in chains:
            if (chain.name, chain.version) in self._chains:
                raise ValueError(f"chain {chain.name} version {chain.version} is declared twice")
            self._chains[chain.name, chain.version] = chain

    def __iter__(self) -> Iterator[Chain]:
        return iter(self._chains.values())

    def current(self, name: str) -> Chain:
        """The newest version of a chain. Raises UnknownChain."""
        versions = [chain for chain in self if chain.name == name]
        if not versions:
            known = ", ".join(sorted({chain.name for chain in self})) or "none"
            raise UnknownChain(f"no chain is called {name!r}; known: {known}")
        return max(versions, key=lambda chain: chain.version)

    def get(self, name: str, version: int) -> Chain:
        """That version of a chain. Raises MissingVersion."""
        try:
            return self._chains[name, version]
        except KeyError:
            known = ", ".join(f"{chain.name} v{chain.version}" for chain in self) or "none"
            raise MissingVersion(name, version, known) from None

    def services(self) -> tuple[str, ...]:
        """Every service that some step runs on, in the order of the chains."""
        return tuple(dict.fromkeys(step.service for chain in self for step in chain.steps))

    def topics(self) -> tuple[str, ...]:
        """Every topic of others that a route or a step sends to."""
        routes = [name for chain in self for one in chain.routes.values() for name in one.topics]
        return tuple(
            dict.fromkeys((*routes, *(name for chain in self for step in chain.steps for name in step.topics)))
        )

    def steps_of(self, service: str) -> tuple[Step, ...]:
        """Every step that runs on one service."""
        return tuple(step for chain in self for step in chain.steps if step.service == service)


Act = Callable[[Event, Cell], Awaitable[Outcome]]
