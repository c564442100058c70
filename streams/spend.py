"""What requests to models have cost: one entry for each sort of request of a step, with tokens and money. Pure."""

from collections.abc import Callable, Iterable
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from callstream.streams.money import NONE, USUAL_CURRENCY, Currency, Money, text_of, total

Json = dict[str, Any]

MOST_SPENDS = 32
_Count = Annotated[int, Field(ge=0, le=10**18)]


class SpendKind(StrEnum):
    """What became of a request."""

    ANSWER = "answer"
    """It was answered, and the answer counts."""
    REPAIR = "repair"
    """It was answered, and asked since an earlier answer could not be used."""
    HEDGE_LOSER = "hedge-loser"
    """Two were sent, and the other one was faster."""
    CANCELLED = "cancelled"
    """It was cut: its task was cancelled, or its worker stopped."""
    FAILED = "failed"
    """It was sent and gave no answer."""
    LOST = "lost"
    """Its worker ended before it could say what came of it, and it was sent again."""


class Spend(BaseModel):
    """Requests of one kind to one endpoint: what they took, and cost at the endpoint's price of that moment.

    `at` is when the last of them was over (epoch seconds). `estimated`: what they took is not known; this is what was
    reserved for them, the most that they were reckoned with. `tokens_cached` are those of `tokens_in` that the endpoint
    had in its cache.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: SpendKind
    endpoint: Annotated[str, StringConstraints(max_length=200)] = ""
    model: Annotated[str, StringConstraints(max_length=200)] = ""
    calls: _Count = 1
    tokens_in: _Count = 0
    tokens_out: _Count = 0
    tokens_cached: _Count = 0
    cost: Money = NONE
    currency: Currency = USUAL_CURRENCY
    estimated: bool = False
    at: Annotated[float, Field(ge=0, le=253_402_300_799)] = 0.0

    def as_kind(self, kind: SpendKind) -> "Spend":
        """The same, taken for another kind."""
        return self if kind is self.kind else self.model_copy(update={"kind": kind})

    def times(self, count: int) -> "Spend":
        """So many of them."""
        amounts = {name: getattr(self, name) * count for name in _COUNTS}
        return self.model_copy(update={**amounts, "cost": total([self.cost] * count)})


_COUNTS = ("calls", "tokens_in", "tokens_out", "tokens_cached")
Spends = tuple[Spend, ...]


def summed(spends: Iterable[Spend]) -> Spends:
    """One entry for each kind, endpoint, model, currency, day and whether it is an estimate.

    Of more than `MOST_SPENDS` the last ones lose their endpoint and model, so that no amount is lost.
    """
    found = _joined(spends, lambda one: (one.endpoint, one.model, int(one.at // 86_400)))
    if len(found) <= MOST_SPENDS:
        return found
    kept, rest = found[: MOST_SPENDS // 4], found[MOST_SPENDS // 4 :]
    nameless = (one.model_copy(update={"endpoint": "", "model": ""}) for one in rest)
    return (*kept, *_joined(nameless, lambda _: ("", "", 0)))


def totals(spends: Iterable[Spend]) -> Json:
    """Tokens and money of them all as rows show them: amounts by currency, and which part of them is an estimate.

    >>> totals([Spend(kind=SpendKind.ANSWER, tokens_in=12, tokens_out=3, cost="0.25")])
    {'tokens': {'in': 12, 'out': 3, 'cached': 0}, 'cost': {'USD': '0.25'}}
    """
    found = tuple(spends)
    tokens = {name: sum(getattr(one, f"tokens_{name}") for one in found) for name in ("in", "out", "cached")}
    told: Json = {"tokens": tokens, "cost": _by_currency(found)}
    if any(one.estimated for one in found):
        told["estimated"] = _by_currency(one for one in found if one.estimated)
    return told


def shown(spend: Spend) -> Json:
    """One entry as pages and programs see it."""
    return spend.model_dump(mode="json", exclude_defaults=True) | {
        "cost": text_of(spend.cost),
        "currency": spend.currency,
    }


def _by_currency(spends: Iterable[Spend]) -> dict[str, str]:
    amounts: dict[str, list[Decimal]] = {}
    for one in spends:
        amounts.setdefault(one.currency, []).append(one.cost)
    return {currency: text_of(total(costs)) for currency, costs in sorted(amounts.items())}


def _joined(spends: Iterable[Spend], apart: Callable[[Spend], tuple[str, str, int]]) -> Spends:
    groups: dict[tuple[object, ...], Spend] = {}
    for one in spends:
        key = (one.kind, one.currency, one.estimated, *apart(one))
        groups[key] = _added(groups[key], one) if key in groups else one
    return tuple(groups.values())


def _added(one: Spend, other: Spend) -> Spend:
    amounts = {name: getattr(one, name) + getattr(other, name) for name in _COUNTS}
    return one.model_copy(update={**amounts, "cost": total((one.cost, other.cost)), "at": max(one.at, other.at)})
