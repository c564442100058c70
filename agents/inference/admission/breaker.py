"""When an endpoint that fails is left alone, and when it is tried again. Pure: `now` is seconds of a monotonic clock.

*Closed*: calls go. *Open*: none goes, for a pause that doubles from opening to opening. *Half-open*: the pause is over
and one call goes, the probe; its outcome closes the breaker or opens it again. Beside that, an endpoint may have asked
for a pause itself (Retry-After): then no call goes in any state, and no probe is spent.
"""

import math
from collections import deque
from enum import StrEnum

FIRST_PAUSE_SECONDS = 1.0
MOST_PAUSE_SECONDS = 60.0
MOST_CLOSED_SECONDS = 3600.0
SLICES = 10
PROBE_SECONDS = 300.0
"""A probe of which nothing is heard for so long is taken for lost."""
LOOK_SECONDS = 0.5
"""While a probe is under way nobody knows when it ends: so soon it is worth asking again."""


class State(StrEnum):
    """Whether calls go."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """Opens after `in_a_row` failures, or when `share` of at least `least_calls` calls within `seconds` failed.

    A failure is a call that found the endpoint broken or unreachable, that timed out, or a 5xx; a 429 is none. Every
    call that `may` let through is reported once: `succeeded`, `failed` or `abandoned`, with the time when it `started`
    (the `now` of its `may`) where that is known: calls from before the breaker opened then say nothing any more.
    Raises ValueError for numbers that make no sense.
    """

    def __init__(
        self,
        in_a_row: int = 5,
        share: float = 0.5,
        least_calls: int = 20,
        seconds: float = 30.0,
        most_pause_seconds: float = MOST_PAUSE_SECONDS,
    ) -> None:
        if in_a_row < 1 or least_calls < 1 or not 0 < share <= 1 or not 0 < seconds < math.inf:
            raise ValueError(
                f"a breaker needs in_a_row ({in_a_row}) and least_calls ({least_calls}) from 1 up, "
                f"share ({share}) over 0 and at most 1, and seconds ({seconds}) over 0"
            )
        self._in_a_row, self._share, self._least_calls, self._seconds = in_a_row, share, least_calls, seconds
        self._most_pause = most_pause_seconds
        self._slices: deque[tuple[int, int, int]] = deque(maxlen=SLICES + 1)
        self._failures = 0
        self._pause = FIRST_PAUSE_SECONDS
        self._open_until: float | None = None
        self._closed_at = -math.inf
        self._probe_at: float | None = None
        self._asked_until = -math.inf

    def state(self, now: float) -> State:
        """The state at this moment, whatever the endpoint asked for."""
        if self._open_until is None:
            return State.CLOSED
        return State.OPEN if now < self._open_until else State.HALF_OPEN

    def opens_at(self, now: float) -> float | None:
        """When a call may next be tried, later than `now`; None: at once."""
        at = max(self._asked_until, -math.inf if self._open_until is None else self._open_until)
        if self._is_probed(now) and self._probe_at is not None:
            at = max(at, min(now + LOOK_SECONDS, self._probe_at + PROBE_SECONDS))
        return at if at > now else None

    def may(self, now: float) -> bool:
        """Whether a call may go now. In half-open, yes makes it the probe."""
        if self.opens_at(now) is not None:
            return False
        if self._open_until is not None:
            self._probe_at = now
        return True

    def succeeded(self, now: float, started: float | None = None) -> None:
        """The endpoint answered. A probe that is answered closes the breaker."""
        if self._open_until is None:
            self._failures = 0
            self._count(now, 0)
        elif self._is_probe(started):
            self._open_until, self._probe_at = None, None
            self._closed_at = now

    def failed(self, now: float, started: float | None = None) -> None:
        """The endpoint is broken, unreachable, or too slow. A probe that fails opens the breaker for longer."""
        if self._open_until is None:
            if started is not None and started < self._closed_at:
                return
            self._failures += 1
            self._count(now, 1)
            if self._failures >= self._in_a_row or self._is_mostly_failing():
                # Having been well for a while, it begins with a short pause again.
                self._open(now, now - self._closed_at > self._seconds)
        elif self._is_probe(started):
            self._open(now, False)

    def abandoned(self, now: float, started: float | None = None) -> None:
        """The call ended and told nothing of the endpoint's health. If it was the probe, another may go."""
        if self._is_probe(started):
            self._probe_at = None

    def close_until(self, now: float, seconds: float) -> None:
        """The endpoint asked for no calls for so many seconds, of which MOST_CLOSED_SECONDS are believed.

        The longest request holds. Nonsense (negative, infinite, not a number) changes nothing.
        """
        if math.isfinite(seconds):
            self._asked_until = max(self._asked_until, now + min(seconds, MOST_CLOSED_SECONDS))

    def _is_probed(self, now: float) -> bool:
        return self._probe_at is not None and now < self._probe_at + PROBE_SECONDS

    def _is_probe(self, started: float | None) -> bool:
        return self._probe_at is not None and (started is None or started >= self._probe_at)

    def _open(self, now: float, afresh: bool) -> None:
        self._pause = FIRST_PAUSE_SECONDS if afresh else min(self._most_pause, self._pause * 2)
        self._open_until, self._probe_at = now + self._pause, None
        self._failures = 0
        self._slices.clear()

    def _count(self, now: float, failed: int) -> None:
        """One call in the slice of time that it ended in; slices that are past go."""
        number = math.floor(now * SLICES / self._seconds)
        while self._slices and self._slices[0][0] <= number - SLICES:
            self._slices.popleft()
        if self._slices and self._slices[-1][0] >= number:
            number, calls, failures = self._slices.pop()
            self._slices.append((number, calls + 1, failures + failed))
        else:
            self._slices.append((number, 1, failed))

    def _is_mostly_failing(self) -> bool:
        calls = sum(one[1] for one in self._slices)
        return calls >= self._least_calls and sum(one[2] for one in self._slices) >= self._share * calls
