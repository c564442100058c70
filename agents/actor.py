"""The one actor loop: take → decode → admit → act → perform → finish; what lies between take and finish is `handling`.

Every service runs this loop; services differ only in their role's `act`. Demand is the limit less what runs: the next
delivery is taken only when there is room, so that what cannot run stays in Kafka. No exception leaves the loop.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

from callstream.agents.aside import MOST_PUT_AT_ONCE, Aside, Job
from callstream.agents.control.controls import subject_in
from callstream.agents.control.stopping import Stops
from callstream.agents.handling import Handling
from callstream.agents.ports import Delivery, Observer, Ports, Role
from callstream.agents.rounds import Rounds
from callstream.agents.trying import Trying
from callstream.streams.chain import Chains
from callstream.streams.ledger import Ledger, LedgerSnapshot, Ticket
from callstream.streams.ownership import LostOwnership
from callstream.streams.wire import LogUnavailable, decode

log = logging.getLogger("callstream.actor")

CANCELLED_SECONDS = 5.0
"""How long a drain waits for what it has cancelled."""
SHELTERED_AT = 1_024
"""Unacknowledged events at which those that are worked on are put into the lot too: the log is read on behind them."""
LOT_SECONDS = 0.25
"""How soon the lot of a partition that has come is looked at."""


@dataclass(frozen=True, slots=True)
class ActorSnapshot:
    """What an actor has in hand: events running now, the ledger, and totals since it started."""

    service: str
    running: int
    ledger: LedgerSnapshot
    taken: int
    finished: int


class Actor:
    """Runs one role over any number of streams of deliveries (one for each topic that the service reads).

    `handling` is what is done with each event. `most_of_a_topic` bounds what runs of one topic, where several are read
    and a backlog of one must leave room for the others; `aside` is where a backlog of one tenant or pool is put, so
    that it leaves room too.
    """

    def __init__(self, role: Role, ports: Ports, chains: Chains, concurrency: int, max_unfinished: int) -> None:
        self.role = role
        self._ports = ports
        self._concurrency = concurrency
        self._max_unfinished = max_unfinished
        self._ledger: Ledger[Delivery] = Ledger()
        self._running: dict[asyncio.Future[None], Job] = {}
        self._putting: dict[asyncio.Future[None], Job] = {}
        self._observer = role if isinstance(role, Observer) else None
        self._freed = asyncio.Event()
        self._trying = Trying(role, ports, chains)
        self.rounds = Rounds(self._trying, role.service, ports, chains)
        self.handling = Handling(role, ports, chains, self.rounds)
        self._closed = False
        self._handing_over = False
        self._revocations = 0
        self._running_of: Counter[str] = Counter()
        self.most_of_a_topic = concurrency
        self.aside: Aside | None = None
        self.stops: Stops | None = None
        self.taken = 0
        self.finished = 0

    @property
    def trying(self) -> Trying:
        """How its events are tried."""
        return self._trying

    @property
    def progress(self) -> int:
        """Grows with each try that ended without an outcome."""
        return self._trying.retries

    @property
    def resting(self) -> bool:
        """Whether its service is paused: what runs may finish, and nothing begins."""
        return self.stops is not None and self.stops.resting

    async def run(self, deliveries: AsyncIterator[Delivery]) -> None:
        """Take deliveries while there is room, until the stream ends or the actor is drained."""
        async for delivery in deliveries:
            revocations = self._revocations
            if self.aside is not None:
                await self.aside.lot.open(delivery.partition)
            while self._handing_over or self.resting:
                await self._wait_for_change()
            if self._closed:
                return
            if revocations != self._revocations:
                # It was read before its partition went: whoever has it now reads it again.
                continue
            ticket = self._ledger.take((delivery.topic, delivery.partition), delivery.offset, delivery)
            if ticket is None:
                continue
            self.taken += 1
            self._take(Job(delivery, ticket) if self.aside is None else self.aside.job(delivery, ticket), ticket)
            while not self._reads_on(delivery):
                await self._wait_for_change()

    async def keep_lot(self) -> None:
        """Begin what is in the lot of each partition that comes; for ever."""
        while self.aside is not None:
            for partition in self.aside.lot.partitions():
                await self.aside.lot.open(partition)
            self._take_back()
            await asyncio.sleep(LOT_SECONDS)

    async def keep_stopped(self) -> None:
        """Stop what is to stop and could not at once, and what waits in the service's table; for ever."""
        while self.stops is not None:
            await asyncio.sleep(LOT_SECONDS)
            if self.stops.controls.any:
                self._cut()
                await self.stops.end_waiting(self._begin_all)

    def commanded(self) -> None:
        """Commands have changed: cut what must stop, begin what may go on."""
        self._cut()
        self._take_back()
        self._freed.set()

    def _cut(self) -> None:
        if self.stops is not None and (cut := set(map(id, self.stops.cuts(self._running.values())))):
            for work in [work for work, job in self._running.items() if id(job) in cut]:
                work.cancel()

    async def _begin_all(self, jobs: list[Job]) -> None:
        """Begin these beside what was read, and wait for their end for a while."""
        known = set(map(id, jobs))
        for job in jobs:
            self._begin(job)
        if works := [work for work, job in self._running.items() if id(job) in known]:
            await asyncio.wait(works, timeout=CANCELLED_SECONDS)

    async def hand_over(self, seconds: float) -> bool:
        """Begin nothing until `revoke`, and give what runs that long to finish; whether all of it did.

        What finishes before its partition goes is not done again by the next owner: a model call is paid once.
        """
        self._handing_over = True
        return await self._finished_within(seconds)

    def revoke(self) -> None:
        """Cancel what runs and forget every partition: called before the partitions go to their next owners."""
        self._handing_over = False
        self._revocations += 1
        unfinished = self._ledger.revoke()
        for task, job in (self._running | self._putting).items():
            job.gone = True
            task.cancel()
        if self.aside is not None:
            self.aside.lot.forget()
        self._freed.set()
        if unfinished:
            log.info(
                "revoked: %d unfinished events go back to the log",
                len(unfinished),
                extra={"service": self.role.service},
            )

    async def drain(self, seconds: float) -> bool:
        """Take nothing more and give what runs that long to finish; False if some of it had to be cancelled."""
        self._closed = True
        await self._finished_within(seconds)
        left = [task for task in (*self._running, *self._putting) if not task.done()]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=CANCELLED_SECONDS)
        return not left

    def snapshot(self) -> ActorSnapshot:
        """What it has in hand."""
        return ActorSnapshot(self.role.service, len(self._running), self._ledger.snapshot(), self.taken, self.finished)

    async def _finished_within(self, seconds: float) -> bool:
        if self._running and seconds > 0:
            await asyncio.wait(list(self._running), timeout=seconds)
        return not self._running

    async def _wait_for_change(self) -> None:
        self._freed.clear()
        await self._freed.wait()

    def has_place(self, topic: str) -> bool:
        """Whether one more event of a topic may be worked on."""
        return len(self._running) < self._concurrency and self._running_of[topic] < self.most_of_a_topic

    def _reads_on(self, delivery: Delivery) -> bool:
        """Whether there is room for whatever comes next: to be worked on, or in the lot."""
        if len(self._ledger) >= self._max_unfinished:
            return False
        if self.aside is None or self.aside.lot.full(delivery.partition):
            return self.has_place(delivery.topic)
        return len(self._putting) < MOST_PUT_AT_ONCE

    def _take(self, job: Job, ticket: Ticket[Delivery]) -> None:
        if self.aside is None or self._is_cancelled(job) or not self.aside.takes(job):
            self._begin(job, self._observe(job.delivery, ticket))
            return
        self._put_aside(job)
        if len(self._ledger) > SHELTERED_AT:
            for running in self._running.values():
                if running.bucket and running.ticket and not running.sheltering:
                    running.sheltering = True
                    self._put_aside(running)

    def _is_cancelled(self, job: Job) -> bool:
        """Whether it is of a cancelled task, which has nothing to wait for."""
        if self.stops is None or not self.stops.controls.any:
            return False
        return self.stops.ended(subject_in(job.delivery.headers))

    def _begin(self, job: Job, observed: "asyncio.Future[None] | None" = None) -> None:
        work = observed or asyncio.create_task(self._handle(job))
        self._running[work] = job
        self._running_of[job.delivery.topic] += 1
        if self.aside is not None:
            self.aside.began(job)
        # A task that is cancelled before its first step never runs a line of its own, so it can't free its room.
        work.add_done_callback(self._ended)

    def _put_aside(self, job: Job) -> None:
        work = asyncio.create_task(self._put(job))
        self._putting[work] = job
        work.add_done_callback(self._was_put)

    def _was_put(self, work: "asyncio.Future[None]") -> None:
        self._putting.pop(work, None)
        self._take_back()
        self._freed.set()

    def _take_back(self) -> None:
        """Begin what is in the lot, as far as there is room for it."""
        while self.aside is not None and not (self._closed or self._handing_over or self.resting):
            job = self.aside.next()
            if job is None:
                return
            self._begin(job)

    async def _put(self, job: Job) -> None:
        """Put an event aside, and count it as read once its row is on the log."""
        if self.aside is None or job.ticket is None:
            return
        try:
            await self.aside.put(job)
            self._finish(job.ticket)
        except Exception as error:
            self._failed(job, error)

    async def _handle(self, job: Job) -> None:
        try:
            await self.handling.handle(job, self.stops)
            if self.aside is not None:
                await self.aside.remove(job)
            if job.ticket is not None:
                self._finish(job.ticket)
            self.finished += 1
        except asyncio.CancelledError:
            if job.void or self._closed:
                return
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                self._ports.crashed(LogUnavailable("a send was cancelled: its record may not be on the log"))
            raise
        except Exception as error:
            self._failed(job, error)

    def _failed(self, job: Job, error: Exception) -> None:
        if isinstance(error, LostOwnership):
            lost = job.delivery
            log.info("%s/%d@%d: partition lost, left to its owner", lost.topic, lost.partition, lost.offset)
            if job.void:
                return
            # Else the assignment that it was taken in still stands, so nobody else would ever finish it.
        self._ports.crashed(error)

    def _observe(self, delivery: Delivery, ticket: Ticket[Delivery]) -> "asyncio.Future[None] | None":
        """Have an observer look at an event, without a task of its own; None if it takes more than a look."""
        if self._observer is None:
            return None
        try:
            event = decode(delivery.value, delivery.headers)
            if self._ports.partition_of(event.key) != delivery.partition:
                return None
            observed = self._observer.observe(event, self._ports.cell(event.key, delivery))
        except Exception:
            # Whatever it was, a task meets it again and answers for it.
            return None
        observed.add_done_callback(partial(self._observed, ticket))
        return observed

    def _observed(self, ticket: Ticket[Delivery], observed: "asyncio.Future[None]") -> None:
        error = LogUnavailable("what was observed was dropped") if observed.cancelled() else observed.exception()
        if ticket.void or (observed.cancelled() and self._closed):
            return
        if error is not None:
            self._ports.crashed(error)
        else:
            self._finish(ticket)
            self.finished += 1

    def _finish(self, ticket: Ticket[Delivery]) -> None:
        for released in self._ledger.finish(ticket):
            released.ack()

    def _ended(self, work: "asyncio.Future[None]") -> None:
        job = self._running.pop(work, None)
        if job is not None:
            job.ended = True
            self._running_of[job.delivery.topic] -= 1
            if self.aside is not None:
                self.aside.ended(job)
                self._take_back()
        self._freed.set()
