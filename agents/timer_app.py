"""The timer on an app: its ports, its sends, and the loop that releases what is due."""

import asyncio
from collections.abc import Sequence

from callstream.agents.actor import Actor
from callstream.agents.hosting import AppPorts, host, parked
from callstream.agents.ports import Delivery
from callstream.agents.timer import Arrival, Releaser, TimerRole
from callstream.streams.blobs import BlobStore, check_in
from callstream.streams.chain import Cell, Chains
from callstream.streams.engine import ServiceApp
from callstream.streams.keys import partition_of
from callstream.streams.ownership import Claim
from callstream.streams.topics import TIMER, topic_of
from callstream.streams.wire import Record


class TimerPorts(AppPorts):
    """An app's ports whose cell is the record that was read."""

    def cell(self, key: bytes, delivery: Delivery) -> Cell:
        """The record, under the claim that it was taken with."""
        return Arrival(parked(delivery).claim, key, delivery.value or b"", delivery.headers)


class Outlet:
    """Sends batches of records in their order."""

    def __init__(self, app: ServiceApp, blobs: BlobStore) -> None:
        self._app = app
        self._blobs = blobs

    async def send(self, records: Sequence[Record], claim: Claim) -> None:
        """Done when the broker has all. Raises LostOwnership, LogUnavailable."""
        sent = []
        for record in records:
            whole = await check_in(record, self._blobs)
            self._app.ownership.require(claim)
            partition = partition_of(whole.key, self._app.partitions)
            sent.append(await self._app.enqueue(whole.topic, partition, whole.key, whole.value, whole.headers))
        await asyncio.gather(*(self._app.delivered(one, "a record of the timer") for one in sent))


def host_timer(app: ServiceApp, role: TimerRole, ports: TimerPorts, chains: Chains, releaser: Releaser) -> Actor:
    """Have an app take timers and release them. Gives the actor that takes them."""
    actor = host(app, role, ports, chains, [topic_of(TIMER)])
    app.handing.append(releaser.hand_over)
    app.revoked.append(releaser.revoke)
    app.draining.append(releaser.drain)
    app.background.append(releaser.run)
    return actor
