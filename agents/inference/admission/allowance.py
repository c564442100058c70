"""What a replica may still spend of limits that it shares with others, by partition. Pure: `now` is an argument.

Every limit is cut into as many quotas as there are partitions; the quotas of a limit add up to the limit exactly. Who
owns a partition may spend its quota in any sliding window, and nobody else may. What was spent of a quota stands in a
row of that partition before the call is sent, so the next owner begins with it. The sum over all replicas therefore
never passes the limit, however partitions move (docs/guide/limits.md has the argument in full).

A replica may charge one call to several of its quotas, and to any of them: which partition the task is in has nothing
to do with it. So no share lies idle because the tasks of one partition are few.

Time is seconds of a monotonic clock.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from heapq import merge

from callstream.agents.inference.admission.calendar import Calendar, Period, end_of
from callstream.agents.inference.admission.spent import Slice, Window

SLICES = 120
MINUTE_SECONDS = 60.0
DAY_SECONDS = 86_400.0


class Unit(StrEnum):
    """What a limit counts."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    TOKENS_IN = "tokens-in"
    TOKENS_OUT = "tokens-out"
    MONEY = "money"
    """In billionths of the currency."""


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `most` of a unit within any `seconds`, or within a day or month of the calendar."""

    unit: Unit
    most: int
    seconds: float
    calendar: Calendar | None = None

    @property
    def name(self) -> str:
        """As it stands in rows and on pages: it names the limit, not how much it allows."""
        if self.calendar is not None:
            return f"{self.unit}/calendar-{self.calendar}"
        return f"{self.unit}/{'minute' if self.seconds == MINUTE_SECONDS else 'day'}"

    def quota(self, partition: int, partitions: int) -> int:
        """A partition's part of it. All parts add up to `most`.

        >>> [Limit(Unit.TOKENS, 10, 60.0).quota(partition, 4) for partition in range(4)]
        [2, 3, 2, 3]
        """
        return self.most * (partition + 1) // partitions - self.most * partition // partitions


@dataclass(frozen=True, slots=True)
class Amount:
    """What one request takes; `money` in billionths of the currency."""

    tokens_in: int
    tokens_out: int
    money: int = 0

    def of(self, unit: Unit) -> int:
        """The part of it that a limit of that unit counts."""
        if unit is Unit.REQUESTS:
            return 1
        if unit is Unit.TOKENS:
            return self.tokens_in + self.tokens_out
        if unit is Unit.MONEY:
            return self.money
        return self.tokens_in if unit is Unit.TOKENS_IN else self.tokens_out

    @property
    def total(self) -> int:
        """Tokens in and out together."""
        return self.tokens_in + self.tokens_out


Windows = dict[int, Window]
"""Of one limit, by partition."""
OfLimits = dict[str, Window]
"""Of one partition, by the name of the limit."""


@dataclass(frozen=True, slots=True)
class Part:
    """One quota's part of a charge. `window` is where it was charged: whoever owns the quota anew has another."""

    limit: Limit
    partition: int
    window: Window
    end: float
    amount: int


@dataclass(frozen=True, slots=True)
class Charge:
    """What a call was reserved, by quota: to be written down before it is sent, and settled after it."""

    parts: tuple[Part, ...]

    @property
    def partitions(self) -> set[int]:
        """Those whose rows have to be written."""
        return {part.partition for part in self.parts}


@dataclass(slots=True)
class Room:
    """What is left of one limit on this replica, for people."""

    limit: Limit
    share: int
    spent: int


class _Quotas:
    """Those of one limit that this replica owns, by partition."""

    __slots__ = ("_partitions", "limit", "share", "windows")

    def __init__(self, limit: Limit, partitions: int, windows: Windows) -> None:
        self._partitions = partitions
        self.limit = limit
        self.share = 0
        self.windows: Windows = {}
        for partition, window in windows.items():
            self.put(partition, window)

    def put(self, partition: int, window: Window) -> None:
        """Own one more, in place of what was known of it."""
        self.pop(partition)
        window.quota = self.limit.quota(partition, self._partitions)
        self.share += window.quota
        self.windows[partition] = window

    def pop(self, partition: int) -> Window | None:
        """Own it no more."""
        window = self.windows.pop(partition, None)
        if window is not None:
            self.share -= window.quota
        return window

    def spent(self, now: float) -> int:
        """What was spent of them all."""
        return sum([window.spent(now) for window in self.windows.values()])

    def opens(self, amount: int, now: float) -> float:
        """When so much may be charged."""
        left = amount
        for window in self.windows.values():
            left -= max(0, window.quota - window.spent(now))
            if left <= 0:
                break
        if left <= 0:
            return now
        if amount > self.share:
            if self.limit.unit is Unit.MONEY:
                # A ceiling is hard: a call that may cost more than is there does not even pass alone.
                return math.inf
            if not self.spent(now):
                return now
            return max((when for window in self.windows.values() for when, _ in window.leaving(now)), default=now)
        return self._frees(amount, now)

    def deal(self, amount: int, now: float) -> dict[int, int]:
        """To the first quota that has room for all of it, so that few rows change; else to the emptiest first.

        What fits nowhere overdraws the emptiest.
        """
        for partition, window in self.windows.items():
            if window.quota - window.spent(now) >= amount:
                return {partition: amount} if amount > 0 else {}
        rooms = sorted(((window.room(now), partition) for partition, window in self.windows.items()), reverse=True)
        parts: dict[int, int] = {}
        for room, partition in rooms:
            if amount > 0 and room > 0:
                parts[partition] = min(room, amount)
                amount -= parts[partition]
        if amount > 0 and rooms:
            parts[rooms[0][1]] = parts.get(rooms[0][1], 0) + amount
        return parts

    def take(self, amount: int, now: float) -> Iterator[Part]:
        """Charge it."""
        for partition, took in self.deal(amount, now).items():
            window = self.windows[partition]
            yield Part(self.limit, partition, window, window.add(now, took), took)

    def deal_anew(self, now: float) -> None:
        """Deal out what was spent: under smaller quotas some would be overdrawn while others still had room."""
        spent = sorted(each for window in self.windows.values() for each in window.all_as_own(now))
        for window in self.windows.values():
            window.clear()
        for end, amount in spent:
            for partition, took in self.deal(amount, now).items():
                self.windows[partition].put(end, took)

    def _frees(self, amount: int, now: float) -> float:
        """When slices that end will have made that much room, quota by quota."""
        rooms = {partition: window.room(now) for partition, window in self.windows.items()}
        room = sum(max(0, room) for room in rooms.values())
        for when, partition, spent in merge(
            *(_of(partition, window, now) for partition, window in self.windows.items())
        ):
            before = max(0, rooms[partition])
            rooms[partition] += spent
            room += max(0, rooms[partition]) - before
            if room >= amount:
                return when
        return now


def _of(partition: int, window: Window, now: float) -> Iterator[tuple[float, int, int]]:
    return ((when, partition, spent) for when, spent in window.leaving(now))


@dataclass(slots=True)
class Allowance:
    """The quotas of one account on this replica.

    `margin` is added to every window: the most that the way of a request to the endpoint may differ from call to
    call, and what clocks may be apart. `ends` gives when the day or month of a moment is over, by the same clock.
    """

    limits: tuple[Limit, ...]
    partitions: int
    margin: float
    ends: Callable[[Calendar, float], float] = end_of
    _quotas: dict[str, _Quotas] = field(init=False)
    _owned: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Own nothing."""
        self._quotas = {limit.name: _Quotas(limit, self.partitions, {}) for limit in self.limits}

    @property
    def owned(self) -> set[int]:
        """Partitions whose quotas this replica may spend."""
        return self._owned

    def own(self, partition: int, rows: Mapping[str, Iterable[Slice]], now: float) -> None:
        """Take a partition, with what its former owner spent of each limit within the window."""
        windows = {limit.name: self._new(limit) for limit in self.limits}
        for name, slices in rows.items():
            if name in windows:
                windows[name].restore(slices, now)
        self.take_back(partition, windows)

    def disown(self, partitions: Iterable[int]) -> dict[int, OfLimits]:
        """These go to others, for whom to count what is spent of them; gives what was known of each."""
        gone = self._owned.intersection(partitions)
        self._owned -= gone
        return {
            partition: {
                name: window for name, quotas in self._quotas.items() if (window := quotas.pop(partition)) is not None
            }
            for partition in gone
        }

    def take_back(self, partition: int, windows: OfLimits) -> None:
        """Own a partition again of which nobody has spent meanwhile."""
        self._owned.add(partition)
        for limit in self.limits:
            self._quotas[limit.name].put(partition, windows.get(limit.name) or self._new(limit))

    def set_limits(self, limits: tuple[Limit, ...], now: float) -> None:
        """Other limits from now on: what was spent stays spent, of a new limit nothing was. Every row has changed."""
        former, self.limits = self._quotas, limits
        self._quotas = {limit.name: _Quotas(limit, self.partitions, {}) for limit in limits}
        for limit in limits:
            kept = former[limit.name].windows if limit.name in former else {}
            for partition in sorted(self._owned):
                self._quotas[limit.name].put(partition, kept.get(partition) or self._new(limit))
            self._quotas[limit.name].deal_anew(now)

    def opens(self, amount: Amount, now: float) -> tuple[float, Unit | None]:
        """When a call of that size may be charged, and the unit that it waits for; `now` and None: at once.

        One that is larger than all that this replica may ever spend waits until nothing is spent, and then passes
        alone. `math.inf` without a partition.
        """
        if not self._owned:
            return math.inf, None
        latest: tuple[float, Unit | None] = (now, None)
        for quotas in self._quotas.values():
            when = quotas.opens(amount.of(quotas.limit.unit), now)
            if when > latest[0]:
                latest = (when, quotas.limit.unit)
        return latest

    def charge(self, amount: Amount, now: float) -> Charge:
        """Reserve it. Ask `opens` first: this takes whatever is asked."""
        return Charge(
            tuple(part for quotas in self._quotas.values() for part in quotas.take(amount.of(quotas.limit.unit), now))
        )

    def settle(self, charge: Charge, amount: Amount, sent: bool = True) -> set[int]:
        """Correct a charge to what the call took; gives the partitions whose rows have changed.

        What it took beyond its reservation is charged to its last quota. A call that was not `sent` took nothing. Of a
        quota that was read anew since, nothing is corrected: what was read may not hold the charge.
        """
        touched: set[int] = set()
        for name, quotas in self._quotas.items():
            left = amount.of(quotas.limit.unit) if sent else 0
            parts = [part for part in charge.parts if part.limit.name == name]
            for position, part in enumerate(parts, start=1):
                took = left if position == len(parts) else min(left, part.amount)
                left -= took
                if took != part.amount and quotas.windows.get(part.partition) is part.window:
                    part.window.correct(part.end, took - part.amount)
                    touched.add(part.partition)
        return touched

    def row(self, partition: int, now: float) -> dict[str, list[Slice]]:
        """What was spent of a partition's quotas, by the name of the limit: what its next owner has to know."""
        return {
            name: quotas.windows[partition].slices(now)
            for name, quotas in self._quotas.items()
            if partition in quotas.windows
        }

    def rooms(self, now: float) -> list[Room]:
        """Each limit with this replica's share and what is spent of it."""
        return [Room(quotas.limit, quotas.share, quotas.spent(now)) for quotas in self._quotas.values()]

    def _new(self, limit: Limit) -> Window:
        if limit.calendar is not None:
            return Period(partial(self.ends, limit.calendar), self.margin)
        return Window(limit.seconds + self.margin, limit.seconds / SLICES, self.margin)
