"""Which events an actor puts aside, and which it takes back: so that no backlog keeps others out of sight.

A bucket (`lot.Bucket`: a topic's events of one tenant that wait for one pool) may have its portion of the actor's
places, and one portion is always left for a bucket that is not there yet. What comes beyond that is put aside.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from itertools import islice

from callstream.agents.control.commands import Subject
from callstream.agents.control.controls import subject_in
from callstream.agents.lot import Bucket, Lot, Parked
from callstream.agents.ports import Delivery
from callstream.streams.event import Event, Json
from callstream.streams.ledger import Ticket
from callstream.streams.topics import lane_in

MOST_PUT_AT_ONCE = 64
MOST_PARKED_BYTES = 1 << 20
"""Of an event that is put aside: escaped as JSON it still fits into a change. Ours are claim checks long before."""
MOST_REPORTED = 100


@dataclass(slots=True, eq=False)
class Job:
    """An event that an actor works on or puts aside. `ticket` is its place in the ledger, unless it was in the lot.

    `parked` is set while it has a row in the lot; `sheltering` once it is to have one, so that its ticket need not wait
    for its end; `gone` when its partition was revoked; `event` while its step decides about it, and `cut` when that is
    stopped by a command.
    """

    delivery: Delivery
    ticket: Ticket[Delivery] | None
    bucket: Bucket | None = None
    parked: Parked | None = None
    sheltering: bool = False
    ended: bool = False
    gone: bool = False
    event: Event | None = None
    cut: bool = False

    @property
    def void(self) -> bool:
        """Whether its next owner does it again."""
        return self.gone or (self.ticket is not None and self.ticket.void)


class Aside:
    """The lot of one actor, and how much each bucket has in hand.

    `places` is how many events of one topic are worked on at most; `has_place` whether one more of a topic may be;
    `parked` makes an event of the lot from a delivery.
    """

    def __init__(
        self, lot: Lot, places: int, has_place: Callable[[str], bool], parked: Callable[[Delivery], Parked]
    ) -> None:
        self.lot = lot
        self._places = places
        self._has_place = has_place
        self._parked = parked
        self._in_hand: Counter[Bucket] = Counter()
        self._there: Counter[str] = Counter()

    @property
    def in_hand(self) -> int:
        """Events with a bucket that are worked on."""
        return self._in_hand.total()

    def job(self, delivery: Delivery, ticket: Ticket[Delivery]) -> Job:
        """A job for what was read."""
        small = len(delivery.value or b"") <= MOST_PARKED_BYTES
        return Job(delivery, ticket, self.lot.bucket(delivery.topic, delivery.headers) if small else None)

    def takes(self, job: Job) -> bool:
        """Whether this event is put aside instead of begun."""
        if job.bucket is None or self.lot.full(job.delivery.partition):
            return False
        topic = job.bucket.topic
        if self.lot.waiting(job.bucket) or self._in_hand[job.bucket] >= self._portion(topic):
            return True
        return not self._has_place(topic) or self._is_here(job)

    def began(self, job: Job) -> None:
        """One more in hand."""
        if job.bucket is not None:
            self._in_hand[job.bucket] += 1
            self._there[job.bucket.topic] += self._in_hand[job.bucket] == 1

    def ended(self, job: Job) -> None:
        """One less."""
        if job.bucket is not None:
            self._in_hand[job.bucket] -= 1
            if not self._in_hand[job.bucket]:
                del self._in_hand[job.bucket]
                self._there[job.bucket.topic] -= 1

    def next(self) -> Job | None:
        """An event of the lot that may be begun: of the bucket whose turn it is, of those below their portion."""
        for topic in self.lot.topics():
            if not self._has_place(topic):
                continue
            portion = self._portion(topic)
            # A bucket of which nothing could be taken is gone afterwards.
            while bucket := next((one for one in self.lot.buckets(topic) if self._in_hand[one] < portion), None):
                if (parked := self.lot.take(bucket)) is not None:
                    return Job(parked, None, bucket, parked)
        return None

    async def put(self, job: Job) -> None:
        """Write an event's row, unless it has one: its topic was read again. Raises LostOwnership, LogUnavailable."""
        if job.bucket is None or self._is_here(job):
            return
        parked = self._parked(job.delivery)
        await self.lot.put(job.bucket, parked, taken=job.sheltering)
        if job.sheltering:
            job.parked = parked
            if job.ended:
                await self.remove(job)

    async def remove(self, job: Job) -> None:
        """Its work is done: its row goes, if it has one. Raises LostOwnership, LogUnavailable."""
        if job.parked is not None and job.bucket is not None:
            await self.lot.remove(job.bucket, job.parked)

    async def cancelled(self, wanted: Callable[[Subject | None], bool]) -> AsyncIterator[list[Job]]:
        """The events of the lot whose tasks are wanted, as jobs."""
        async for found in self.lot.pick(lambda headers: wanted(subject_in(headers))):
            yield [Job(parked, None, bucket, parked) for bucket, parked in found]

    def report(self, queue: str) -> list[Json]:
        """How many events of a queue wait in the lot, by lane and tenant: of the first `MOST_REPORTED` buckets."""
        buckets = (one for topic in self.lot.topics() for one in self.lot.buckets(topic) if one.queue == queue)
        return [
            {"lane": lane_in(one.topic), "tenant": one.tenant, "events": self.lot.waiting(one)}
            for one in islice(buckets, MOST_REPORTED)
        ]

    def _portion(self, topic: str) -> int:
        return max(1, self._places // (max(self._there[topic], self.lot.count(topic)) + 1))

    def _is_here(self, job: Job) -> bool:
        return job.bucket is not None and self.lot.has(job.bucket, job.delivery.partition, job.delivery.offset)
