"""A role on an app: the ports of an actor, over Faust and Kafka."""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from faust.types import StreamT

from callstream.agents.actor import Actor
from callstream.agents.lot import Parked
from callstream.agents.ports import Delivery, Role
from callstream.streams.blobs import BlobMissing, BlobStore, BlobTooLarge, check_in, check_out
from callstream.streams.chain import Cell, Chains
from callstream.streams.engine import FaustDelivery, ServiceApp
from callstream.streams.event import Event
from callstream.streams.keys import partition_of
from callstream.streams.ownership import Claim
from callstream.streams.retry_budget import Budgets
from callstream.streams.tracing import Span, Tracing
from callstream.streams.wire import BodyMissing, Record
from callstream.tables.durable import DurableTable, NoCell, TableCell


class AppPorts:
    """What one service's app does for its actor. `clock` gives epoch seconds."""

    def __init__(
        self,
        app: ServiceApp,
        table: DurableTable | None,
        blobs: BlobStore,
        tracing: Tracing,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._app = app
        self._table = table
        self._blobs = blobs
        self._tracing = tracing
        self._clock = clock

    def partition_of(self, key: bytes) -> int:
        """The partition that every topic keeps this key in."""
        return partition_of(key, self._app.partitions)

    def cell(self, key: bytes, delivery: Delivery) -> Cell:
        """The service's memory of one task, under the claim that the delivery was taken with."""
        return NoCell() if self._table is None else TableCell(self._table, _claimed(delivery).claim, key)

    async def load(self, delivery: Delivery) -> bytes | None:
        """The delivery's body, fetched from the blob store where it is a claim check. Raises BadEvent."""
        try:
            return await check_out(delivery.value, delivery.headers, self._blobs)
        except (BlobMissing, BlobTooLarge) as error:
            raise BodyMissing(str(error)) from None

    async def send(self, record: Record, delivery: Delivery) -> None:
        """Produce a record and wait until the broker has it."""
        await self._app.produce(await check_in(record, self._blobs), _claimed(delivery).claim)

    def span(self, name: str, event: Event) -> Span:
        """The span of one step of a task."""
        tags: Mapping[str, str | int] = {
            "tenant": event.tenant,
            "task": event.task,
            "chain": event.chain,
            "sequence": event.sequence,
            "priority": str(event.priority),
        }
        return self._tracing.span(name, event.traceparent, tags)

    def crashed(self, error: BaseException) -> None:
        """End this worker loudly."""
        self._app.fail(error)

    def now(self) -> float:
        """Epoch seconds."""
        return self._clock()


def host(app: ServiceApp, role: Role, ports: AppPorts, chains: Chains, topics: Iterable[str]) -> Actor:
    """Have an app run a role over its topics, beside what it runs: one actor, one agent a topic. Gives the actor."""
    actor = Actor(role, ports, chains, app.options.concurrency, app.options.max_unfinished)
    actor.rounds.most_seconds = app.options.missing_version_hours * 3600
    actor.trying.budgets = Budgets(lambda: app.options.retry_budget)
    app.handing.append(actor.hand_over)
    app.revoked.append(actor.revoke)
    app.draining.append(actor.drain)
    before = app.progress
    app.progress = lambda: before() + actor.progress + actor.finished

    async def body(stream: StreamT[Any]) -> None:
        await actor.run(app.deliveries(stream))

    for name in topics:
        source = app.topic(
            name,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            allow_empty=True,
            partitions=app.partitions,
        )
        app.agent(source, name=f"{role.service}:{name}")(body)
    return actor


def sender(app: ServiceApp, blobs: BlobStore) -> Callable[[Record, Claim], Awaitable[None]]:
    """What produces a record under a claim, its body in the blob store if it is large."""

    async def send(record: Record, claim: Claim) -> None:
        await app.produce(await check_in(record, blobs), claim)

    return send


def parked(delivery: Delivery) -> Parked:
    """What the lot keeps of a delivery."""
    one = _claimed(delivery)
    return Parked(one.topic, one.partition, one.offset, one.key, one.value, one.headers, one.claim)


def claim_of(delivery: Delivery) -> Claim:
    """The claim that a delivery was taken with."""
    return _claimed(delivery).claim


def _claimed(delivery: Delivery) -> FaustDelivery | Parked:
    if not isinstance(delivery, FaustDelivery | Parked):
        raise TypeError(f"{type(delivery).__name__} was not taken from a ServiceApp")
    return delivery
