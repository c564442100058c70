"""What this replica has spent of every account, kept on the log: nothing is sent before its reservation is there.

A row of the table `spending` holds what was spent of one account's quotas in one partition; whoever owns the partition
next begins with it. Rows are written together: one write for all calls that are admitted in the same moment.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from callstream.agents.inference.admission.allowance import Allowance, Amount, Charge, Limit, OfLimits, Room, Unit
from callstream.agents.inference.admission.calendar import Calendar, end_of
from callstream.agents.inference.admission.spent import Slice
from callstream.streams import strict_json
from callstream.streams.ownership import LostOwnership

SETTLED_SECONDS = 0.25
"""How long a row may wait whose only change is that less was spent."""


class SpendingRows(Protocol):
    """The table `spending`, and what this replica owns of it."""

    @property
    def epoch(self) -> int:
        """Another number after each rebalance: what was known of a partition before may be another owner's now."""

    def owned(self) -> frozenset[int]:
        """Partitions whose rows are there and may be written: none while they are recovered or the lease is over."""

    def read(self, partition: int, key: bytes) -> bytes | None:
        """A row, or None."""

    async def write(self, partition: int, key: bytes, value: bytes) -> None:
        """Set a row and wait until the log has it. Raises LostOwnership, LogUnavailable."""


class NoRows:
    """A replica that shares in nothing, since it does not run the service that calls models."""

    epoch = 0

    def owned(self) -> frozenset[int]:
        """Nothing."""
        return frozenset()

    def read(self, partition: int, key: bytes) -> bytes | None:
        """Nothing."""
        return None

    async def write(self, partition: int, key: bytes, value: bytes) -> None:
        """Raises LostOwnership."""
        raise LostOwnership(f"partition {partition}: this process does not share in limits")


@dataclass(frozen=True, slots=True)
class Reserved:
    """What a call was reserved in each of its accounts, and in which epoch."""

    charges: Mapping[str, Charge]
    epoch: int


class _Dates(dict[float, float]):
    """Moments of the monotonic clock in epoch seconds: rows that are written together hold mostly the same ones."""

    def __init__(self, ahead: float) -> None:
        super().__init__()
        self._ahead = ahead

    def __missing__(self, moment: float) -> float:
        dated = self[moment] = round(moment + self._ahead, 3)
        return dated


@dataclass(slots=True)
class _Batch:
    rows: set[tuple[str, int]] = field(default_factory=set)
    written: list[asyncio.Future[None]] = field(default_factory=list)


class Purse:
    """Allowances by account name. `clock` is monotonic; `wall` (epoch seconds) dates what the next owner reads.

    Clocks of two machines may be apart by `margin` at most: a slice read from another one's row counts that much
    longer. A clock that is set wrong while this runs does no harm: rows are dated by the latest that it has shown
    since the start, and read by the earliest, so that what was spent counts longer and never shorter.
    """

    def __init__(
        self,
        accounts: Mapping[str, tuple[Limit, ...]],
        partitions: int,
        margin: float,
        rows: SpendingRows,
        clocks: tuple[Callable[[], float], Callable[[], float]],
    ) -> None:
        self._partitions = partitions
        self._margin = margin
        self._rows = rows
        self._clock, self._wall = clocks
        self._earliest = self._latest = self._wall() - self._clock()
        self._allowances = {name: self._new(limits) for name, limits in accounts.items()}
        self._owned: frozenset[int] = frozenset()
        self._epoch = -1
        self._parted: dict[tuple[str, int], OfLimits] = {}
        self._written: dict[tuple[str, int], bytes] = {}
        self._batch = _Batch()
        self._flusher: asyncio.Task[None] | None = None

    @property
    def shares(self) -> bool:
        """Whether this replica can have a part of any limit."""
        return not isinstance(self._rows, NoRows)

    def limited(self, accounts: Iterable[str]) -> bool:
        """Whether any of these accounts has a limit."""
        return any(self._allowances[name].limits for name in accounts)

    @property
    def share(self) -> tuple[int, int]:
        """How many partitions this replica owns, and how many there are."""
        return len(self._owned), self._partitions

    def refresh(self) -> None:
        """Look at what is owned now: a partition that has come is read, one that has gone is forgotten.

        After a rebalance all are read anew: somebody else may have had them for a moment.
        """
        owned, epoch = self._rows.owned(), self._rows.epoch
        if epoch != self._epoch:
            for name, allowance in self._allowances.items():
                self._parted |= {(name, partition): kept for partition, kept in allowance.disown(self._owned).items()}
            self._owned, self._epoch = frozenset(), epoch
        if owned == self._owned:
            return
        gone, come = self._owned - owned, owned - self._owned
        for name, allowance in self._allowances.items():
            allowance.disown(gone)
            for partition in come:
                self._own(name, allowance, partition)
        self._owned = owned

    def set_accounts(self, accounts: Mapping[str, tuple[Limit, ...]]) -> None:
        """Other limits from now on; what was spent of an account stays spent."""
        now = self._clock()
        for name, limits in accounts.items():
            allowance = self._allowances.get(name)
            if allowance is None:
                allowance = self._allowances[name] = self._new(limits)
                for partition in self._owned:
                    self._own(name, allowance, partition)
            elif allowance.limits != limits:
                allowance.set_limits(limits, now)
                self._batch.rows |= {(name, partition) for partition in self._owned}
        for name in set(self._allowances) - set(accounts):
            del self._allowances[name]
        self._flush_later()

    def opens(self, accounts: Iterable[str], amount: Amount, now: float) -> tuple[float, Unit | None]:
        """When a call of that size may go by all of these accounts, and the unit that it waits for."""
        latest: tuple[float, Unit | None] = (now, None)
        for name in accounts:
            allowance = self._allowances[name]
            if allowance.limits and (found := allowance.opens(amount, now))[0] > latest[0]:
                latest = found
        return latest

    def reserve(self, accounts: Iterable[str], amount: Amount, now: float) -> Reserved:
        """Take it, whatever `opens` says."""
        return Reserved({name: self._allowances[name].charge(amount, now) for name in accounts}, self._epoch)

    def written(self, reserved: Reserved) -> "asyncio.Future[None] | None":
        """Done when the log has a reservation, LostOwnership or LogUnavailable if not; None if there is none."""
        rows = {(name, part) for name, charge in reserved.charges.items() for part in charge.partitions}
        if not rows:
            return None
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._batch.rows |= rows
        self._batch.written.append(written)
        self._flush_later()
        return written

    def holds(self, reserved: Reserved) -> bool:
        """Whether every quota that it was taken from has been this replica's since then."""
        return reserved.epoch == self._epoch and all(
            charge.partitions <= self._owned for charge in reserved.charges.values()
        )

    def settle(self, reserved: Reserved, amount: Amount, sent: bool = True) -> None:
        """Correct a reservation to what the call took; its rows follow. What was not `sent` is no request either."""
        for name, charge in reserved.charges.items():
            if (allowance := self._allowances.get(name)) is not None:
                self._batch.rows |= {(name, partition) for partition in allowance.settle(charge, amount, sent)}
        self._flush_later()

    def rooms(self, account: str) -> list[Room]:
        """Each limit of an account with this replica's share and what is spent of it."""
        return self._allowances[account].rooms(self._clock())

    async def close(self) -> None:
        """Write what is left, and stop."""
        flusher, self._flusher = self._flusher, None
        if flusher is not None:
            flusher.cancel()
            await asyncio.gather(flusher, return_exceptions=True)

    def _new(self, limits: tuple[Limit, ...]) -> Allowance:
        return Allowance(limits, self._partitions, self._margin, self._ends)

    def _ends(self, calendar: Calendar, now: float) -> float:
        """When the day or month of a moment of the monotonic clock is over, by that clock."""
        ahead = self._wall() - self._clock()
        return end_of(calendar, now + ahead) - ahead

    def _look_at_clocks(self) -> None:
        ahead = self._wall() - self._clock()
        self._earliest, self._latest = min(self._earliest, ahead), max(self._latest, ahead)

    def _own(self, name: str, allowance: Allowance, partition: int) -> None:
        raw = self._rows.read(partition, name.encode())
        kept = self._parted.pop((name, partition), None)
        if kept is not None and raw is not None and raw == self._written.get((name, partition)):
            # Nobody has spent of it since: what this replica knows is exact, and dated by no other clock.
            allowance.take_back(partition, kept)
            return
        self._look_at_clocks()
        stored: dict[str, list[Slice]] = strict_json.unpack(raw) if raw is not None else {}
        rows = {limit: [(end - self._earliest, spent) for end, spent in slices] for limit, slices in stored.items()}
        allowance.own(partition, rows, self._clock())

    def _row(self, name: str, partition: int, dates: _Dates) -> bytes | None:
        allowance = self._allowances.get(name)
        if allowance is None or partition not in allowance.owned:
            return None
        row = {
            limit: [(dates[end], spent) for end, spent in slices]
            for limit, slices in allowance.row(partition, self._clock()).items()
        }
        return strict_json.pack(row)

    def _flush_later(self) -> None:
        if (self._batch.rows or self._batch.written) and (self._flusher is None or self._flusher.done()):
            self._flusher = asyncio.create_task(self._flush())

    async def _flush(self) -> None:
        while self._batch.rows or self._batch.written:
            if not self._batch.written:
                await asyncio.sleep(SETTLED_SECONDS)
            batch, self._batch = self._batch, _Batch()
            failure: Exception | None = None
            try:
                self._look_at_clocks()
                dates = _Dates(self._latest)
                await asyncio.gather(*(self._write(name, partition, dates) for name, partition in batch.rows))
            except Exception as error:
                failure = error
            for written in batch.written:
                if written.done():
                    continue
                if failure is None:
                    written.set_result(None)
                else:
                    written.set_exception(failure)

    async def _write(self, name: str, partition: int, dates: _Dates) -> None:
        row = self._row(name, partition, dates)
        if row is None:
            raise LostOwnership(f"partition {partition} has gone, with its part of the limits of {name!r}")
        await self._rows.write(partition, name.encode(), row)
        self._written[name, partition] = row
