"""Budgets of tenants and chains on one replica: what their calls may still cost, and who is told to slow down.

A budget's ceiling is a limit like any other, of money: it is cut into as many quotas as there are partitions, a call is
reserved what it may cost before it is sent, and what it cost is settled after. What is waited for is the end of the day
or month, so whoever has used up a budget waits apart, and nobody behind him. The sums of all replicas are never above
the ceiling by more than calls in flight cost above their reservations.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from callstream.agents.inference.admission.allowance import Amount, Limit, Room, Unit
from callstream.agents.inference.admission.calendar import Calendar, end_of
from callstream.agents.inference.admission.purse import Purse
from callstream.agents.inference.admission.report import STANDINGS, budget_words
from callstream.agents.inference.budget_options import MoneyBudget, MoneyLimits
from callstream.agents.inference.call import Call
from callstream.agents.inference.options import InferenceOptions
from callstream.agents.inference.price import Price, prices_of
from callstream.streams.event import Json
from callstream.streams.money import nanos_of, of_nanos, text_of

NO_CEILING = 10**18
WITHIN, WARN, SLOW, STOPPED = STANDINGS
PERIODS: tuple[Calendar, ...] = ("day", "month")


def account_of(kind: str, name: str) -> str:
    """The name that a budget is kept under; no account and no endpoint can be called so."""
    return f"${kind}/{name}"


def budget_limits(options: InferenceOptions) -> dict[str, tuple[Limit, ...]]:
    """The accounts of all budgets."""
    return {
        name: tuple(
            Limit(Unit.MONEY, NO_CEILING if one.ceiling is None else nanos_of(one.ceiling), 0.0, period)
            for period, one in _periods(budget)
        )
        for name, budget in _budgets(options)
    }


def _budgets(options: InferenceOptions) -> Iterator[tuple[str, MoneyBudget]]:
    for kind, named in (("tenant", options.budgets.tenants), ("chain", options.budgets.chains)):
        for name, budget in named.items():
            yield account_of(kind, name), budget


def _periods(budget: MoneyBudget) -> Iterator[tuple[Calendar, MoneyLimits]]:
    for period in PERIODS:
        if (one := getattr(budget, period)) is not None:
            yield period, one


@dataclass(eq=False, slots=True)
class Budgets:
    """Those in force. `wall` gives epoch seconds; `purse` and `options` are changed by whoever builds the gates."""

    purse: Purse
    options: InferenceOptions
    wall: Callable[[], float]
    _names: dict[str, MoneyBudget] = field(default_factory=dict)
    _prices: dict[str, Price] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Those of the settings."""
        self.reconfigured(self.options)

    def reconfigured(self, options: InferenceOptions) -> None:
        """These from now on."""
        self.options = options
        self._names = dict(_budgets(options))
        self._prices = prices_of(options)

    def accounts(self, call: Call) -> tuple[str, ...]:
        """The budgets that a call is paid from."""
        if not self._names:
            return ()
        both = account_of("tenant", call.tenant), account_of("chain", call.chain)
        return tuple(name for name in both if name in self._names)

    def cost(self, endpoint: str, tokens_in: int, tokens_out: int, tokens_cached: int) -> int:
        """What a request to an endpoint costs, in billionths; of one that is gone, nothing."""
        price = self._prices.get(endpoint)
        return 0 if price is None else nanos_of(price.cost(tokens_in, tokens_out, tokens_cached))

    def opens(self, accounts: Iterable[str], money: int, now: float) -> float:
        """When a call that may cost so many billionths may go by its budgets; `math.inf` if that is not known."""
        return self.purse.opens(accounts, Amount(0, 0, money), now)[0]

    def is_slowed(self, accounts: Sequence[str]) -> bool:
        """Whether a call goes behind others, since one of its budgets is nearly used up."""
        if not accounts:
            return False
        self.purse.refresh()
        return any(
            limits.slow_at is not None and _reached(limits.slow_at, room)
            for name in accounts
            for (_, limits), room in self._rooms(name)
        )

    def used_up(self, accounts: Iterable[str], money: int) -> tuple[str, float]:
        """The budget that has the least room for a call that may cost so much, in words, and when it resets (epoch)."""
        now = self.wall()
        found = [
            (
                room.share - room.spent >= money,
                -end_of(period, now),
                budget_words(_shown_name(name), text_of(limits.ceiling), self.options.currency, period),
            )
            for name in accounts
            for (period, limits), room in self._rooms(name)
            if limits.ceiling is not None
        ]
        _, resets, words = min(found, default=(False, -now, "budget"))
        return words, -resets

    def report(self, waiting: Iterable[str]) -> list[Json]:
        """How each of them is on this replica; `waiting` are the accounts of the calls that wait for one."""
        self.purse.refresh()
        behind: dict[str, int] = {}
        for name in waiting:
            behind[name] = behind.get(name, 0) + 1
        now = self.wall()
        told: list[Json] = []
        for name in self._names:
            rooms = list(self._rooms(name))
            # What is waited for is the ceiling that has the least left.
            least = min((room.share - room.spent for (_, one), room in rooms if one.ceiling is not None), default=0)
            for (period, limits), room in rooms:
                waits = behind.get(name, 0) if room.share - room.spent == least else 0
                also = {"currency": self.options.currency, "resets": end_of(period, now)}
                told.append(_shown(name, period, limits, room, waits) | also)
        return told

    def _rooms(self, name: str) -> Iterator[tuple[tuple[Calendar, MoneyLimits], Room]]:
        return zip(_periods(self._names[name]), self.purse.rooms(name), strict=True)


def _reached(threshold: Decimal, room: Room) -> bool:
    """Whether this replica has spent its part of an amount."""
    return room.share > 0 and room.spent * room.limit.most >= nanos_of(threshold) * room.share


def _standing(limits: MoneyLimits, room: Room, waiting: bool) -> str:
    if waiting or (limits.ceiling is not None and _reached(limits.ceiling, room)):
        return STOPPED
    if limits.slow_at is not None and _reached(limits.slow_at, room):
        return SLOW
    return WARN if limits.warn_at is not None and _reached(limits.warn_at, room) else WITHIN


def _shown_name(account: str) -> str:
    """As people read it.

    >>> _shown_name(account_of("tenant", "acme"))
    'tenant acme'
    """
    return account.removeprefix("$").replace("/", " ", 1)


def _shown(name: str, period: Calendar, limits: MoneyLimits, room: Room, waiting: int) -> Json:
    has_ceiling = limits.ceiling is not None
    thresholds = {at: None if (one := getattr(limits, at)) is None else text_of(one) for at in THRESHOLDS}
    return {
        "budget": _shown_name(name),
        "period": period,
        "state": _standing(limits, room, waiting > 0 and has_ceiling),
        "spent": text_of(of_nanos(max(0, room.spent))),
        "share": text_of(of_nanos(room.share)) if has_ceiling else None,
        "waiting": waiting if has_ceiling else 0,
        **thresholds,
    }


THRESHOLDS = ("warn_at", "slow_at", "ceiling")
