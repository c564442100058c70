"""The gates for Prometheus: read when somebody scrapes, so that no call pays for it.

Labels are names from the settings and members of fixed sets, never tasks, and of tenants those alone that have a
budget: bounded.
"""

from collections.abc import Iterable, Iterator
from itertools import chain

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from callstream.agents.inference.admission.breaker import State
from callstream.agents.inference.admission.decide import Reason
from callstream.agents.inference.admission.gate import Gate
from callstream.agents.inference.admission.gates import Gates
from callstream.agents.inference.admission.report import STANDINGS
from callstream.agents.inference.options import LANES
from callstream.streams.event import Json

_ENDPOINT = ("pool", "endpoint")
_LIMIT = ("account", "limit")
_BUDGET = ("budget", "period")
_GAUGES = {
    "endpoint_in_flight": ("Calls in flight at an endpoint, from this replica.", _ENDPOINT),
    "endpoint_window": ("Calls that may be in flight at an endpoint, as learned by this replica.", _ENDPOINT),
    "endpoint_closed": ("1 while an endpoint has asked to be left alone.", _ENDPOINT),
    "endpoint_breaker": ("1 for the state that an endpoint's breaker is in.", (*_ENDPOINT, "state")),
    "waiting_calls": ("Calls that wait for a pool, in this replica.", ("pool", "lane")),
    "waiting_tokens": ("Tokens that the calls that wait are estimated at.", ("pool", "lane")),
    "waiting_for": ("1 for what the call waits for whose turn is next.", ("pool", "reason")),
    "limit_share": ("What this replica may spend in a limit's window.", _LIMIT),
    "limit_spent": ("What this replica has spent in a limit's window, reservations included.", _LIMIT),
    "budget_spent": ("What this replica's part of a budget has paid, reservations included.", _BUDGET),
    "budget_state": ("1 for how a budget is on this replica: within, warn, slow or stopped.", (*_BUDGET, "state")),
    "budget_waiting": ("Calls that wait on this replica until a budget resets.", _BUDGET),
    "partitions_share": ("The part of all partitions, and so of each limit, that this replica has.", ()),
}


class GatesCollector(Collector):
    """Gauges `callstream_…` of all gates, and how they decided. Scrape it in the thread of their event loop."""

    def __init__(self, gates: Gates) -> None:
        self._gates = gates

    def describe(self) -> Iterable[Metric]:
        """What there is, without its values."""
        name, help = _DECISIONS
        return [*_empty().values(), CounterMetricFamily(f"callstream_{name}", help, labels=("pool", "decision"))]

    def collect(self) -> Iterable[Metric]:
        """The gauges as they are now. O(n) of the calls that wait."""
        gauges = _empty()
        shown = {pool: gate.snapshot() for pool, gate in self._gates.items()}
        found = [_of_limits(shown.values()), _of_budgets(self._gates.budgets_report())]
        for pool, gate in self._gates.items():
            found += _of_endpoints(pool, shown[pool]), _of_waiting(pool, gate, shown[pool])
        for name, labels, value in chain.from_iterable(found):
            gauges[name].add_metric(labels, value)
        return [*gauges.values(), self._decisions()]

    def _decisions(self) -> CounterMetricFamily:
        name, help = _DECISIONS
        counter = CounterMetricFamily(f"callstream_{name}", help, labels=("pool", "decision"))
        for pool, gate in self._gates.items():
            for decision in ("go", "never", *map(str, Reason)):
                counter.add_metric((pool, decision), gate.decided[decision])
        return counter


_DECISIONS = ("decisions", "Decisions on calls: go, never, or what a call whose turn it was had to wait for.")

_Values = Iterator[tuple[str, tuple[str, ...], float]]
"""Name of the gauge, its labels, its value."""


def _empty() -> dict[str, GaugeMetricFamily]:
    return {
        name: GaugeMetricFamily(f"callstream_{name}", help, labels=labels) for name, (help, labels) in _GAUGES.items()
    }


def _of_endpoints(pool: str, shown: Json) -> _Values:
    for one in shown["endpoints"]:
        labels = (pool, one["endpoint"])
        yield "endpoint_in_flight", labels, one["in_flight"]
        yield "endpoint_window", labels, one["window"]
        yield "endpoint_closed", labels, one["closed_seconds"] > 0
        for state in State:
            yield "endpoint_breaker", (*labels, str(state)), one["breaker"] == state


def _of_waiting(pool: str, gate: Gate, shown: Json) -> _Values:
    calls, tokens = dict.fromkeys(LANES, 0), dict.fromkeys(LANES, 0)
    for one in _waiting(gate, shown):
        calls[one["lane"]] += one.get("calls", 1)
        tokens[one["lane"]] += one["tokens"]
    for lane in LANES:
        yield "waiting_calls", (pool, lane), calls[lane]
        yield "waiting_tokens", (pool, lane), tokens[lane]
    for reason in Reason:
        yield "waiting_for", (pool, str(reason)), shown["reason"] == reason


def _waiting(gate: Gate, shown: Json) -> Iterable[Json]:
    """What waits, by lane and tenant where the snapshot names all of them, else call by call, which takes longer."""
    by_tenant: list[Json] = shown["waiting"]
    if sum(one["calls"] for one in by_tenant) == len(gate):
        return by_tenant
    return gate.waiting(len(gate)).values()


def _of_budgets(budgets: Iterable[Json]) -> _Values:
    for one in budgets:
        labels = one["budget"], one["period"]
        yield "budget_spent", labels, float(one["spent"])
        yield "budget_waiting", labels, one["waiting"]
        for state in STANDINGS:
            yield "budget_state", (*labels, state), one["state"] == state


def _of_limits(pools: Iterable[Json]) -> _Values:
    limits: dict[tuple[str, str], Json] = {}
    share = 0.0
    for pool in pools:
        owned, partitions = pool["share"]
        share = owned / partitions
        # Endpoints of one account have its limits in common.
        limits |= {(one["account"], one["limit"]): one for endpoint in pool["endpoints"] for one in endpoint["limits"]}
    for labels, one in limits.items():
        yield "limit_share", labels, one["share"]
        yield "limit_spent", labels, one["spent"]
    yield "partitions_share", (), share
