"""Open alarms for Prometheus. Labels are names of rules and kinds: bounded."""

from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from callstream.agents.alarms.board import Board

OPEN = "callstream_alarms_open"


class AlarmCollector(Collector):
    """The gauge `callstream_alarms_open`: every gateway tells of all, so take the largest and not the sum."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def describe(self) -> Iterable[Metric]:
        """The gauge without values."""
        return [_empty()]

    def collect(self) -> Iterable[Metric]:
        """The gauge as it is now."""
        gauge = _empty()
        for (rule, kind), count in sorted(self._board.counts().items()):
            gauge.add_metric((rule, kind), count)
        return [gauge]


def _empty() -> GaugeMetricFamily:
    return GaugeMetricFamily(OPEN, "Incidents that are open, by rule.", labels=("rule", "kind"))
