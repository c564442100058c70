"""What may be sent a second time, by endpoint: a share of what was sent to it a first time.

A retry is paid for by the endpoint that failed. Where that has nothing left, another endpoint of the pool pays, one
that has not failed this call, and those with nothing left do not get it: it fails over. Where none can pay, the call
goes back to its step, which waits and holds no connection meanwhile.
"""

from collections import Counter as Counts
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter

from callstream.agents.inference.options import PoolOptions
from callstream.streams.retry_budget import BudgetOptions, Budgets

RETRIES = "callstream_model_retries"
AGAIN, ELSEWHERE, NO_BUDGET, GIVEN_UP = "again", "elsewhere", "no-budget", "given-up"


@dataclass(frozen=True, slots=True)
class Charge:
    """A retry that is paid for, by which endpoint ("" where nobody keeps count), and who must not get it."""

    endpoint: str
    avoid: frozenset[str] = frozenset()


class EndpointBudgets:
    """The budgets of all endpoints, in one process. `clock` gives seconds; `pools` are those in force.

    Counts what becomes of failed requests. Labels are names from the settings: bounded. `refused` counts those that no
    budget paid for, by pool and endpoint.
    """

    def __init__(
        self,
        options: BudgetOptions,
        pools: Mapping[str, PoolOptions],
        clock: Callable[[], float],
        registry: CollectorRegistry,
    ) -> None:
        self._budgets = Budgets(lambda: options)
        self._pools = pools
        self._clock = clock
        self.refused: Counts[tuple[str, str]] = Counts()
        labels = ("pool", "endpoint", "decision")
        self._counter = Counter(RETRIES, "Requests that failed, by what followed.", labels, registry=registry)

    def answered(self, endpoint: str, charge: Charge | None) -> None:
        """A request succeeded: a first one is counted, and a retry gives back what it took."""
        if charge is None:
            self.sent(endpoint)
        elif charge.endpoint:
            self._budgets[charge.endpoint].give_back(self._clock())

    def sent(self, endpoint: str) -> None:
        """A first request came back from an endpoint, or from none ("")."""
        if endpoint:
            self._budgets[endpoint].call(self._clock())

    def charge(self, pool: str, failed: str, tried: frozenset[str]) -> Charge | None:
        """Pay for a retry after `failed` has failed ("": it is not known which); None if nobody can."""
        options, now = self._pools.get(pool), self._clock()
        if options is None:
            return Charge("")
        if failed and self._budgets[failed].take(now):
            self.count(pool, failed, AGAIN)
            return Charge(failed)
        names = [one.name for one in sorted(options.endpoints, key=lambda one: -one.weight)]
        rich = [name for name in names if name not in tried | {failed} and self._budgets[name].left(now) >= 1]
        if not rich or not self._budgets[rich[0]].take(now):
            self.count(pool, failed, NO_BUDGET)
            return None
        self.count(pool, failed, ELSEWHERE)
        return Charge(rich[0], frozenset(names) - frozenset(rich))

    def count(self, pool: str, failed: str, decision: str) -> None:
        """Count what follows a failure."""
        known = pool if pool in self._pools else ""
        self._counter.labels(known, failed, decision).inc()
        if decision == NO_BUDGET:
            self.refused[known, failed] += 1
