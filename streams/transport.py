"""Faust's Kafka transport with the guarantees that its own one lacks.

An idempotent producer with acks=all, whose records never expire unnoticed; a consumer that tells its app of a
revocation before anything else hears of it, and commits what was acknowledged before the partitions go. Both ask a
broker that is away for news at a steady pace.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, Protocol, cast

from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from callstream.streams.topics import is_changelog

log = logging.getLogger("callstream.transport")

COMMIT_ON_REVOKE_SECONDS = 3.0
MAX_BUFFERED_CHANGES = 100_000
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

    def partitions_going(self) -> None:
        """Everything this worker owned goes back to the group, now."""

    def partitions_coming(self, partitions: set[int]) -> None:
        """The group gave these partitions to this worker."""


class PacedConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread that an aiokafka consumer runs in."""

    def _create_worker_consumer(self, transport: driver.Transport) -> Any:
        consumer = super()._create_worker_consumer(transport)
        paced(consumer._client)
        return consumer


class OwningConsumer(driver.Consumer):
    """A consumer whose app (`callstream.streams.engine.ServiceApp`) hears first of what it owns."""

    def _new_consumer_thread(self) -> PacedConsumerThread:
        return PacedConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Go to these offsets; a recovery that a rebalance has overtaken has none for what came meanwhile.

        Faust would let aiokafka raise ValueError for that, and end, where it is about to begin the recovery anew.
        """
        await super().seek_wait({tp: max(0, offset or 0) for tp, offset in partitions.items()})

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Void every claim and cancel what runs, commit what is done, then let Faust close the tables."""
        cast(Owner, self.app).partitions_going()
        try:
            async with asyncio.timeout(COMMIT_ON_REVOKE_SECONDS):
                await self.commit()
        except Exception as error:
            log.info("no commit before the rebalance (%r): some finished events will come again", error)
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Let Faust open and recover the tables; events flow, and claims count, from then on."""
        cast(Owner, self.app).partitions_coming({tp.partition for tp in assigned if not is_changelog(tp.topic)})
        await super().on_partitions_assigned(assigned, generation_id)


class Transport(driver.Transport):
    """What `ServiceApp` uses in place of Faust's own transport."""

    Consumer = OwningConsumer
    Producer = IdempotentProducer
