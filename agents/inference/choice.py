"""Which endpoints a call should have, by rules that people set while it runs. Pure.

A rule narrows what the admission decision may pick from, or moves a call to another pool; it never opens what a limit,
a breaker or an endpoint keeps closed. Shares are drawn by a hash of the task (`lineage.drawn_by`): a retry, a
redelivery and whatever is made of a task draw the same place, and who is within a share stays there when it grows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field, StringConstraints, field_validator, model_validator

from callstream.agents.inference.options import EndpointOptions, PoolOptions, Weight
from callstream.streams.event import Event, Json, Strict
from callstream.streams.expressions import BadExpression, Expression, NotEvaluated
from callstream.streams.keys import Name
from callstream.streams.routes import LIMITS, VARIABLES, percent_of, variables

NAMES = VARIABLES | {"language", "pool", "characters"}
SAMPLE: Json = {
    **dict.fromkeys(("chain", "tenant", "task", "step", "language", "pool"), "a"),
    "input": {},
    "outputs": {},
    "usage": {},
    "priority": "normal",
    "version": 1,
    "characters": 1,
}
"""On which a condition is tried when it is set."""
TARGETS = ("endpoints", "model", "weights", "cheapest", "to")
CHARACTERS_A_TOKEN = 4
"""About; it only says which of several prices is the lowest."""
MOST_RULES = 32
"""Of one pool."""


class Rule(Strict):
    """What a call of a pool gets `when` a CEL expression is true of it, or always, for a `share` (percent) of tasks.

    One of: some `endpoints` of the pool, those with a `model`, other `weights` for all of them, those that are
    `cheapest` for the call, or another pool (`to`). Where each of the chosen endpoints is out, another one of the pool
    has the call, unless `only` says that it waits.
    """

    when: Annotated[str, StringConstraints(max_length=LIMITS.characters)] | None = None
    share: Annotated[float, Field(ge=0, le=100)] = 100.0
    endpoints: Annotated[tuple[Name, ...], Field(min_length=1, max_length=100)] | None = None
    model: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    weights: Annotated[dict[Name, Weight], Field(min_length=1, max_length=100)] | None = None
    cheapest: bool = False
    to: Name | None = None
    only: bool = False

    @field_validator("when")
    @classmethod
    def _compiled(cls, value: str | None) -> str | None:
        if value is None:
            return None
        made = expression(value)
        try:
            made.holds(SAMPLE)
        except NotEvaluated:
            # Other values may have what these have not.
            return value
        except BadExpression as error:
            raise ValueError(f"condition {value[:80]!r}: {error}") from None
        return value

    @model_validator(mode="after")
    def _one_target(self) -> "Rule":
        named = [name for name in TARGETS if getattr(self, name)]
        if len(named) != 1:
            said = f"not {' and '.join(named)}" if named else "and none is named"
            raise ValueError(f"a rule names one of {', '.join(TARGETS)}, {said}")
        if self.only and named[0] in ("weights", "to"):
            raise ValueError(f"only goes with endpoints, model and cheapest, not with {named[0]}")
        return self

    def unusable(self, pool: str, pools: Mapping[str, Mapping[str, str]]) -> str | None:
        """Why it cannot be obeyed, with what there is; None if it can. `pools` has each endpoint's model by pool."""
        there = pools.get(pool)
        if there is None:
            return f"no pool is called {pool!r}; there are: {_listed(pools)}"
        if self.to is not None and self.to == pool:
            return f"it moves calls of {pool!r} to itself: name another pool; there are: {_listed(pools)}"
        if self.to is not None and self.to not in pools:
            return f"no pool is called {self.to!r}; there are: {_listed(pools)}"
        if unknown := [name for name in (*(self.endpoints or ()), *(self.weights or ())) if name not in there]:
            return f"pool {pool!r} has no endpoint {unknown[0]!r}; there are: {_listed(there)}"
        if self.model is not None and self.model not in there.values():
            return f"pool {pool!r} has no endpoint with the model {self.model!r}; there are: {_listed(there.values())}"
        if self.weights and not any(self.weights.get(name, 1) for name in there):
            return f"it gives every endpoint of {pool!r} the weight 0: one at least must have more"
        return None

    def __str__(self) -> str:
        """In words: `10 % to e2 when tenant == 'a'`."""
        share = "" if self.share == 100 else f"{self.share:g} % "
        to = f"{share}to {self.target}{' only' if self.only else ''}"
        return to if self.when is None else f"{to} when {self.when}"

    @property
    def target(self) -> str:
        """What it chooses, in words."""
        if self.endpoints is not None:
            return ", ".join(self.endpoints)
        if self.weights is not None:
            return "weights " + ", ".join(f"{name}={weight}" for name, weight in self.weights.items())
        if self.model is not None:
            return f"model {self.model}"
        return "the cheapest" if self.to is None else f"pool {self.to}"


@dataclass(frozen=True, slots=True)
class Choice:
    """What the rules of the pool that a call `asked` say of it: its pool, and which `endpoints` of it should have
    it (empty: any of them).

    `weights` stand in place of the settings'. With `only` no other endpoint will do. `notes` say by which rule, and
    which rules could not be asked. `revision` is of the rules that were asked.
    """

    asked: str
    pool: str
    endpoints: frozenset[str] = frozenset()
    only: bool = False
    weights: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()
    rule: str = ""
    revision: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Asked:
    """A call as rules see it: `values` are their variables, `draws_as` is what shares are drawn by."""

    draws_as: bytes
    values: Mapping[str, Any]
    characters: int = 0
    answer_tokens: int | None = None


def about(event: Event, step: str) -> Json:
    """The variables of rules that a task's event gives: those of routes, and its language."""
    return {**variables(event, step), "language": language_of(event)}


def language_of(event: Event) -> str:
    """The language that the latest step found, or that the input names; empty where none does."""
    found = [output.get("language") for output in reversed(event.body.outputs.values())]
    named = [one for one in (*found, event.input.get("language")) if isinstance(one, str) and one]
    return named[0] if named else ""


def expression(text: str) -> Expression:
    """A condition, made ready. Raises ValueError for what is no CEL over `NAMES`."""
    try:
        return Expression(text, NAMES, LIMITS)
    except BadExpression as error:
        raise ValueError(f"condition {text[:80]!r}: {error}") from None


class Chooser:
    """The rules of all pools, made ready. `pools` and `rules` are by pool; those of one are asked in their order."""

    def __init__(
        self, rules: Mapping[str, Sequence[tuple[str, Rule]]], pools: Mapping[str, PoolOptions], revision: int = 0
    ) -> None:
        self._pools = dict(pools)
        self._revision = revision
        models = {name: {one.name: one.model for one in pool.endpoints} for name, pool in pools.items()}
        self._ready = {
            pool: [(name, rule, rule.unusable(pool, models), _condition(rule)) for name, rule in own]
            for pool, own in rules.items()
            if own
        }

    def choose(self, pool: str, asked: Asked) -> Choice:
        """What the first rule says that is true of the call; of a pool that a rule moves it to, the rules there too."""
        chosen = self._first(pool, asked, moves=True)
        if chosen.pool == pool:
            return chosen
        there = self._first(chosen.pool, asked, moves=False)
        return Choice(
            pool,
            chosen.pool,
            there.endpoints,
            there.only,
            there.weights,
            (*chosen.notes, *there.notes)[:8],
            f"{chosen.rule}, {there.rule}" if there.rule else chosen.rule,
            self._revision,
        )

    def _first(self, pool: str, asked: Asked, moves: bool) -> Choice:
        notes: list[str] = []
        for name, rule, unusable, condition in self._ready.get(pool, ()):
            if rule.to is not None and not moves:
                continue
            label = f"rule {name!r} of pool {pool!r}"
            if unusable is not None:
                notes.append(f"choice: {label} is passed over: {unusable}")
                continue
            try:
                fits = condition is None or condition.holds({**asked.values, "pool": pool})
            except BadExpression as error:
                notes.append(f"choice: {label} is passed over: {error}")
                continue
            if fits and drawn(pool, name, asked.draws_as) < rule.share:
                return self._by(rule, pool, asked, name, (*notes[:4], f"choice: {label}: {rule}"))
        return Choice(pool, pool, notes=tuple(notes[:4]), revision=self._revision)

    def _by(self, rule: Rule, pool: str, asked: Asked, name: str, notes: tuple[str, ...]) -> Choice:
        endpoints = self._pools[pool].endpoints
        chosen = frozenset(rule.endpoints or ())
        if rule.model is not None:
            chosen = frozenset(one.name for one in endpoints if one.model == rule.model)
        if rule.cheapest:
            chosen = cheapest(endpoints, asked)
        weights = tuple(sorted((rule.weights or {}).items()))
        return Choice(pool, rule.to or pool, chosen, rule.only, weights, notes, name, self._revision)


def drawn(pool: str, rule: str, task: bytes) -> float:
    """Where a task stands in a rule's draw, 0 to below 100."""
    return percent_of(f"{pool}/{rule}", task)


def cheapest(endpoints: Sequence[EndpointOptions], asked: Asked) -> frozenset[str]:
    """Those that ask the lowest price for a call of about that size."""
    prices = {
        one.name: one.price_in_per_million * (asked.characters // CHARACTERS_A_TOKEN)
        + one.price_out_per_million * (asked.answer_tokens or one.max_answer_tokens)
        for one in endpoints
    }
    least = min(prices.values())
    return frozenset(name for name, price in prices.items() if price == least)


def _condition(rule: Rule) -> Expression | None:
    return None if rule.when is None else expression(rule.when)


def _listed(names: Any) -> str:
    return ", ".join(sorted(set(names))[:50]) or "none"
