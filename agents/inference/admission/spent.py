"""What was spent of one quota within a sliding window. Pure: `now` is an argument, in seconds of a monotonic clock.

Time is counted in slices; what is spent within a slice counts from its end, so that rounding never lets more through.
"""

import math
from collections.abc import Iterable, Iterator
from heapq import merge

Slice = tuple[float, int]
"""When it ends, in seconds, and what was spent in it."""


class Window:
    """What was spent of one quota within the last `span` seconds.

    What another owner spent is dated by that one's clock: it counts for `longer` seconds more. It is handed on to the
    next owner as it came, so that the time does not grow each time a partition moves.
    """

    __slots__ = ("_grain", "_inherited", "_leaves", "_longer", "_slices", "_span", "_total", "quota")

    def __init__(self, span: float, grain: float, longer: float = 0.0) -> None:
        self.quota = 0
        self._span = span
        self._grain = grain
        self._longer = longer
        self._slices: dict[float, int] = {}
        self._inherited: dict[float, int] = {}
        self._total = 0
        self._leaves = math.inf

    def spent(self, now: float) -> int:
        """The sum at `now`."""
        if now >= self._leaves:
            self._forget(now)
        return self._total

    def room(self, now: float) -> int:
        """What is left of the quota; below 0 where it is overdrawn."""
        return self.quota - self.spent(now)

    def add(self, now: float, amount: int) -> float:
        """Spend at `now`; gives the slice, by which it can be corrected. Times must not go back."""
        end = self._end(now)
        if self._slices and (latest := next(reversed(self._slices))) > end:
            end = latest
        self.put(end, amount)
        return end

    def put(self, end: float, amount: int) -> None:
        """Spend in a slice that is past; slices are put in order of time."""
        self._slices[end] = self._slices.get(end, 0) + amount
        self._total += amount
        self._leaves = min(self._leaves, end + self._span)

    def correct(self, end: float, change: int) -> None:
        """What was spent in a slice turned out to be more or less; of a slice that has left the window, nothing."""
        if end in self._slices:
            self._slices[end] += change
            self._total += change

    def leaving(self, now: float) -> Iterator[Slice]:
        """When what it holds will leave it, the first first."""
        self.spent(now)
        own = ((end + self._span, spent) for end, spent in self._slices.items())
        if not self._inherited:
            return own
        return merge(own, ((end + self._span + self._longer, spent) for end, spent in self._inherited.items()))

    def slices(self, now: float) -> list[Slice]:
        """What it holds, as its next owner has to know it: oldest first."""
        self.spent(now)
        found = [(end, spent) for slices in (self._inherited, self._slices) for end, spent in slices.items() if spent]
        return sorted(found)

    def all_as_own(self, now: float) -> list[Slice]:
        """What it holds, as if nothing had been inherited: that is dated later by how much longer it counts."""
        self.spent(now)
        return [*self._slices.items(), *((end + self._longer, spent) for end, spent in self._inherited.items())]

    def restore(self, slices: Iterable[Slice], now: float) -> None:
        """Begin with what another owner spent. Nothing can have been spent later than in this slice."""
        latest = self._end(now)
        found: dict[float, int] = {}
        for end, spent in sorted(slices):
            end = min(end, latest)
            found[end] = found.get(end, 0) + max(0, spent)
        self._slices, self._inherited, self._total = {}, found, sum(found.values())
        self._forget(now)

    def clear(self) -> None:
        """Nothing was spent."""
        self._slices, self._inherited, self._total, self._leaves = {}, {}, 0, math.inf

    def _end(self, now: float) -> float:
        """Of the slice that is now."""
        return (math.floor(now / self._grain) + 1) * self._grain

    def _forget(self, now: float) -> None:
        """Let go what has left the window."""
        self._leaves = math.inf
        for slices, span in ((self._slices, self._span), (self._inherited, self._span + self._longer)):
            while slices and (leaves := (end := next(iter(slices))) + span) <= now:
                self._total -= slices.pop(end)
            if slices:
                self._leaves = min(self._leaves, leaves)
