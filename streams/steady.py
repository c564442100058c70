"""A clock that a step of the wall clock does not move: for what is to happen at a time, not before and not twice.

It is set by the wall clock once. From then on it goes by the monotonic clock and follows the wall clock by at most
`SLEW`, which is what time daemons allow themselves: 1.8 s an hour. A clock that drifts is followed; one that was set
an hour ahead moves nothing noticeably, and one that was set right is caught up with only slowly, or by a restart.
"""

from dataclasses import dataclass

SLEW = 0.0005
"""Seconds a second."""
JUMP_SECONDS = 1.0
"""Between two readings the wall clock differs from the monotonic one by less, unless somebody has set it."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The time, epoch seconds, and by how much the wall clock was set since the last reading: 0 if it was not."""

    now: float
    jump: float = 0.0


class SteadyClock:
    """Pure: it is told what the wall clock (epoch seconds) and the monotonic clock (seconds) show."""

    def __init__(self, wall: float, monotonic: float) -> None:
        self._now = wall
        self._monotonic = monotonic
        self._ahead = 0.0

    def read(self, wall: float, monotonic: float) -> Reading:
        """The time at that moment, never before the last one."""
        elapsed = max(0.0, monotonic - self._monotonic)
        self._monotonic = max(self._monotonic, monotonic)
        ahead = wall - (self._now + elapsed)
        step = ahead - self._ahead
        most = SLEW * elapsed
        slewed = min(most, max(-most, ahead))
        self._now += elapsed + slewed
        self._ahead = ahead - slewed
        return Reading(self._now, step if abs(step) > JUMP_SECONDS else 0.0)
