"""What a replica may still spend of limits that it shares with others, by partition. Pure: `now` is an argument.

Every limit is cut into as many quotas as there are partitions; the quotas of a limit add up to the limit exactly. Who
owns a partition may spend its quota in any sliding window, and nobody else may. What was spent of a quota stands in a
row of that partition before the call is sent, so the next owner begins with it. The sum over all replicas therefore
never passes the limit, however partitions move (docs/guide/limits.md has the argument in full).

A replica may charge one call to several of its quotas, and to any of them: which partition the task is in has nothing
to do with it. So no share lies idle because the tasks of one partition are few.

Time is seconds of a monotonic clock. It is counted in slices; what is spent within a slice counts from its end, so
that rounding never lets more through.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

SLICES = 120
MINUTE_SECONDS = 60.0
DAY_SECONDS = 86_400.0


class Unit(StrEnum):
    """What a limit counts."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    TOKENS_IN = "tokens-in"
    TOKENS_OUT = "tokens-out"


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `most` of a unit within any `seconds`."""

    unit: Unit
    most: int
    seconds: float

    @property
    def name(self) -> str:
        """As it stands in rows and on pages: it names the limit, not how much it allows."""
        return f"{self.unit}/{'minute' if self.seconds == MINUTE_SECONDS else 'day'}"

    def quota(self, partition: int, partitions: int) -> int:
        """A partition's part of it. All parts add up to `most`.

        >>> [Limit(Unit.TOKENS, 10, 60.0).quota(partition, 4) for partition in range(4)]
        [2, 3, 2, 3]
        """
        return self.most * (partition + 1) // partitions - self.most * partition // partitions


@dataclass(frozen=True, slots=True)
class Amount:
    """What one request takes."""

    tokens_in: int
    tokens_out: int

    def of(self, unit: Unit) -> int:
        """The part of it that a limit of that unit counts."""
        match unit:
            case Unit.REQUESTS:
                return 1
            case Unit.TOKENS_IN:
                return self.tokens_in
            case Unit.TOKENS_OUT:
                return self.tokens_out
        return self.total

    @property
    def total(self) -> int:
        """Tokens in and out together."""
        return self.tokens_in + self.tokens_out


Slice = tuple[float, int]
"""When it ends, in seconds, and what was spent in it."""


class Window:
    """What was spent of one quota within the last `span` seconds.

    What another owner spent is dated by that one's clock: it counts for `longer` seconds more. It is handed on to the
    next owner as it came, so that the time does not grow each time a partition moves.
    """

    __slots__ = ("_grain", "_inherited", "_longer", "_slices", "_span", "_total")

    def __init__(self, span: float, grain: float, longer: float = 0.0) -> None:
        self._span = span
        self._grain = grain
        self._longer = longer
        self._slices: dict[float, int] = {}
        self._inherited: dict[float, int] = {}
        self._total = 0

    def spent(self, now: float) -> int:
        """The sum at `now`."""
        for slices, span in ((self._slices, self._span), (self._inherited, self._span + self._longer)):
            while slices and (end := next(iter(slices))) <= now - span:
                self._total -= slices.pop(end)
        return self._total

    def add(self, now: float, amount: int) -> float:
        """Spend at `now`; gives the slice, by which it can be corrected. Times must not go back."""
        end = (math.floor(now / self._grain) + 1) * self._grain
        if self._slices and (latest := next(reversed(self._slices))) > end:
            end = latest
        self.put(end, amount)
        return end

    def put(self, end: float, amount: int) -> None:
        """Spend in a slice that is past; slices are put in order of time."""
        self._slices[end] = self._slices.get(end, 0) + amount
        self._total += amount

    def correct(self, end: float, change: int) -> None:
        """What was spent in a slice turned out to be more or less; of a slice that has left the window, nothing."""
        if end in self._slices:
            self._slices[end] += change
            self._total += change

    def leaving(self, now: float) -> list[Slice]:
        """When what it holds will leave it, the first first."""
        self.spent(now)
        own = [(end + self._span, spent) for end, spent in self._slices.items()]
        return sorted(own + [(end + self._span + self._longer, spent) for end, spent in self._inherited.items()])

    def slices(self, now: float) -> list[Slice]:
        """What it holds, as its next owner has to know it: oldest first."""
        self.spent(now)
        found = [(end, spent) for slices in (self._inherited, self._slices) for end, spent in slices.items() if spent]
        return sorted(found)

    def restore(self, slices: Iterable[Slice], now: float) -> None:
        """Begin with what another owner spent. Nothing can have been spent later than in this slice."""
        latest = (math.floor(now / self._grain) + 1) * self._grain
        found: dict[float, int] = {}
        for end, spent in sorted(slices):
            end = min(end, latest)
            found[end] = found.get(end, 0) + max(0, spent)
        self._slices, self._inherited, self._total = {}, found, sum(found.values())


Windows = dict[str, Window]
"""Of one partition, by the name of the limit."""


@dataclass(frozen=True, slots=True)
class Part:
    """One quota's part of a charge."""

    limit: Limit
    partition: int
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


@dataclass(slots=True)
class Allowance:
    """The quotas of one account on this replica.

    `margin` is added to every window: the most that the way of a request to the endpoint may differ from call to
    call, and what clocks may be apart.
    """

    limits: tuple[Limit, ...]
    partitions: int
    margin: float
    _windows: dict[int, Windows] = field(default_factory=dict)

    @property
    def owned(self) -> set[int]:
        """Partitions whose quotas this replica may spend."""
        return set(self._windows)

    def own(self, partition: int, rows: Mapping[str, Iterable[Slice]], now: float) -> None:
        """Take a partition, with what its former owner spent of each limit within the window."""
        windows = self._windows[partition] = {limit.name: self._new(limit) for limit in self.limits}
        for name, slices in rows.items():
            if name in windows:
                windows[name].restore(slices, now)

    def disown(self, partitions: Iterable[int]) -> dict[int, Windows]:
        """These go to others, for whom to count what is spent of them; gives what was known of each."""
        return {partition: self._windows.pop(partition) for partition in partitions if partition in self._windows}

    def take_back(self, partition: int, windows: Windows) -> None:
        """Own a partition again of which nobody has spent meanwhile."""
        self._windows[partition] = {limit.name: windows.get(limit.name) or self._new(limit) for limit in self.limits}

    def set_limits(self, limits: tuple[Limit, ...], now: float) -> None:
        """Other limits from now on: what was spent stays spent, of a new limit nothing was. Every row has changed.

        What was spent is dealt out anew: under smaller quotas some would be overdrawn while others still had room.
        """
        self.limits = limits
        for windows in self._windows.values():
            kept = {limit.name: windows.get(limit.name) or self._new(limit) for limit in limits}
            windows.clear()
            windows.update(kept)
        for limit in limits:
            spent = [each for windows in self._windows.values() for each in windows[limit.name].slices(now)]
            for windows in self._windows.values():
                windows[limit.name] = self._new(limit)
            for end, amount in sorted(spent):
                for partition, took in self._deal(limit, amount, now).items():
                    self._windows[partition][limit.name].put(end, took)

    def opens(self, amount: Amount, now: float) -> tuple[float, Unit | None]:
        """When a call of that size may be charged, and the unit that it waits for; `now` and None: at once.

        One that is larger than all that this replica may ever spend waits until nothing is spent, and then passes
        alone. `math.inf` without a partition.
        """
        if not self._windows:
            return math.inf, None
        latest: tuple[float, Unit | None] = (now, None)
        for limit in self.limits:
            when = self._opens(limit, amount.of(limit.unit), now)
            if when > latest[0]:
                latest = (when, limit.unit)
        return latest

    def charge(self, amount: Amount, now: float) -> Charge:
        """Reserve it. Ask `opens` first: this takes whatever is asked."""
        return Charge(tuple(part for limit in self.limits for part in self._take(limit, amount.of(limit.unit), now)))

    def settle(self, charge: Charge, amount: Amount, sent: bool = True) -> set[int]:
        """Correct a charge to what the call took; gives the partitions whose rows have changed.

        What it took beyond its reservation is charged to its last quota. A call that was not `sent` took nothing.
        """
        touched: set[int] = set()
        for limit in self.limits:
            left = amount.of(limit.unit) if sent else 0
            parts = [part for part in charge.parts if part.limit.name == limit.name]
            for position, part in enumerate(parts, start=1):
                took = left if position == len(parts) else min(left, part.amount)
                left -= took
                window = self._windows.get(part.partition, {}).get(limit.name)
                if window is not None and took != part.amount:
                    window.correct(part.end, took - part.amount)
                    touched.add(part.partition)
        return touched

    def row(self, partition: int, now: float) -> dict[str, list[Slice]]:
        """What was spent of a partition's quotas, by the name of the limit: what its next owner has to know."""
        return {name: window.slices(now) for name, window in self._windows.get(partition, {}).items()}

    def rooms(self, now: float) -> list[Room]:
        """Each limit with this replica's share and what is spent of it."""
        return [Room(limit, self._share(limit), self._spent(limit, now)) for limit in self.limits]

    def _new(self, limit: Limit) -> Window:
        return Window(limit.seconds + self.margin, limit.seconds / SLICES, self.margin)

    def _share(self, limit: Limit) -> int:
        return sum(limit.quota(partition, self.partitions) for partition in self._windows)

    def _spent(self, limit: Limit, now: float) -> int:
        return sum(windows[limit.name].spent(now) for windows in self._windows.values())

    def _room(self, limit: Limit, partition: int, now: float) -> int:
        return limit.quota(partition, self.partitions) - self._windows[partition][limit.name].spent(now)

    def _opens(self, limit: Limit, amount: int, now: float) -> float:
        rooms = [max(0, self._room(limit, partition, now)) for partition in self._windows]
        if sum(rooms) >= amount:
            return now
        if amount > self._share(limit):
            if not self._spent(limit, now):
                return now
            return max(
                (when for windows in self._windows.values() for when, _ in windows[limit.name].leaving(now)),
                default=now,
            )
        return self._frees(limit, amount, now)

    def _frees(self, limit: Limit, amount: int, now: float) -> float:
        """When slices that end will have made that much room, quota by quota."""
        leaving = sorted(
            (when, partition, spent)
            for partition, windows in self._windows.items()
            for when, spent in windows[limit.name].leaving(now)
        )
        rooms = {partition: self._room(limit, partition, now) for partition in self._windows}
        for when, partition, spent in leaving:
            rooms[partition] += spent
            if sum(max(0, room) for room in rooms.values()) >= amount:
                return when
        return now

    def _take(self, limit: Limit, amount: int, now: float) -> list[Part]:
        return [
            Part(limit, partition, self._windows[partition][limit.name].add(now, took), took)
            for partition, took in self._deal(limit, amount, now).items()
        ]

    def _deal(self, limit: Limit, amount: int, now: float) -> dict[int, int]:
        """To the emptiest quotas first, so that few rows change; what fits nowhere overdraws the first."""
        rooms = sorted(((self._room(limit, partition, now), partition) for partition in self._windows), reverse=True)
        parts: dict[int, int] = {}
        for room, partition in rooms:
            if amount > 0 and room > 0:
                parts[partition] = min(room, amount)
                amount -= parts[partition]
        if amount > 0 and rooms:
            parts[rooms[0][1]] = parts.get(rooms[0][1], 0) + amount
        return parts
