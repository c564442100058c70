"""The service `paused`: where events wait whose task, chain or tenant is paused, so that those behind them are reached.

They come through the topic `paused` and lie in the table `paused`, on disk, in the lot that `infer` uses for what it
puts aside (`lot`). A bucket is what is released together: a chain and a tenant, or a single task of them. Once nothing
of it is paused any more its events go back, in their order, to the topic that they came from.
"""

import asyncio
from collections.abc import Callable

from callstream.agents.aside import Aside, Job
from callstream.agents.control.commands import Subject
from callstream.agents.control.controls import Controls, subject_in, subject_of
from callstream.agents.lot import Bucket, Lot, Parked
from callstream.agents.ports import Delivery, Policy
from callstream.streams.chain import Attempts, Cell
from callstream.streams.event import Event
from callstream.streams.ledger import Ticket
from callstream.streams.outcome import Again, Outcome
from callstream.streams.topics import PAUSED

MOST_PAUSED = 1_000_000
"""Events of one partition that lie in the table at most. Beyond, the topic is not read on until some are released."""
RELEASED_AT_ONCE = 64
LOOK_SECONDS = 0.25
LONGEST_SECONDS = 1e8


class PausedRole:
    """Sends an event on its way again, as it is."""

    service, stateful = PAUSED, False

    def __init__(self, controls: Controls, is_full: Callable[[], bool]) -> None:
        self._controls = controls
        self._is_full = is_full

    def policy(self, event: Event) -> Policy:
        """It waits as long as it must, in the table or, when that is full, here."""
        return Policy(PAUSED, Attempts(), LONGEST_SECONDS, traced=False)

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Back to its step, or into the table once more if something else of it is paused by now."""
        while True:
            paused = self._controls.paused(subject_of(event)) is not None
            if not (paused and self._is_full()):
                return Again(paused=paused)
            await asyncio.sleep(LOOK_SECONDS)


class PausedAside(Aside):
    """Puts aside every event that is paused, and takes back those that are not any more."""

    def __init__(
        self, lot: Lot, has_place: Callable[[str], bool], parked: Callable[[Delivery], Parked], controls: Controls
    ) -> None:
        super().__init__(lot, RELEASED_AT_ONCE, has_place, parked)
        self._controls = controls

    def job(self, delivery: Delivery, ticket: Ticket[Delivery]) -> Job:
        """A job for what was read."""
        return Job(delivery, ticket, self._bucket(delivery))

    def takes(self, job: Job) -> bool:
        """Whether it is paused, and there is room for it."""
        if self.lot.full(job.delivery.partition):
            job.bucket = None
        return job.bucket is not None

    def next(self) -> Job | None:
        """An event that may go on its way."""
        if self.in_hand >= RELEASED_AT_ONCE:
            return None
        for topic in self.lot.topics():
            while bucket := next((one for one in self.lot.buckets(topic) if not self._is_paused(one)), None):
                if (parked := self.lot.take(bucket)) is not None:
                    return Job(parked, None, bucket, parked)
        return None

    def _bucket(self, delivery: Delivery) -> Bucket | None:
        subject = subject_in(delivery.headers)
        pause = self._controls.paused(subject)
        if subject is None or pause is None:
            return None
        queue = subject.chain if pause.scope.task is None else f"{subject.chain}:{subject.task}"
        return Bucket(delivery.topic, queue, subject.tenant)

    def _is_paused(self, bucket: Bucket) -> bool:
        chain, _, task = bucket.queue.partition(":")
        return self._controls.paused(Subject(bucket.tenant, task, chain, 0.0)) is not None
