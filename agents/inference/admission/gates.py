"""All gates of one replica: the pools of the settings, what their accounts may spend, and what their endpoints bear."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from callstream.agents.inference.admission.allowance import DAY_SECONDS, MINUTE_SECONDS, Limit, Unit
from callstream.agents.inference.admission.breaker import Breaker
from callstream.agents.inference.admission.budgets import Budgets, budget_limits
from callstream.agents.inference.admission.desk import Desk, own_account
from callstream.agents.inference.admission.fairness import FairQueue
from callstream.agents.inference.admission.gate import SEND_SPARE_SECONDS, Fittings, Gate
from callstream.agents.inference.admission.purse import NoRows, Purse, SpendingRows
from callstream.agents.inference.admission.report import MOST_CALLS
from callstream.agents.inference.admission.tokens import Estimator
from callstream.agents.inference.admission.window import ConcurrencyWindow
from callstream.agents.inference.call import Call
from callstream.agents.inference.options import EndpointOptions, InferenceOptions, LimitOptions, PoolOptions
from callstream.streams.event import Json

Clock = Callable[[], float]

QUANTUM_TOKENS = 10
"""Of each round, for a tenant of weight 1: less than any call takes, so that nobody sends several in a row while others
wait, and who comes new waits for one call of each. Rounds are reckoned, not walked through: short ones cost nothing."""

LIMITS = {
    "requests_per_minute": (Unit.REQUESTS, MINUTE_SECONDS),
    "tokens_per_minute": (Unit.TOKENS, MINUTE_SECONDS),
    "tokens_in_per_minute": (Unit.TOKENS_IN, MINUTE_SECONDS),
    "tokens_out_per_minute": (Unit.TOKENS_OUT, MINUTE_SECONDS),
    "requests_per_day": (Unit.REQUESTS, DAY_SECONDS),
    "tokens_per_day": (Unit.TOKENS, DAY_SECONDS),
}


def limits_of(options: LimitOptions) -> tuple[Limit, ...]:
    """The limits that are set."""
    return tuple(
        Limit(unit, most, seconds)
        for name, (unit, seconds) in LIMITS.items()
        if (most := getattr(options, name)) is not None
    )


class Gates(Mapping[str, Gate]):
    """Gates by pool. `clocks` are a monotonic one and one of epoch seconds."""

    def __init__(self, options: InferenceOptions, clocks: tuple[Clock, Clock]) -> None:
        self._options = options
        self._clocks = clocks
        self._gates: dict[str, Gate] = {}
        self._desks: dict[str, Desk] = {}
        self._purse = self._new_purse(NoRows(), 1)
        self.budgets = Budgets(self._purse, options, clocks[1])
        self.pools: dict[str, PoolOptions] = {}
        self.paused: Callable[[str], bool] = lambda _pool: False
        self._build()

    def __getitem__(self, pool: str) -> Gate:
        """The gate of a pool. Raises KeyError."""
        return self._gates[pool]

    def __iter__(self) -> Iterator[str]:
        """Names of pools."""
        return iter(self._gates)

    def __len__(self) -> int:
        """How many pools there are."""
        return len(self._gates)

    @property
    def looks(self) -> int:
        """Grows while calls wait for a reason that is known."""
        return sum(gate.looks for gate in self._gates.values())

    def share(self, rows: SpendingRows, partitions: int) -> None:
        """Spend what these rows' partitions allow. Called before the first call."""
        self._purse = self.budgets.purse = self._new_purse(rows, partitions)
        self._gates.clear()
        self._build()

    def reconfigured(self, options: InferenceOptions) -> None:
        """Other pools, limits, weights. Endpoints that stay keep what was learned of them."""
        self._options = options
        self._purse.set_accounts(self._accounts())
        self.budgets.reconfigured(options)
        self._build()

    def report(self) -> Json:
        """What every gate has, why the first calls wait and where those in flight are (`report.Reports` reads it)."""
        calls: dict[str, Json] = {}
        calling: dict[str, Json] = {}
        for gate in self._gates.values():
            calls |= gate.waiting(MOST_CALLS - len(calls))
            calling |= gate.calling(MOST_CALLS - len(calling))
        pools = [gate.snapshot() for gate in self._gates.values()]
        return {"pools": pools, "calls": calls, "calling": calling, "budgets": self.budgets_report()}

    def budgets_report(self) -> list[Json]:
        """How each budget is here."""
        return self.budgets.report(name for gate in self._gates.values() for name in gate.accounts_waited_for())

    def tasks(self) -> Counter[tuple[str, str]]:
        """How many calls of each task wait, by tenant and id."""
        return Counter(owner for gate in self._gates.values() for owner in gate.owners())

    @property
    def resting(self) -> bool:
        """Whether calls wait because their pool is paused."""
        return any(len(gate) and gate.paused() for gate in self._gates.values())

    def turn_out(self, is_outdated: Callable[[Call], bool]) -> None:
        """Have calls go that wait where they should not any more: what waits for them asks where to go."""
        for gate in list(self._gates.values()):
            gate.turn_out(is_outdated)

    def pump(self) -> None:
        """Look again: what is owned has changed."""
        for gate in self._gates.values():
            gate.pump()

    async def close(self) -> None:
        """Stop writing."""
        await self._purse.close()

    def _is_paused(self, pool: str) -> bool:
        return self.paused(pool)

    def _new_purse(self, rows: SpendingRows, partitions: int) -> Purse:
        return Purse(self._accounts(), partitions, self._options.window_margin_seconds, rows, self._clocks)

    def _accounts(self) -> dict[str, tuple[Limit, ...]]:
        own = {own_account(one.name): limits_of(one.limits) for one in self._options.endpoints().values()}
        shared = {name: limits_of(limits) for name, limits in self._options.accounts.items()}
        return own | shared | budget_limits(self._options)

    def _build(self) -> None:
        options = self._options
        self._desks = {name: self._desk(one) for name, one in options.endpoints().items()}
        for name, pool in options.pools.items():
            desks = [self._desks[one.name] for one in pool.endpoints]
            gate = self._gates.get(name)
            if gate is None:
                gate = self._gates[name] = Gate(name, desks, self._fittings(pool))
                gate.paused = partial(self._is_paused, name)
            else:
                gate.reconfigured(desks, options.window_margin_seconds - SEND_SPARE_SECONDS)
        for name in set(self._gates) - set(options.pools):
            self._gates.pop(name).close()
        self.pools.clear()
        self.pools.update(options.pools)

    def _fittings(self, pool: PoolOptions) -> Fittings:
        options = self._options
        lanes = {str(lane): weight for lane, weight in options.lanes.items()}

        def queue() -> FairQueue:
            return FairQueue(lanes, lambda tenant: self._options.tenants.get(tenant, 1), QUANTUM_TOKENS)

        longest = Estimator(max(one.max_answer_tokens for one in pool.endpoints))
        good_for = options.window_margin_seconds - SEND_SPARE_SECONDS
        return Fittings(self._purse, queue, longest, *self._clocks, good_for, self.budgets)

    def _desk(self, one: EndpointOptions) -> Desk:
        kept = self._desks.get(one.name)
        if kept is None:
            return Desk(
                one,
                ConcurrencyWindow(one.least_concurrency, one.concurrency, one.start_concurrency),
                Breaker(),
                self._clocks[0],
            )
        kept.options = one
        kept.window.set_bounds(one.least_concurrency, one.concurrency)
        return kept
