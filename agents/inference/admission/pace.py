"""How many calls a gate lets through a second, over more than a limit's minute. Pure.

A limit may let all calls of its minute through in its first seconds, and none after: whoever looks at some seconds
only takes that for a gate that races, and then for one that stands still.
"""

from collections import deque

PACE_SECONDS = 62.0
SLOT_SECONDS = 1.0
LEAST_SECONDS = 2.0
"""With less to look at there is no pace yet."""


class Pace:
    """Calls of the last PACE_SECONDS, counted by the second."""

    def __init__(self) -> None:
        self._slots: deque[tuple[float, int]] = deque()
        self._since = 0.0

    def count(self, now: float) -> None:
        """One more."""
        self._forget(now)
        if not self._slots:
            self._since = now
        if self._slots and now - self._slots[-1][0] < SLOT_SECONDS:
            started, calls = self._slots.pop()
            self._slots.append((started, calls + 1))
        else:
            self._slots.append((now, 1))

    def a_second(self, now: float) -> tuple[float, float]:
        """The least and the most that the pace may be; 0 and 0 if none went lately, or the first one just now.

        They are one once there was more than a limit's minute to look at. Before, what went may be all of its minute.
        """
        self._forget(now)
        passed = min(now - self._since, PACE_SECONDS)
        if not self._slots or passed < LEAST_SECONDS:
            return 0.0, 0.0
        calls = sum(calls for _, calls in self._slots)
        return calls / PACE_SECONDS, calls / passed

    def _forget(self, now: float) -> None:
        while self._slots and now - self._slots[0][0] >= PACE_SECONDS:
            self._slots.popleft()
