"""Faust's Kafka transport with the guarantees that its own one lacks.

An idempotent producer with acks=all, whose records never expire unnoticed; a consumer that tells its app of a
revocation before anything else hears of it, and commits what was acknowledged before the partitions go.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Protocol, cast

from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from callstream.streams.topics import is_changelog

log = logging.getLogger("callstream.transport")

COMMIT_ON_REVOKE_SECONDS = 3.0
MAX_BUFFERED_CHANGES = 100_000


class IdempotentProducer(driver.Producer):
    """acks=all and a producer id: the broker drops what a retry sends twice, and keeps the order."""

    async def on_start(self) -> None:
        """Lift the buffer's bound first: a hundred table changes would hold up the whole consumer."""
        self.buffer.max_messages = MAX_BUFFERED_CHANGES
        await super().on_start()

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}


class Owner(Protocol):
    """What the consumer tells its app."""

    def partitions_going(self) -> None:
        """Everything this worker owned goes back to the group, now."""

    def partitions_coming(self, partitions: set[int]) -> None:
        """The group gave these partitions to this worker."""


class OwningConsumer(driver.Consumer):
    """A consumer whose app (`callstream.streams.engine.ServiceApp`) hears first of what it owns."""

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
