"""How many calls one replica may have in flight at one endpoint: learned from answers and refusals.

Pure: `now` is seconds of a monotonic clock. The words:

- *growing*: the limit rises by `step` places a round trip, paid out answer by answer, so that a refusal stops it after
  a call or two. At the start it doubles (slow start); after a probe that held, the step is 2, then 4, 8 ...
- *holding*: the last growth was refused; what was in flight then is kept.
- *probing*: one place more is tried, now and then: rarely while that is refused. It has held once a call that
  started with all places taken was answered and none was refused.
- a *refused* call takes its place along, so the limit settles on what the endpoint did take. Refusals of calls that
  were sent before the latest cut are one burst: together they halve at most what was proven. Refusals that go on for a
  round trip, while no newer call is answered, cut it by 0.7.
- a server that *queues* shows by its latency: above twice its floor the limit does not grow, and the growth that is
  under way is taken back, at most by half. Never more than that, because calls may be slow for other reasons.

Ideas of others: no growth while the load does not use the limit, and a cut by a ratio (AIMDLimit of Netflix's
concurrency-limits); latency against its long-term floor, with a tolerance (Gradient2Limit), the floor measured anew
when fewer are in flight (VegasLimit's probe); growth only by successes since the last refusal (the AIMD controller of
llm-d's batch gateway). Those three cut deeply at every refusal and climb back into the next one; this one remembers.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

DEFAULT_START = 8
FIRST_BURST = 64
"""No more are sent before anything was learned, even if all are refused."""
PROBE_SECONDS = (1.0, 2.0, 3.0)
PROBE_ANSWERS = (16, 32, 64, 96)
"""Both pass between probes, after one failed probe, two, ...: by time alone a slow endpoint were asked too much."""
FORGIVEN_ANSWERS = 100
"""A refusal after so many answers, with no more in flight than before, is a stray one."""
CUT = 0.7
OVERLOAD = 0.35
"""Too much load has most calls refused until there is less: a smaller share of SHARE_CALLS is not about load."""
SHARE_CALLS = 16
TOLERANCE = 2.0
QUEUE_GROUPS = 2
"""So many groups of answers in a row beyond TOLERANCE: the growth under way has filled a queue."""
FORGET_SECONDS = 1800.0
"""The floor of latency doubles in that time if nothing confirms it."""
GROUP = 16
DEFAULT_TRIP_SECONDS = 1.0
TINY_SECONDS = 1e-6


class Phase(StrEnum):
    """What the window does about its limit."""

    GROWING = "growing"
    HOLDING = "holding"
    PROBING = "probing"


@dataclass(frozen=True, slots=True)
class WindowSnapshot:
    """The window at one moment. `proven` is the most in flight that held; `trip_seconds` the usual latency."""

    limit: int
    in_flight: int
    least: int
    most: int
    phase: Phase
    proven: int
    trip_seconds: float
    slow: bool


class _Latency:
    """`slow` groups of answers in a row took much longer than at best. Means of logarithms heed the odd one little."""

    def __init__(self) -> None:
        self.trip = DEFAULT_TRIP_SECONDS
        self.slow = 0
        self._floor, self._floor_level, self._floor_at = math.inf, 0, 0.0
        self._sum, self._count, self._level = 0.0, 0, 0

    def add(self, now: float, seconds: float, level: int) -> None:
        """An answer, and how many were in flight with it."""
        self.trip += (seconds - self.trip) / 8
        self._sum += math.log(max(seconds, TINY_SECONDS))
        self._count += 1
        self._level = max(self._level, level)
        if self._count < GROUP:
            return
        mean = math.exp(self._sum / self._count)
        self._floor *= 2 ** min(10.0, max(0.0, now - self._floor_at) / FORGET_SECONDS)
        self._floor_at = now
        # Slow with so few in flight: that is not our queue, it is how long calls take now.
        if mean < self._floor or self._level <= max(1, self._floor_level // 2):
            self._floor, self._floor_level = mean, self._level
        self.slow = self.slow + 1 if mean > TOLERANCE * self._floor else 0
        self._sum, self._count, self._level = 0.0, 0, 0


class ConcurrencyWindow:
    """The learned limit. The caller keeps `in_flight` at most `limit` and reports the end of every call once.

    Limits are in calls, from `least` to `most`. Learning begins at `start`, at most FIRST_BURST. Raises ValueError for
    bounds that are no bounds.
    """

    def __init__(self, least: int = 1, most: int = 256, start: int | None = None) -> None:
        self._least, self._most = _bounds(least, most)
        self._limit = self._within(min(FIRST_BURST, DEFAULT_START if start is None else start))
        self._in_flight = 0
        self._latency = _Latency()
        self._phase = Phase.GROWING
        self._step, self._credit, self._grown_from = math.inf, 0.0, self._limit
        self._proven, self._anchor, self._refused_share = 0, 0, 0.0
        self._began: dict[int, float] = {}
        self._full: tuple[float, int] | None = None
        self._probe_at, self._failed_probes, self._answers = 0.0, 0, 0
        self._trouble: float | None = None
        self._cut_at, self._cut_floor, self._held = -math.inf, 1, 0

    @property
    def limit(self) -> int:
        """Calls that may be in flight at once."""
        return self._limit

    @property
    def in_flight(self) -> int:
        """Calls that were started and have not ended."""
        return self._in_flight

    def set_bounds(self, least: int, most: int) -> None:
        """Other bounds from now on. Raises ValueError for bounds that are no bounds; the old ones then stay."""
        self._least, self._most = _bounds(least, most)
        self._limit = self._within(self._limit)
        self._proven = min(self._proven, self._limit)
        self._full = None

    def started(self, now: float) -> None:
        """A call was sent. `in_flight` right after this is what `overloaded` wants to be told of it."""
        self._in_flight += 1
        if self._in_flight <= self._most:
            self._began[self._in_flight] = now
        if self._full is None and self._in_flight >= self._limit:
            self._full = (now, self._in_flight)

    def answered(self, now: float, seconds: float) -> None:
        """A call was answered after so many seconds; where that is no length of time, only its place is given back."""
        level = self._in_flight
        self._end()
        if not (math.isfinite(seconds) and seconds >= 0):
            return
        self._answers += 1
        self._refused_share -= self._refused_share / SHARE_CALLS
        self._latency.add(now, seconds, level)
        began = now - seconds
        if self._trouble is not None and began > self._trouble:
            self._trouble = None
        if self._full is not None and began >= self._full[0]:
            self._confirm(self._full[1])
        if self._latency.slow >= QUEUE_GROUPS and self._phase is Phase.GROWING:
            self._hold(now)
            self._limit = self._within(min(self._limit, max(self._limit // 2, self._grown_from)))
            self._proven = self._anchor = min(self._proven, self._limit)
        # An eighth may be missing: the next calls may just be on their way.
        if level * 8 >= self._limit * 7 and began > self._cut_at and not self._latency.slow:
            self._grow(now)

    def overloaded(self, now: float, in_flight_at_start: int | None = None) -> None:
        """A call was refused (429 for concurrency, 503) or timed out; `in_flight_at_start` includes itself."""
        place = max(1, self._in_flight if in_flight_at_start is None else in_flight_at_start)
        answers, self._answers = self._answers, 0
        self._refused_share += (1 - self._refused_share) / SHARE_CALLS
        self._end()
        self._full = None
        # The last call that started as the so-many-th is taken for this one.
        if self._began.get(place, now) <= self._cut_at:
            self._held = min(self._held, place - 1)
            self._cut(self._limit - 1)
            return
        self._cut_at, self._cut_floor, self._held = now, min(self._proven, self._limit // 2), place - 1
        if self._trouble is None:
            self._trouble = now
            if place <= self._proven and answers >= FORGIVEN_ANSWERS:
                return
            self._failed_probes = max(1, self._failed_probes + (self._phase is Phase.PROBING))
        self._hold(now)
        if now - self._trouble >= self._latency.trip:
            self._trouble, self._held = now, 0
            self._cut(int(self._limit * CUT))
        else:
            self._cut(self._limit - 1)

    def abandoned(self) -> None:
        """A call ended without telling anything of the endpoint."""
        self._end()

    def snapshot(self) -> WindowSnapshot:
        """What is known, for the console and for tests."""
        known = (self._phase, self._proven, self._latency.trip, self._latency.slow > 0)
        return WindowSnapshot(self._limit, self._in_flight, self._least, self._most, *known)

    def _within(self, limit: int) -> int:
        return max(self._least, min(self._most, limit))

    def _end(self) -> None:
        self._in_flight = max(0, self._in_flight - 1)

    def _hold(self, now: float) -> None:
        self._probe_at = now + _of(PROBE_SECONDS, self._failed_probes)
        self._phase, self._credit = Phase.HOLDING, 0.0

    def _cut(self, limit: int) -> None:
        """Down to `limit`, but not below half of what was proven before the burst, nor below what was seen to hold."""
        overload = self._refused_share >= OVERLOAD
        kept = 0 if overload else math.ceil(self._anchor * CUT)
        self._limit = self._within(min(self._limit, max(limit, self._held, self._cut_floor, kept)))
        if overload:
            self._anchor, self._failed_probes = self._limit, min(1, self._failed_probes)
        self._proven = min(self._proven, self._limit)

    def _confirm(self, level: int) -> None:
        """A round trip with so many in flight went by, and none was refused."""
        self._full = None
        self._proven = max(self._proven, min(level, self._limit))
        self._anchor = max(self._anchor, self._proven)
        if self._phase is Phase.GROWING:
            self._step *= 2
        elif self._phase is Phase.PROBING:
            self._phase, self._step = Phase.GROWING, 2.0
            self._failed_probes = 0

    def _grow(self, now: float) -> None:
        """An answer that came while the limit was in use."""
        if self._phase is Phase.GROWING:
            whole, self._credit = divmod(self._credit + min(1.0, self._step / self._limit), 1.0)
            self._limit = self._within(self._limit + int(whole))
        elif self._phase is Phase.HOLDING and self._limit < self._most and self._may_probe(now):
            self._grown_from = self._limit
            self._limit += 1
            self._phase, self._full = Phase.PROBING, None

    def _may_probe(self, now: float) -> bool:
        return now >= self._probe_at and self._answers >= _of(PROBE_ANSWERS, self._failed_probes)


def _bounds(least: int, most: int) -> tuple[int, int]:
    if not 1 <= least <= most:
        raise ValueError(f"calls in flight must be from 1 up, least ({least}) not over most ({most})")
    return least, most


def _of(pauses: tuple[float, ...], failed: int) -> float:
    return pauses[min(max(0, failed - 1), len(pauses) - 1)]
