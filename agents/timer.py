"""The timer: takes records that are to be sent later, keeps each in a row until its time, and sends it then.

A record counts as read once its row is on the changelog. A row goes once its record is on the topic that it is for; a
crash between sends the record again, which bears the same id and is recognised by it. Nothing runs for a row that
waits, so a million of them cost disk and no memory.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from callstream.agents.ports import Policy
from callstream.streams.blobs import BlobStore, check_out
from callstream.streams.chain import Attempts, Cell
from callstream.streams.event import Event, Failure, Json
from callstream.streams.outcome import Bury, Keep, Outcome
from callstream.streams.ownership import Claim, LostOwnership
from callstream.streams.timing import BadTimer, Timed, check_due, timed
from callstream.streams.topics import TIMER
from callstream.streams.wire import DATAREF, Record
from callstream.tables.timers import Due, Timers

log = logging.getLogger("callstream.timer")

LONGEST_SECONDS = 600.0
"""For a row to reach the log, which has its own time-out, and that stops the worker."""
LOOK_SECONDS = 0.05
KEPT_SHARE = 0.25
"""Of the time that blobs are kept. A body that waits longer is moved into its row, since it would be swept: one that
was put again is not renewed before half of that time is over."""

Send = Callable[[Sequence[Record], Claim], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A record as it came, in the place of a cell: the timer keeps records, not what they say."""

    claim: Claim
    key: bytes
    raw: bytes
    headers: Sequence[tuple[str, bytes | None]]

    @property
    def value(self) -> Json | None:
        """Nothing is remembered about a task."""
        return None

    async def save(self, value: Json) -> None:
        """Raises TypeError."""
        raise TypeError("the timer keeps records, no state of tasks")


class TimerRole:
    """What the service does with what it reads. `destinations` are the topics that it sends to; `clock` epoch seconds.

    A record for another topic is buried: a broker that does not have the topic would stop the worker again and again.
    """

    service = TIMER
    stateful = False

    def __init__(
        self, timers: Timers, destinations: frozenset[str], blobs: BlobStore, clock: Callable[[], float]
    ) -> None:
        self._timers = timers
        self._destinations = destinations
        self._blobs = blobs
        self._clock = clock

    def policy(self, event: Event) -> Policy:
        """One try: what can fail here is the log."""
        return Policy(TIMER, Attempts(most=1), LONGEST_SECONDS, traced=False)

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Keep the record; done when the log has its row."""
        if not isinstance(state, Arrival):
            raise TypeError("the timer needs the record itself")
        try:
            found = timed(event.key, state.raw, state.headers)
            self._check(found)
        except ValueError as error:
            return Bury(Failure(kind="timer", message=str(error), step=TIMER))
        await self._timers.put(state.claim, await self._whole(found))
        return Keep()

    def _check(self, found: Timed) -> None:
        if found.record.topic not in self._destinations:
            raise BadTimer(f"{found.record.topic[:80]!r} is no topic of this worker's chains")
        try:
            check_due(found.due / 1_000_000, self._clock())
        except ValueError as error:
            raise BadTimer(f"its time {error}") from None

    async def _whole(self, found: Timed) -> Timed:
        """With its body, if that would be gone from the blob store when it is due."""
        kept_seconds = self._blobs.options.keep_hours * 3600 * KEPT_SHARE
        record = found.record
        if record.value or found.due / 1_000_000 < self._clock() + kept_seconds:
            return found
        body = await check_out(record.value, record.headers, self._blobs) or b""
        headers = [(name, raw) for name, raw in record.headers if name != DATAREF]
        return Timed(found.due, Record(record.topic, record.key, body, headers))


class Releaser:
    """Sends what is due, of all partitions at once, each in its order.

    `send` puts records onto the log in their order and returns when the broker has them; `failed` ends the worker.
    """

    def __init__(
        self, timers: Timers, send: Send, clock: Callable[[], float], failed: Callable[[BaseException], None]
    ) -> None:
        self._timers = timers
        self._send = send
        self._clock = clock
        self._failed = failed
        self._stepping = asyncio.Lock()
        self._handing_over = False
        self._closed = False
        self.resting: Callable[[], bool] = lambda: False
        """Whether the service is paused: what is due waits, too."""
        self.released = 0

    async def run(self) -> None:
        """Send what comes due, until cancelled."""
        while True:
            if not await self.step():
                await asyncio.sleep(LOOK_SECONDS)

    async def step(self) -> int:
        """Send what is due now, a batch of each partition; gives how many records."""
        async with self._stepping:
            if self._closed or self._handing_over or self.resting():
                return 0
            now = self._clock()
            batches = [(claim, self._timers.due(claim, now)) for claim in self._timers.claims()]
            return sum(await asyncio.gather(*(self._release(claim, batch) for claim, batch in batches if batch)))

    async def release_early(self, wanted: Callable[[Record], bool]) -> None:
        """Send those that are wanted, whenever they are due. O(n) of all rows."""
        for claim in self._timers.claims():
            after = b""
            while True:
                async with self._stepping:
                    page = [] if self._closed or self._handing_over else self._timers.page(claim, after)
                    if not page:
                        break
                    if batch := [due for due in page if wanted(due.timed.record)]:
                        await self._release(claim, batch)
                after = page[-1].key
                await asyncio.sleep(0)

    async def hand_over(self, seconds: float) -> bool:
        """Begin no batch until `revoke`, and give the one that is under way that long; whether it came to its end."""
        self._handing_over = True
        return await self._idle_within(seconds)

    def revoke(self) -> None:
        """The partitions go to their next owners, who find the rows that are left."""
        self._handing_over = False
        self._timers.forget()

    async def drain(self, seconds: float) -> bool:
        """Begin nothing more, and give what is under way that long."""
        self._closed = True
        return await self._idle_within(seconds)

    async def _idle_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds), self._stepping:
                return True
        except TimeoutError:
            return False

    async def _release(self, claim: Claim, batch: list[Due]) -> int:
        try:
            await self._send([due.timed.record for due in batch], claim)
            await asyncio.gather(*(self._timers.remove(claim, due) for due in batch))
        except LostOwnership:
            log.info("partition %d of the timer was lost: its next owner sends what is due", claim.partition)
            return 0
        except Exception as error:
            self._failed(error)
            return 0
        self.released += len(batch)
        return len(batch)
