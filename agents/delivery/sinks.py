"""All stores of one worker, by name: each has one lane, whichever steps write there."""

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry

from callstream.agents.delivery.catalogue_sink import CatalogueSink
from callstream.agents.delivery.http_sink import HttpSink
from callstream.agents.delivery.lane import Lane
from callstream.agents.delivery.metrics import SinkMetrics
from callstream.agents.delivery.object_sink import ObjectSink
from callstream.agents.delivery.sink import Sink
from callstream.agents.delivery.sink_options import SinkOptions
from callstream.agents.delivery.topic_sink import TopicSink
from callstream.agents.inference.admission.report import MOST_CALLS
from callstream.streams.event import Json
from callstream.streams.foreseen import Foreseen

OF_SETTINGS = "sink "
"""Before the name of a sink of the settings, where people read it."""
AT_ONCE = 8
"""Writes of a batch that a store without transactions is sent side by side: each may take its time-out."""
SPARE_SECONDS = 5.0
"""Beyond a store's own time-out, for what it does between its answers."""


class UnknownSink(Foreseen, LookupError):
    """No sink of that name is set; the message says which are."""


class SinkUnusable(Foreseen, RuntimeError):
    """Why a sink cannot be used by this worker, and what to do."""


class Sinks:
    """Makes a sink when its first step asks for it; nothing is connected before something is written."""

    def __init__(
        self, options: Mapping[str, SinkOptions] | None = None, registry: CollectorRegistry | None = None
    ) -> None:
        self._options = dict(options or {})
        self._metrics = SinkMetrics(registry or CollectorRegistry())
        self._lanes: dict[str, Lane] = {}

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """Those that steps have asked for."""
        return tuple(self._lanes.values())

    @property
    def resting(self) -> bool:
        """Whether a store is away, and writes wait for it."""
        return any(lane.away() is not None for lane in self._lanes.values())

    def report(self) -> Json:
        """Which tasks wait for stores that are away, as a gateway reads it; one of pools that names no pool."""
        calls: dict[str, Json] = {}
        for lane in self._lanes.values():
            calls |= lane.waiting(MOST_CALLS - len(calls))
        return {"sinks": True, "pools": [], "calls": calls}

    def get(self, name: str) -> Lane | TopicSink:
        """The way to a sink of the settings. Raises UnknownSink, SinkUnusable, UnusableSecret."""
        options = self._options.get(name)
        if options is None:
            known = ", ".join(sorted(self._options)) or "none"
            raise UnknownSink(f"no sink is called {name!r}; set [sinks.{name}]. There are: {known}")
        if options.topic is not None:
            return TopicSink(options.topic)
        rounds = max(1.0, options.most_in_batch / AT_ONCE)
        timeout = options.timeout_seconds * rounds + SPARE_SECONDS
        return self.shared(f"{OF_SETTINGS}{name}", lambda: make_sink(name, options), options.most_in_batch, timeout)

    def lane(self, sink: Sink) -> Lane:
        """The way to a sink that a step brings itself."""
        return self.shared(f"{type(sink).__name__} {id(sink)}", lambda: sink)

    def shared(self, name: str, make: Callable[[], Sink], most: int = 64, timeout_seconds: float = 30.0) -> Lane:
        """The one lane of that name, made where there is none yet."""
        if name not in self._lanes:
            # What a step brings is named by its place in memory, too: no label may be.
            label = name.removeprefix(OF_SETTINGS).partition(" ")[0]
            self._lanes[name] = Lane(name, make(), most, timeout_seconds, metrics=self._metrics, label=label)
        return self._lanes[name]

    async def close(self) -> None:
        """Write what waits, and close every store."""
        for lane in self._lanes.values():
            await lane.close()
        self._lanes.clear()


def make_sink(name: str, options: SinkOptions) -> Sink:
    """The sink that the settings describe; a topic is none. Raises SinkUnusable, UnusableSecret."""
    secret, url, seconds = options.secret(name), options.url or "", options.timeout_seconds
    match options.kind:
        case "sql":
            return CatalogueSink.at(options.database(secret))
        case "http":
            return HttpSink(url, secret, seconds, AT_ONCE)
        case "object-store":
            return ObjectSink(url, seconds, AT_ONCE)
        case "redis":
            return _redis(name, options, secret)
    raise SinkUnusable(f"sink {name} is of kind {options.kind!r}, which is no store")


def _redis(name: str, options: SinkOptions, password: str | None) -> Sink:
    try:
        # Read here: who has no such sink need not have the library.
        from callstream.agents.delivery.redis_sink import RedisSink
    except ModuleNotFoundError:
        raise SinkUnusable(f"sink {name} needs redis: pip install 'callstream[redis]'") from None
    return RedisSink(options.url or "", password, options.prefix, options.timeout_seconds)
