"""Routes: which step comes after another, by rules in CEL over the event.

A rule fires or not from the event alone, and shares of traffic go by a hash of the task's key: the same event takes the
same way however often it is looked at.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from callstream.streams.event import Event, Json
from callstream.streams.expressions import BadExpression, Expression, Limits
from callstream.streams.topics import check_foreign

END = "(end)"
"""In the place of a step's name: the task ends there, well."""
MOST_RULES = 32
LIMITS = Limits(characters=1_000, loops=2)
MOST_WEIGHT = 1_000_000
VARIABLES = frozenset(("chain", "version", "tenant", "task", "priority", "step", "input", "outputs", "usage"))
MOST_SHOWN = 80


class RouteFailed(Exception):
    """A rule could not be evaluated for an event, and no step stands in for that; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Where a task goes `when` a CEL expression over its event is true.

    `to` is a step's name (or `END`), or several with their weights: each task keeps to the same one. `shadow` names a
    step that takes a copy of the task, alone and on the side, whatever becomes of it. `topic` names one that is not
    callstream's, which gets the event: a copy of a task that goes on, or, with `END`, a task that is handed over.
    """

    when: str
    to: str | Mapping[str, int]
    shadow: str | None = None
    topic: str | None = None
    test: Expression = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "test", compiled(self.when))
        _check_weights(self.to)
        if self.topic is not None:
            check_foreign(self.topic)

    @property
    def targets(self) -> tuple[str, ...]:
        """Every step that it names."""
        named = (self.to,) if isinstance(self.to, str) else tuple(self.to)
        return named if self.shadow is None else (*named, self.shadow)


@dataclass(frozen=True, slots=True)
class Routes:
    """The rules behind one step: the first that is true decides.

    `otherwise` is where a task goes if none is, by default to the chain's next step; `on_error` where it goes if one
    can't be evaluated (a field is missing, say): without it the task fails and says why. Raises ValueError for rules
    that do not parse or are too many.
    """

    rules: tuple[Rule, ...]
    otherwise: str | None = None
    on_error: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.rules) <= MOST_RULES:
            raise ValueError(f"{len(self.rules)} rules; 1 to {MOST_RULES} are taken")

    @property
    def targets(self) -> tuple[str, ...]:
        """Every step that is named."""
        named = [name for rule in self.rules for name in rule.targets]
        return (*named, *(name for name in (self.otherwise, self.on_error) if name is not None))

    @property
    def topics(self) -> tuple[str, ...]:
        """Every topic that is named."""
        return tuple(rule.topic for rule in self.rules if rule.topic is not None)


@dataclass(frozen=True, slots=True)
class Route:
    """Where a task goes next: a step's name, `END`, or None for the chain's next step; `note` says by which rule.

    Its event also goes to `topic`, if there is one.
    """

    to: str | None
    note: str
    shadow: str | None = None
    topic: str | None = None


def choose(routes: Routes, event: Event, step: str) -> Route:
    """The way of an event that has done `step`. Raises RouteFailed."""
    seen = variables(event, step)
    for number, rule in enumerate(routes.rules, start=1):
        name = f"rule {number} of {step!r} ({_short(rule.when)})"
        try:
            fires = rule.test.holds(seen)
        except BadExpression as error:
            why = f"route: {name} failed: {error}"
            if routes.on_error is None:
                raise RouteFailed(why) from None
            return Route(routes.on_error, f"{why}; to {routes.on_error!r}")
        if fires:
            to = _drawn(rule.to, f"{event.chain}/{step}/{number}".encode(), event.key)
            beside = f", a copy to {rule.shadow!r}" if rule.shadow is not None else ""
            if rule.topic is not None:
                sent = "handed over" if to == END else "a copy"
                beside += f", {sent} to topic {rule.topic!r}" + (" (not in a sandbox)" if event.sandbox else "")
            return Route(to, f"route: {name} to {to!r}{beside}", rule.shadow, None if event.sandbox else rule.topic)
    where = "the next step" if routes.otherwise is None else repr(routes.otherwise)
    return Route(routes.otherwise, f"route: no rule of {step!r} to {where}")


def variables(event: Event, step: str) -> Json:
    """What a rule sees of an event: `usage` has what each step took, by its name."""
    return {
        "chain": event.chain,
        "version": event.version,
        "tenant": event.tenant,
        "task": event.task,
        "priority": str(event.priority),
        "step": step,
        "input": event.input,
        "outputs": event.body.outputs,
        "usage": {hop.step: hop.usage.model_dump() for hop in event.body.trail if hop.usage is not None},
    }


def compiled(text: str) -> Expression:
    """A rule over an event, made ready.

    Raises ValueError for what is too long, loops too much or is no CEL over `VARIABLES`.
    """
    try:
        return Expression(text, VARIABLES, LIMITS)
    except BadExpression as error:
        raise ValueError(f"rule {_short(text)}: {error}") from None


def _check_weights(to: str | Mapping[str, int]) -> None:
    if isinstance(to, str):
        return
    if not to or any(not isinstance(weight, int) or weight < 0 for weight in to.values()):
        raise ValueError(f"weights {dict(to)!r}: each step needs a whole number, 0 or more")
    if not 1 <= sum(to.values()) <= MOST_WEIGHT:
        raise ValueError(f"weights {dict(to)!r}: their sum must be 1 to {MOST_WEIGHT:,}")


def _drawn(to: str | Mapping[str, int], salt: bytes, key: bytes) -> str:
    """The step that a task goes to, by its key: of two steps with weights 95 and 5 the second gets 5 % of the tasks."""
    if isinstance(to, str):
        return to
    place = _number(salt, key) % sum(to.values())
    for name, weight in to.items():
        if place < weight:
            return name
        place -= weight
    raise AssertionError("a place is below the sum of all weights")


def _short(expression: str) -> str:
    return expression if len(expression) <= MOST_SHOWN else f"{expression[:MOST_SHOWN]}…"


def percent_of(salt: str, key: bytes) -> float:
    """Where a task stands in a draw, 0 to below 100, always the same: it is within every share that is larger."""
    return _number(salt.encode(), key) / 2**64 * 100


def _number(salt: bytes, key: bytes) -> int:
    return int.from_bytes(hashlib.sha256(salt + b"\0" + key).digest()[:8])
