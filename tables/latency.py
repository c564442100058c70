"""Latency by step and model, in windows of one minute, ten minutes and one hour.

A window holds a mergeable quantile sketch (DDSketch, 2 % relative accuracy), not averages: the sketches of all
partitions merge into the true quantiles of the whole. A window is a plain row keyed by its start, so that it can be
swept when it has expired, also after a recovery.
"""

import base64
import math
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ddsketch import DDSketch
from ddsketch.pb import ddsketch_pb2, proto

from callstream.streams.event import Hop, Json

_PROTO: Any = proto.DDSketchProto
ACCURACY = 0.02
SIZES = {60: 3_600, 600: 6 * 3_600, 3_600: 48 * 3_600}
"""Window sizes and how long each is kept after its end, in seconds."""

CLOCKS_APART_SECONDS = 60.0
"""What ends later than that was said by a wrong clock; its windows would stay for as long as the clock is wrong."""


@dataclass(frozen=True, slots=True)
class WindowKey:
    """Which window: its size and start (epoch seconds, a multiple of the size), its step and model ("" without one)."""

    size: int
    start: int
    step: str
    model: str

    def encode(self) -> bytes:
        """Its key in the table."""
        return f"{self.size:05d}|{self.start:012d}|{self.step}|{self.model}".encode()

    def expired(self, now: float) -> bool:
        """Whether it is past what is kept."""
        return self.start + self.size + SIZES[self.size] < now


@dataclass(slots=True)
class Window:
    """Seconds that a step took, over one window: how many, how many of them failed, and their distribution."""

    count: int = 0
    errors: int = 0
    sketch: DDSketch = field(default_factory=lambda: DDSketch(ACCURACY))

    def add(self, seconds: float, failed: bool) -> None:
        """Count one hop."""
        self.count += 1
        self.errors += failed
        self.sketch.add(max(seconds, 1e-6))

    def merge(self, other: "Window") -> None:
        """Take in another partition's part of the same window."""
        self.count += other.count
        self.errors += other.errors
        self.sketch.merge(other.sketch)

    def quantile(self, share: float) -> float:
        """Seconds within which that share of the hops was done; 0 for an empty window."""
        value = self.sketch.get_quantile_value(share)
        return 0.0 if value is None or math.isnan(value) else float(value)

    def to_row(self) -> Json:
        """The window as a row of the table."""
        packed = zlib.compress(_PROTO.to_proto(self.sketch).SerializeToString(), 1)
        return {"count": self.count, "errors": self.errors, "sketch": base64.b64encode(packed).decode()}

    @classmethod
    def from_row(cls, row: Json) -> "Window":
        """The window of a row that `to_row` made."""
        packed = zlib.decompress(base64.b64decode(row["sketch"]))
        sketch = _PROTO.from_proto(ddsketch_pb2.DDSketch.FromString(packed))
        return cls(row["count"], row["errors"], sketch)


def decode_key(raw: bytes) -> WindowKey:
    """The window key that `WindowKey.encode` wrote."""
    size, start, step, model = raw.decode().split("|", 3)
    return WindowKey(int(size), int(start), step, model)


def windows_of(hop: Hop, now: float) -> Iterator[WindowKey]:
    """The windows that a hop belongs to by the time it ended, without those that have expired or lie ahead.

    What undid a step belongs to none: it would be taken for the step.
    """
    if hop.undo:
        return
    model = hop.usage.model if hop.usage is not None else ""
    for size in SIZES:
        key = WindowKey(size, int(hop.ended // size) * size, hop.step, model)
        if not key.expired(now) and key.start <= now + CLOCKS_APART_SECONDS:
            yield key


def merged(rows: Iterable[tuple[bytes, Json]]) -> dict[WindowKey, Window]:
    """The windows of several partitions as one."""
    whole: dict[WindowKey, Window] = {}
    for raw, row in rows:
        key = decode_key(raw)
        whole.setdefault(key, Window()).merge(Window.from_row(row))
    return whole
