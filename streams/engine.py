"""Faust apps with callstream's guarantees: what every service runs on.

A `ServiceApp` is a Faust app whose events are acknowledged by hand, whose sends are awaited to the broker, and which
knows what it owns. `tests/system/test_faust_defects.py` holds a test for each defect of Faust that is worked round.
"""

import asyncio
import hashlib
import importlib.util
import logging
import os
import socket
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, cast

import faust
from aiokafka.errors import KafkaError
from faust.app.base import BootStrategy
from faust.exceptions import ConsumerNotStarted, ProducerSendError
from faust.transport.consumer import Consumer
from faust.types import StreamT, TopicT
from faust.types.tuples import RecordMetadata
from mode.utils.objects import cached_property
from pydantic import BaseModel, ConfigDict, Field

from callstream.streams.broker.state import write_whole
from callstream.streams.cluster import Cluster
from callstream.streams.engine_options import EngineOptions
from callstream.streams.flow import SteadyFlow
from callstream.streams.foreseen import Foreseen
from callstream.streams.in_a_row import take_in_a_row
from callstream.streams.keys import partition_of
from callstream.streams.monitor import QuietMonitor
from callstream.streams.outstanding import Outstanding, Overdue
from callstream.streams.ownership import Claim, Ownership
from callstream.streams.topics import group_of, is_changelog, is_ours
from callstream.streams.transport import Transport
from callstream.streams.watchdog import Stalled, Watchdog, stood_still
from callstream.streams.wire import MAX_RECORD_BYTES, Headers, LogUnavailable, Record

log = logging.getLogger("callstream.engine")


BEAT_SECONDS = 0.5
LEASE_SHARE = 0.8
HEARTBEAT_SHARE = 0.3
"""Of the session time-out, between heartbeats."""
REQUEST_SECONDS = 90.0
"""What a request to the broker may last."""
MEMBER_FILE = "member"
BATCH_BYTES = 256 * 1024
"""Of one partition's records in a request. An idempotent producer has one under way for each: with Kafka's 16 KiB, ten
records wait for each other's confirmation."""
Positive = Annotated[float, Field(gt=0)]


class EngineUnfit(Foreseen):
    """This installation cannot keep callstream's guarantees; the message says what to do."""


class FaustDelivery:
    """One record as Faust handed it over, with the claim under which it was taken."""

    __slots__ = ("_event", "claim", "headers", "key", "offset", "partition", "topic", "value")

    def __init__(self, event: faust.EventT[Any], claim: Claim) -> None:
        message = event.message
        self._event = event
        self.claim = claim
        self.topic: str = message.topic
        self.partition: int = message.partition
        self.offset: int = message.offset
        self.key: bytes | None = message.key
        self.value: bytes | None = message.value
        self.headers: list[tuple[str, bytes | None]] = list(cast(list[tuple[str, bytes | None]], message.headers or ()))

    def ack(self) -> None:
        """Let Faust commit the offset."""
        self._event.ack()


class NoWebServer(BootStrategy):
    """Faust's own web server serves tables to anyone; `faust worker` turns it on whatever the app's settings say."""

    enable_web = False


class ServiceApp(faust.App):
    """The Faust app of one service.

    Callbacks: `opening` are awaited before the first event; `handing` when the group asks for the partitions, with the
    seconds that what runs may take, and `revoked` called the moment they go; `draining` awaited at a stop with the
    seconds that what runs may take, `closing` after that; `background` runs meanwhile. While it is `resting`, by order,
    lag without progress is no stall.

    `outlet` is the app whose producer sends for this one: services of one process share one, since many records in few
    requests cost the broker and the process less.
    """

    BootStrategy = NoWebServer

    def __init__(self, service: str, options: EngineOptions, layout: "Layout", **faust_options: Any) -> None:
        require_compiled_streams()
        take_in_a_row()
        layout.folder.mkdir(parents=True, exist_ok=True)
        self.service_name = service
        self.options = options
        self._folder = layout.folder / service
        self.partitions = layout.partitions
        self.ownership = Ownership(options.session_timeout_seconds * LEASE_SHARE, time.monotonic)
        self.handing: list[Callable[[float], Awaitable[object]]] = []
        self.revoked: list[Callable[[], None]] = []
        self.draining: list[Callable[[float], Awaitable[object]]] = []
        self.opening: list[Callable[[], Awaitable[object]]] = []
        self.closing: list[Callable[[], Awaitable[object]]] = []
        self.background: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self.progress: Callable[[], int] = lambda: 0
        self.resting: Callable[[], bool] = lambda: False
        self.failure: BaseException | None = None
        self.outlet: ServiceApp = self
        self.cluster = Cluster(layout.bootstrap)
        self._outstanding = Outstanding(options.delivery_timeout_seconds)
        super().__init__(
            group_of(service),
            broker=[f"kafka://{server}" for server in layout.bootstrap.split(",")],
            datadir=str(layout.folder / service),
            store="rocksdb://",
            topic_partitions=layout.partitions,
            topic_replication_factor=layout.replicas,
            topic_disable_leader=True,
            # Standbys fill the queue of a recovery with other partitions' changes, and Faust then misses its end.
            table_standby_replicas=0,
            reply_create_topic=False,
            web_enabled=False,
            Monitor=QuietMonitor,
            stream_wait_empty=False,
            stream_buffer_maxsize=options.buffer_records,
            broker_max_poll_records=options.poll_records,
            broker_commit_interval=options.commit_interval_seconds,
            broker_session_timeout=options.session_timeout_seconds,
            # Faust takes no longer session than a request to the broker may last.
            broker_request_timeout=max(REQUEST_SECONDS, options.session_timeout_seconds),
            broker_heartbeat_interval=options.session_timeout_seconds * HEARTBEAT_SHARE,
            consumer_auto_offset_reset="earliest",
            producer_acks=-1,
            producer_linger=options.linger_seconds,
            producer_max_batch_size=BATCH_BYTES,
            producer_max_request_size=MAX_RECORD_BYTES * 2,
            producer_request_timeout=options.delivery_timeout_seconds,
            **faust_options,
        )

    def member(self) -> str:
        """This worker's name in its group. A killed worker that starts again in its folder takes its own place there.

        Nobody else stops for it then, and none waits for the dead one's session (KIP-345). Another place or other
        topics make another member: the folder is a copy, or the program a new one, whose topics have to be shared out.
        """
        file = self._folder / MEMBER_FILE
        if not file.exists():
            write_whole(file, uuid.uuid4().hex)
        read = sorted(name for agent in self.agents.values() for name in cast(TopicT, agent.channel).topics)
        place = [socket.gethostname(), str(self._folder.resolve()), str(self.conf.canonical_url)]
        told = [file.read_text(), *place, *read, *sorted(self.tables)]
        return hashlib.sha256("\n".join(told).encode()).hexdigest()[:32]

    @cached_property
    def flow_control(self) -> SteadyFlow:
        """The switch between the consumer and the streams' queues."""
        return SteadyFlow()

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    def _new_producer_transport(self) -> Transport:
        return Transport(self.conf.broker_producer, self)

    async def on_start(self) -> None:
        """Open what the role needs, then begin to watch the loop and the progress."""
        for opening in self.opening:
            await opening()
        await super().on_start()
        self.add_future(self._beat())
        self.add_future(self._watch())
        for background in self.background:
            self.add_future(background())

    async def on_stop(self) -> None:
        """Finish what runs and commit it before Faust takes the consumer away."""
        for draining in self.draining:
            await draining(self.options.drain_seconds)
        try:
            async with asyncio.timeout(5):
                await self.consumer.commit()
        except Exception as error:
            log.info("%s: no last commit (%r): some finished events will come again", self.service_name, error)
        await super().on_stop()
        for closing in self.closing:
            await closing()

    async def handing_over(self) -> None:
        """Let what runs finish, for `handover_seconds` at most: the group waits for this worker, which still owns all.

        Meant for a group that shares out anew because a worker came or went; one that has given the partitions away
        already waits for nobody.
        """
        await asyncio.gather(*(handing(self.options.handover_seconds) for handing in self.handing))

    def partitions_going(self) -> None:
        """Void every claim and cancel what runs."""
        self.ownership.revoke()
        for callback in self.revoked:
            callback()

    def partitions_coming(self, partitions: set[int]) -> None:
        """Claims on these count from now on."""
        self.ownership.assign(partitions)

    async def deliveries(self, stream: StreamT[Any]) -> AsyncIterator[FaustDelivery]:
        """The events of a stream, unacknowledged: the only way that callstream reads one.

        What the stream still holds of partitions that were revoked is left out: their next owner reads it again.
        """
        async for event in cast(faust.Stream[bytes], stream).noack().events():
            if event.message.partition in self.ownership.owned:
                yield FaustDelivery(event, self.ownership.claim(event.message.partition))

    async def produce(self, record: Record, claim: Claim | None = None) -> None:
        """Send a record to the partition of its key and wait until every replica in sync has it.

        On a topic that is not ours that is the one which any client would choose there.

        Raises LostOwnership when `claim` no longer stands, LogUnavailable when the broker does not take it.
        """
        if claim is not None:
            self.ownership.require(claim)
        partition = partition_of(record.key, self.partitions) if is_ours(record.topic) else None
        sent = await self.enqueue(record.topic, partition, record.key, record.value, record.headers)
        await self.delivered(sent, f"topic {record.topic}")

    async def enqueue(
        self, topic: str, partition: int | None, key: bytes, value: bytes | None, headers: Headers | None = None
    ) -> Awaitable[RecordMetadata]:
        """Hand a record to the producer; what comes back says when the broker has it. Raises LogUnavailable."""
        try:
            return await self.outlet.producer.send(topic, key, value, partition, None, headers)
        except (KafkaError, ProducerSendError) as error:
            raise LogUnavailable(f"topic {topic}: the producer did not take a record: {error!r}") from error

    def unconfirmed_seconds(self) -> float:
        """For how long the broker has not confirmed the oldest record that was sent."""
        return self._outstanding.oldest_seconds()

    async def delivered(self, sent: Awaitable[RecordMetadata], where: str) -> int:
        """Wait until the broker has a record and give its offset. Raises LogUnavailable.

        Whoever is cancelled meanwhile leaves the record with the producer.
        """
        try:
            return int((await self._outstanding.follow(cast("asyncio.Future[RecordMetadata]", sent))).offset)
        except (KafkaError, ProducerSendError, Overdue) as error:
            raise LogUnavailable(f"{where}: the broker did not take a record: {error!r}") from error

    def fail(self, error: BaseException) -> None:
        """End this worker: what it could not do must not be acknowledged, and a supervisor starts it afresh."""
        if self.failure is None:
            self.failure = error
            log.error("%s ends: %s", self.service_name, error, exc_info=not isinstance(error, LogUnavailable))
            self.add_future(self.crash(error))

    async def _watch(self) -> None:
        """End the worker when there is lag and nothing has finished for `watchdog_seconds`."""
        dog = Watchdog(self.options.watchdog_seconds, time.monotonic())
        while not self.should_stop:
            await asyncio.sleep(min(5.0, self.options.watchdog_seconds / 4))
            lag = 0 if self.resting() else await self.lag()
            stalled = dog.look(lag, self.progress(), time.monotonic())
            if stalled is not None:
                self.fail(Stalled(f"{self.service_name}: {stalled}"))

    async def lag(self) -> int | None:
        """Records not yet committed on the topics of this worker's partitions; None when the broker doesn't say.

        Offsets without a record (a transaction's marker, what retention deleted) count until they have been passed.
        """
        consumer = cast(Consumer, self.consumer)
        try:
            committed = {tp: consumer._committed_offset.get(tp) or 0 for tp in consumer.assignment()}
        except ConsumerNotStarted:
            # On a busy machine the watch begins before the consumer's thread does.
            return None
        mine = {tp for tp in committed if not is_changelog(tp.topic)}
        try:
            async with asyncio.timeout(5):
                ends = await consumer.highwaters(*mine) if mine else {}
                behind = {tp: end - committed[tp] for tp, end in ends.items() if end and end > committed[tp]}
                passed = {tp for tp in behind if (await consumer.position(tp) or 0) >= ends[tp]}
        except Exception as error:
            log.warning("%s: the broker does not tell the lag: %r", self.service_name, error)
            return None
        in_hand = {message.tp for message in consumer.unacked if message.offset >= committed.get(message.tp, 0)}
        return sum(count for tp, count in behind.items() if tp in in_hand or tp not in passed)

    async def _beat(self) -> None:
        """Renew the lease while the consumer tells the group that this worker lives, so all through a drain too."""
        while not self.crashed:
            gap = self.ownership.beat()
            if gap > self.options.session_timeout_seconds * LEASE_SHARE:
                self.fail(Stalled(f"{self.service_name}: {stood_still(gap)}"))
                return
            await asyncio.sleep(BEAT_SECONDS)


class Layout(BaseModel):
    """Where a service finds its broker and keeps its tables, and how its topics are cut."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bootstrap: str
    folder: Path
    partitions: Annotated[int, Field(ge=1, le=1_000)] = 8
    replicas: Annotated[int, Field(ge=1, le=10)] = 1


def require_compiled_streams() -> None:
    """Faust's pure-Python streams acknowledge events of a lost generation. Raises EngineUnfit where they would run."""
    if os.environ.get("NO_CYTHON") or importlib.util.find_spec("faust._cython.streams") is None:
        raise EngineUnfit(
            "faust-streaming runs without its compiled extensions and would acknowledge events it no longer owns: "
            "unset NO_CYTHON, or install a wheel of faust-streaming built for this Python"
        )
