"""A clock that a step of the system's clock moves late or not at all.

It runs with the monotonic clock and follows the wall clock where the two differ by little. A step is believed only
after it has stood for `BELIEVE_SECONDS`: a clock that someone sets an hour ahead by mistake fires nothing early.
"""

from collections.abc import Callable

FOLLOWED_SECONDS = 1.0
"""A difference that is no step: drift, and the corrections of NTP."""
BELIEVE_SECONDS = 600.0
"""Also how late a machine that was suspended may be, whose monotonic clock stood still meanwhile."""


class SteadyClock:
    """Epoch seconds, from a wall clock (epoch seconds) and a monotonic one (seconds)."""

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._offset = wall() - monotonic()
        self._stepped: tuple[float, float] | None = None

    def __call__(self) -> float:
        """The time. It goes back only where the wall clock did, and stayed there."""
        now = self._monotonic()
        offset = self._wall() - now
        if abs(offset - self._offset) <= FOLLOWED_SECONDS:
            self._offset, self._stepped = offset, None
        elif self._stepped is None or abs(offset - self._stepped[0]) > FOLLOWED_SECONDS:
            self._stepped = (offset, now)
        elif now - self._stepped[1] >= BELIEVE_SECONDS:
            self._offset, self._stepped = offset, None
        return now + self._offset
