"""What followed the failures of steps, for Prometheus: read when somebody scrapes.

Labels are services, the seven classes and what may be decided, never tenants: bounded.
"""

from collections.abc import Iterable, Mapping

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from callstream.agents.actor import Actor

RETRIES = "callstream_step_retries"


class RetryCollector(Collector):
    """The counter `callstream_step_retries` of all services of a process."""

    def __init__(self, actors: Mapping[str, Actor]) -> None:
        self._actors = actors

    def describe(self) -> Iterable[Metric]:
        """The counter without values."""
        return [_empty()]

    def collect(self) -> Iterable[Metric]:
        """The counter as it is now."""
        counter = _empty()
        for service, actor in self._actors.items():
            for (error_class, decision), count in sorted(actor.trying.decisions.items()):
                counter.add_metric((service, error_class, decision), count)
        return [counter]


def _empty() -> CounterMetricFamily:
    labels = ("service", "class", "decision")
    return CounterMetricFamily(RETRIES, "Attempts of steps that failed, by what followed.", labels=labels)
