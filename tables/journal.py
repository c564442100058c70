"""The gateway's record of all tasks: each event folded into its task's row, its step's latency windows and its usage.

Events arrive by the thousand; rows are written in batches. An event counts as recorded when the batch that holds its
rows is on the changelog, and only then is it acknowledged. Tasks are written before latencies: an event that comes
again finds its task's row ahead of it and counts no hop twice. Usage is money: it is written before the tasks, and
keeps by itself from counting a step twice (`usage_book`).
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from callstream.streams import strict_json
from callstream.streams.chain import Chains
from callstream.streams.event import End, Event, Hop, Json
from callstream.streams.ownership import Claim, LostOwnership
from callstream.streams.submission import unfit_id
from callstream.tables import tasks
from callstream.tables.latency import Window, WindowKey, windows_of
from callstream.tables.rows import Rows
from callstream.tables.usage import mark_of
from callstream.tables.usage_book import Entries, UsageBook

FLUSH_SECONDS = 0.05
LONGEST_FLUSH_SECONDS = 0.4
SECONDS_A_ROW = 0.001
"""Under load batches grow, so that a row that changes several times in a moment is written once."""
MAX_WINDOWS_IN_MEMORY = 4_096
MAX_LOGGED_IN_MEMORY = 16_384

Place = tuple[int, bytes]


@dataclass(slots=True)
class _Batch:
    """Rows that wait to be written, and the futures of those who wait for them."""

    recorded: list[asyncio.Future[None]] = field(default_factory=list)
    rows: dict[Place, tuple[Claim, Json]] = field(default_factory=dict)
    windows: dict[tuple[int, WindowKey], Claim] = field(default_factory=dict)
    usage: Entries = field(default_factory=Entries)


class Journal:
    """Folds events into the tables `tasks`, `latency` and `usage` of one gateway.

    `changed` hears of each task's row after the log.
    """

    def __init__(
        self,
        rows: Rows,
        latencies: Rows,
        chains: Chains,
        clock: Callable[[], float],
        changed: Callable[[Json], None],
        usage: UsageBook | None = None,
    ) -> None:
        self._rows = rows
        self._usage = usage
        self._latencies = latencies
        self._chains = chains
        self._clock = clock
        self._changed = changed
        self._batch: _Batch | None = None
        self._writing: _Batch | None = None
        self._windows: dict[tuple[int, WindowKey], Window] = {}
        self._logged: dict[Place, None] = {}
        self._flusher: asyncio.Task[None] | None = None

    async def record(self, claim: Claim, event: Event) -> None:
        """Fold one event in and wait until its rows are on the log. Raises LostOwnership, LogUnavailable."""
        await self.fold(claim, event)

    def fold(self, claim: Claim, event: Event) -> asyncio.Future[None]:
        """Fold one event in; what comes back is done when its rows are on the log. Raises LostOwnership.

        It raises LostOwnership or LogUnavailable where they do not get there, and is cancelled with the partition.
        """
        if claim != self._rows.claim(claim.partition):
            # Here, since one row that is refused when it is written fails all others of its batch.
            raise LostOwnership(f"partition {claim.partition} was revoked")
        row = self.row(claim.partition, event.key)
        new_row, hops = tasks.fold(row, event, self._chains, self._clock())
        place = (claim.partition, event.key)
        recorded = asyncio.get_running_loop().create_future()
        if row is None and event.sequence == 0 and unfit_id(event) is not None:
            # Intake refuses it, and another task may have that id one day.
            recorded.set_result(None)
            return recorded
        # A row that only this disk has, left by a process that was killed, is no reason to skip its event.
        if new_row is row and place in self._logged and self._pending(*place) is None:
            recorded.set_result(None)
            return recorded
        batch = self._batch
        if batch is None:
            batch = self._batch = _Batch()
            if self._flusher is None or self._flusher.done():
                self._flusher = asyncio.create_task(self._flush_soon())
        batch.rows[place] = (claim, new_row)
        self._count_usage(batch, claim, event, hops)
        for position, hop in enumerate(hops, start=1):
            if position == len(hops) and event.body.end is End.CANCELLED:
                # How long a step took that was cut says nothing of the step.
                continue
            failed = position == len(hops) and event.body.failure is not None
            self._count(batch, claim, hop, failed)
        batch.recorded.append(recorded)
        return recorded

    def row(self, partition: int, key: bytes) -> Json | None:
        """A task's row, with what is about to be written."""
        pending = self._pending(partition, key)
        if pending is not None:
            return pending
        raw = self._rows.read(partition, key)
        return None if raw is None else strict_json.unpack(raw)

    def unwritten(self) -> dict[Place, Json]:
        """Rows that are about to be written, by partition and key."""
        batches = [batch for batch in (self._writing, self._batch) if batch is not None]
        return {place: row for batch in batches for place, (_, row) in batch.rows.items()}

    def forget(self) -> None:
        """The partitions go to other owners: drop what was not written, and what was remembered of the windows."""
        batch, self._batch = self._batch, None
        if self._usage is not None:
            self._usage.forget()
        self._windows.clear()
        self._logged.clear()
        for recorded in batch.recorded if batch is not None else ():
            recorded.cancel()

    def _pending(self, partition: int, key: bytes) -> Json | None:
        for batch in (self._batch, self._writing):
            if batch is not None and (found := batch.rows.get((partition, key))) is not None:
                return found[1]
        return None

    def _count_usage(self, batch: _Batch, claim: Claim, event: Event, hops: tuple[Hop, ...]) -> None:
        if self._usage is None:
            return
        first = len(event.body.trail) - len(hops)
        for position, hop in enumerate(hops, start=first):
            if hop.spends:
                mark = mark_of(event.key, event.run, position, hop)
                self._usage.count(batch.usage, claim, (event.tenant, event.chain), hop.spends, mark)

    def _count(self, batch: _Batch, claim: Claim, hop: Hop, failed: bool) -> None:
        for key in windows_of(hop, self._clock()):
            place = (claim.partition, key)
            window = self._windows.get(place)
            if window is None:
                raw = self._latencies.read(claim.partition, key.encode())
                window = self._windows[place] = Window() if raw is None else Window.from_row(strict_json.unpack(raw))
            window.add(hop.ended - hop.started, failed)
            batch.windows[place] = claim

    async def _flush_soon(self) -> None:
        pause = FLUSH_SECONDS
        while (batch := await self._next_batch(pause)) is not None:
            self._batch, self._writing = None, batch
            failure: Exception | None = None
            try:
                await self._write(batch)
            except Exception as error:
                failure = error
            finally:
                self._writing = None
            for recorded in batch.recorded:
                if recorded.done():
                    continue
                if failure is not None:
                    recorded.set_exception(failure)
                else:
                    recorded.set_result(None)
            pause = min(LONGEST_FLUSH_SECONDS, FLUSH_SECONDS + len(batch.rows) * SECONDS_A_ROW)

    async def _next_batch(self, pause: float) -> _Batch | None:
        await asyncio.sleep(pause)
        return self._batch

    async def _write(self, batch: _Batch) -> None:
        # Before the next batch counts in the same windows: its hops come again if its tasks do not reach the log.
        windows = [
            (claim, key.encode(), strict_json.pack(self._windows[place, key].to_row()))
            for (place, key), claim in batch.windows.items()
            if (place, key) in self._windows
        ]
        if self._usage is not None and batch.usage.claims:
            await asyncio.gather(*(self._usage.write(row) for row in self._usage.written(batch.usage)))
        await asyncio.gather(
            *(self._rows.write(claim, key, strict_json.pack(row)) for (_, key), (claim, row) in batch.rows.items())
        )
        if self._usage is not None:
            self._usage.confirmed(batch.usage, self._batch.usage if self._batch is not None else None)
        await asyncio.gather(*(self._latencies.write(*window) for window in windows))
        for place, (_, row) in batch.rows.items():
            self._logged[place] = None
            self._changed(row)
        while len(self._logged) > MAX_LOGGED_IN_MEMORY:
            del self._logged[next(iter(self._logged))]
        self._forget_windows()

    def _forget_windows(self) -> None:
        """Keep the most recent windows in memory, and all that are yet to be written."""
        unwritten = self._batch.windows if self._batch is not None else {}
        for place in list(self._windows)[: max(0, len(self._windows) - MAX_WINDOWS_IN_MEMORY)]:
            if place not in unwritten:
                del self._windows[place]
