"""Clients that wait or stream: how many there may be, and how they are told that the gateway stops."""

from collections.abc import Iterator
from contextlib import contextmanager

from callstream.web.hub import Bounds, Hub, Listener
from callstream.web.metrics import Metrics
from callstream.web.options import WebOptions
from callstream.web.port import Unavailable


class Streams:
    """The listeners of all clients of this gateway."""

    def __init__(self, hub: Hub, options: WebOptions, metrics: Metrics) -> None:
        self._hub = hub
        self._most = options.max_streams
        self._bounds = Bounds(options.queue_messages, options.queue_bytes)
        self._metrics = metrics
        self._open: set[Listener] = set()
        self._stopping = False

    @property
    def position(self) -> str:
        """The cursor of the latest update."""
        return self._hub.position

    @contextmanager
    def listen(self, kind: str) -> Iterator[Listener]:
        """A listener for one client of that kind (wait, sse or websocket). Raises Unavailable if all are taken."""
        if self._stopping:
            raise Unavailable("this gateway is stopping")
        if len(self._open) >= self._most:
            raise Unavailable(f"{self._most:,} clients wait or stream already", retry_after_seconds=5)
        listener = self._hub.listener(self._bounds)
        self._open.add(listener)
        self._metrics.streams.labels(kind).inc()
        try:
            yield listener
        finally:
            self._metrics.streams.labels(kind).dec()
            self._open.discard(listener)
            listener.close()

    def stop(self) -> None:
        """Wake every client with `Closed`, and take no more."""
        self._stopping = True
        for listener in tuple(self._open):
            listener.stop()
