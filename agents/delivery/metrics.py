"""Counting what goes into stores for Prometheus. The label is a sink of the settings or a class of sinks: bounded."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol
from weakref import WeakSet

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from callstream.agents.delivery.sink import Refused

WRITES = "callstream_sink_writes"
SECONDS = "callstream_sink_write_seconds"
AWAY = "callstream_sink_away"

WRITTEN = "written"
REFUSED = "refused"
FAILED = "failed"
BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Watched(Protocol):
    """What is asked whether it is away."""

    def away(self) -> str | None:
        """Why nothing is written at present."""


class SinkMetrics:
    """The metrics of all stores of a worker. One for each registry: a name can be registered once."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._lanes: dict[str, WeakSet[Watched]] = {}
        self._writes = Counter(WRITES, "Writes that a store was asked for.", ("sink", "result"), registry=registry)
        self._seconds = Histogram(
            SECONDS, "Seconds of a batch, however it ended.", ("sink",), buckets=BUCKETS, registry=registry
        )
        self._away = Gauge(AWAY, "Whether writes wait for a store that is away.", ("sink",), registry=registry)

    def watch(self, sink: str, lane: Watched) -> None:
        """Ask that lane whenever the metrics are read; of several with one label, each."""
        lanes = self._lanes.setdefault(sink, WeakSet())
        lanes.add(lane)
        self._away.labels(sink).set_function(lambda: float(any(one.away() is not None for one in lanes)))

    @contextmanager
    def timed(self, sink: str) -> Iterator[None]:
        """Measure one batch."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._seconds.labels(sink).observe(time.perf_counter() - began)

    def wrote(self, sink: str, results: Sequence[Exception | None]) -> None:
        """Count what came of each write of a batch."""
        for result in results:
            told = WRITTEN if result is None else REFUSED if isinstance(result, Refused) else FAILED
            self._writes.labels(sink, told).inc()
