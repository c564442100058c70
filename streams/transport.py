"""Faust's Kafka transport with the guarantees that its own one lacks.

An idempotent producer with acks=all, whose records never expire unnoticed; a consumer that tells its app of a
revocation before anything else hears of it, and commits what was acknowledged before the partitions go. Both ask a
broker that is away for news at a steady pace.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Mapping
from functools import partial
from typing import Any, Protocol, cast

from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from callstream.streams.records import read_any_header
from callstream.streams.topics import is_changelog

log = logging.getLogger("callstream.transport")

COMMIT_ON_REVOKE_SECONDS = 3.0
MAX_BUFFERED_CHANGES = 100_000
MEMBER_SECONDS = 0.1
RECOVERY_FETCH_SECONDS = 0.1
FETCH_WAIT_MILLISECONDS = 200
"""How long the broker may keep an empty fetch: what else is asked on that connection waits behind it, so that with
Faust's 1,500 the recovery of an empty table took six seconds."""
FETCH_PAUSE_SECONDS = 0.02
"""Between two fetches of a stream that flows: what comes meanwhile comes together, at the cost of one fetch. A record
that comes to a stream at rest does not wait."""
CANCEL_SECONDS = 0.1
METADATA_SECONDS = 0.1
"""Least time between two questions of a client for metadata."""


def paced(client: Any) -> None:
    """Have an aiokafka client ask for metadata ten times a second at most.

    While a partition has no leader, its fetcher and its sender ask again the moment they have an answer or none: with
    the broker away, each client of a worker burns a core until it is back.
    """
    ask = client._metadata_update
    last = time.monotonic() - METADATA_SECONDS

    async def ask_later(*arguments: Any) -> bool:
        nonlocal last
        await asyncio.sleep(last + METADATA_SECONDS - time.monotonic())
        last = time.monotonic()
        answered: bool = await ask(*arguments)
        return answered

    client._metadata_update = ask_later


async def ended(fetcher: Any, close: Callable[[], Awaitable[None]]) -> None:
    """End what an aiokafka fetcher has under way, then close it.

    It cancels its requests and awaits each: where one waits for its next try, as all do with the broker away, the
    cancellation comes out of the consumer's stop, and ends the thread before it has said that it has stopped.
    """
    fetcher._closed = True
    while not fetcher._fetch_task.done():
        # Again, since it swallows one that comes while it cancels its requests itself.
        fetcher._fetch_task.cancel()
        await asyncio.wait([fetcher._fetch_task], timeout=CANCEL_SECONDS)
    pending, fetcher._pending_tasks = fetcher._pending_tasks, set()
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    await close()


class IdempotentProducer(driver.Producer):
    """acks=all and a producer id: the broker drops what a retry sends twice, and keeps the order."""

    async def on_start(self) -> None:
        """Lift the buffer's bound first: a hundred table changes would hold up the whole consumer."""
        self.buffer.max_messages = MAX_BUFFERED_CHANGES
        await super().on_start()

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}

    def _new_producer(self, transactional_id: str | None = None) -> Any:
        producer = super()._new_producer(transactional_id)
        paced(producer.client)
        return producer


class Owner(Protocol):
    """What the consumer tells its app."""

    async def handing_over(self) -> None:
        """The group asks for the partitions; they go when this returns."""

    def partitions_going(self) -> None:
        """Everything this worker owned goes back to the group, now."""

    def partitions_coming(self, partitions: set[int]) -> None:
        """The group gave these partitions to this worker."""


class PacedConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread that an aiokafka consumer runs in."""

    def _create_worker_consumer(self, transport: driver.Transport) -> Any:
        read_any_header()
        transport.app.conf.consumer_group_instance_id = cast(Any, transport.app).member()
        consumer = super()._create_worker_consumer(transport)
        paced(consumer._client)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MILLISECONDS
        return consumer

    def close(self) -> None:
        """Nothing: a rebalance has met a stop, which closes the consumer in this thread a moment later.

        Faust closes its connections at once, in the app's thread, while this one reads from them: with uvloop, now and
        then, a segmentation fault.
        """

    def _stopped_set(self) -> None:
        """Say that it stops. In a crash of the app the thread ends by itself, and may have closed its loop by now.

        Faust would then raise in the app's stop, and not wait for the thread.
        """
        try:
            super()._stopped_set()
        except RuntimeError:
            if not self.thread_loop.is_closed():
                raise
            # In a loop that is closed nobody waits for it.
            self._stopped.set()

    async def on_start(self) -> None:
        """Start the consumer, whose fetcher is to end as it should."""
        await super().on_start()
        consumer = self._ensure_consumer()
        consumer._fetcher.close = partial(ended, consumer._fetcher, consumer._fetcher.close)

    async def on_thread_stop(self) -> None:
        """Leave the group, as aiokafka would not: who stops for good has its partitions taken over at once."""
        if self._consumer is not None and self._consumer._coordinator is not None:
            self._consumer._coordinator._group_instance_id = None
        await super().on_thread_stop()

    async def _fetch_records(
        self, consumer: Any, active_partitions: set[TP], timeout: float | None = None, max_records: int | None = None
    ) -> Any:
        """Take records of the partitions that are active now and of no others.

        The set changes while a fetch waits. Once it is empty aiokafka gives the records of all, and Faust throws those
        of paused partitions away: their reader then stood behind records that nobody had seen. A fetch may begin before
        a rebalance and end after the partition was sought and before it is resumed, so it takes back what it read then.
        """
        now = set(active_partitions)
        if not now:
            return {}
        if all(is_changelog(tp.topic) for tp in now):
            # A recovery: what streams read becomes active soon, and this fetch would not look at it.
            timeout = RECOVERY_FETCH_SECONDS
        records = dict(await super()._fetch_records(consumer, now, timeout, max_records))
        wanted = self.consumer._get_active_partitions() | self.consumer._buffered_partitions
        for tp in [one for one in records if one not in wanted]:
            first = records.pop(tp)[0].offset
            if consumer._subscription.is_assigned(tp):
                consumer._fetcher.seek_to(tp, first)
        return records


class Begun:
    """A coroutine that was begun outside its task and stands at its first wait: awaiting it goes on from there."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], waits_for: Any) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        """Hand each wait to whoever awaits this, and back what comes of it."""
        while True:
            thrown: BaseException | None = None
            answer: Any = None
            try:
                answer = yield self._waits_for
            except BaseException as error:
                thrown = error
            try:
                coroutine = self._coroutine
                self._waits_for = coroutine.throw(thrown) if thrown is not None else coroutine.send(answer)
            except StopIteration:
                return

    async def finish(self) -> None:
        """The rest, as a coroutine."""
        await self


class OwningConsumer(driver.Consumer):
    """A consumer whose app (`callstream.streams.engine.ServiceApp`) hears first of what it owns."""

    def __post_init__(self) -> None:
        self._pressing: set[TP] = set()
        self._to_resume: set[TP] = set()
        self._next_fetch = 0.0

    async def _wait_next_records(self, timeout: float) -> Any:
        pause = self._next_fetch - time.monotonic()
        if pause > 0:
            await asyncio.sleep(pause)
        records, active = await super()._wait_next_records(timeout)
        if records and not any(is_changelog(tp.topic) for tp in records):
            self._next_fetch = time.monotonic() + FETCH_PAUSE_SECONDS
        return records, active

    def _new_consumer_thread(self) -> PacedConsumerThread:
        return PacedConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Go to these offsets; a recovery that a rebalance has overtaken has none for what came meanwhile.

        Faust would let aiokafka raise ValueError for that, and end, where it is about to begin the recovery anew.
        """
        await super().seek_wait({tp: max(0, offset or 0) for tp, offset in partitions.items()})

    def _new_offset(self, tp: TP) -> int | None:
        """What may be committed: behind the last acknowledged offset, since events are acknowledged in their order.

        Faust would work that out from acknowledgements in any order, and there takes for done whatever it did not
        hand over itself, such as the event under way when a recovery's end moves its own mark back.
        """
        acked = self._acked[tp]
        if not acked:
            return None
        last = max(acked)
        self._acked_index[tp].difference_update(acked)
        acked.clear()
        return last + 1

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Nothing: a gap needs no care where only the last acknowledged offset counts."""

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Resume changelogs at once, and what streams read when it has been sought to where the group is.

        Faust resumes first: events flow from wherever the reader stands, and come again after the seek.
        """
        given = set(tps)
        self._to_resume |= {tp for tp in given if not is_changelog(tp.topic)}
        super().resume_partitions(given - self._to_resume)

    async def perform_seek(self) -> None:
        """Go to where the group is, then let flow what waits for that."""
        await super().perform_seek()
        resuming, self._to_resume = self._to_resume & self.assignment(), set()
        super().resume_partitions(resuming)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Go back to what was committed, and to the beginning of a partition of which nothing was.

        aiokafka leaves such a partition where it stands. What was fetched of it while Faust's flow was stopped, as
        during a rebalance, is gone by then: the first records of a new topic would never be worked on.
        """
        committed = await super().seek_to_committed()
        if fresh := [tp for tp, offset in committed.items() if not offset and not is_changelog(tp.topic)]:
            # Not seek_to_beginning, which takes the position away until it has been found.
            await self.seek_wait(await self.earliest_offsets(*fresh))
        return committed

    def on_buffer_full(self, tp: TP) -> None:
        """Pause a topic as a whole.

        Faust pauses the one partition whose record came last; the next polls of the others fill the buffer up, and a
        full buffer stops every topic of the service.
        """
        self._pressing.add(tp)
        for each in [one for one in self._get_active_partitions() if one.topic == tp.topic]:
            super().on_buffer_full(each)

    def on_buffer_drop(self, tp: TP) -> None:
        """Let a topic flow again once Faust would let each partition flow that it has told of: it tells each once."""
        self._pressing.discard(tp)
        if not any(one.topic == tp.topic for one in self._pressing):
            for each in [one for one in self._buffered_partitions if one.topic == tp.topic]:
                super().on_buffer_drop(each)

    async def verify_all_partitions_active(self) -> None:
        """Nothing: `streams.watchdog` looks for stalls; Faust's own look ends a consumer that has no position yet."""

    async def wait_first(self, *coros: Any, timeout: Any = None) -> Any:
        """Faust waits for each event's hand-over with two tasks of their own; a hand-over that need not wait has none.

        The first of two coroutines is begun here. If it ends at once, as it does unless a buffer is full or the flow
        is suspended, nothing else was needed.
        """
        if len(coros) == 2 and timeout is None and all(asyncio.iscoroutine(each) for each in coros):
            hand_over, suspended = coros
            try:
                waits_for = hand_over.send(None)
            except StopIteration:
                suspended.close()
                return None
            coros = (Begun(hand_over, waits_for).finish(), suspended)
        return await super().wait_first(*coros, timeout=timeout)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Let what runs finish, void every claim, commit what is done, then let Faust close the tables."""
        owner = cast(Owner, self.app)
        if revoked and self._is_member():
            handing = asyncio.ensure_future(owner.handing_over())
            while not handing.done() and self._is_member():
                await asyncio.wait([handing], timeout=MEMBER_SECONDS)
            handing.cancel()
        owner.partitions_going()
        self._buffered_partitions.clear()
        self._pressing.clear()
        self._to_resume.clear()
        try:
            async with asyncio.timeout(COMMIT_ON_REVOKE_SECONDS):
                await self.commit()
        except Exception as error:
            log.info("no commit before the rebalance (%r): some finished events will come again", error)
        await super().on_partitions_revoked(revoked)

    def _is_member(self) -> bool:
        """Whether the group still counts on this consumer, so that nobody else has its partitions yet."""
        return not self.app.should_stop and self._thread._ensure_consumer()._coordinator.generation >= 0

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Let Faust open and recover the tables; events flow, and claims count, from then on."""
        cast(Owner, self.app).partitions_coming({tp.partition for tp in assigned if not is_changelog(tp.topic)})
        await super().on_partitions_assigned(assigned, generation_id)


class Transport(driver.Transport):
    """What `ServiceApp` uses in place of Faust's own transport."""

    Consumer = OwningConsumer
    Producer = IdempotentProducer
