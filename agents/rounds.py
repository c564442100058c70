"""Events that go round: those whose version is missing here come back onto their topic and are looked at again."""

import asyncio
import logging

from callstream.agents.ports import Delivery, Ports
from callstream.agents.settle import Work, settle
from callstream.agents.trying import Trying
from callstream.agents.versions import Held, hold, released
from callstream.streams.chain import Chains, MissingVersion
from callstream.streams.event import Event
from callstream.streams.wire import Record, encode

log = logging.getLogger("callstream.actor")

MOST_HOURS = 24.0
LOOK_SECONDS = 10.0
"""Between two looks at an event whose version is missing."""
CROWDED_SECONDS = 0.1
"""The same while `PLACES` others wait in this service: those behind it are not to wait for them."""
PLACES = 16


class Rounds:
    """Tries events, and has those go round whose chain or version is not here.

    An event that waits for its next look takes a place of the service, so only `PLACES` of them wait for long; of any
    number more each goes behind what came meanwhile at once. `most_seconds` is how long a version may be missing.
    """

    def __init__(self, trying: Trying, service: str, ports: Ports, chains: Chains) -> None:
        self._trying = trying
        self._service = service
        self._ports = ports
        self._chains = chains
        self._waiting = 0
        self.most_seconds = MOST_HOURS * 3600
        self.look_seconds = LOOK_SECONDS

    async def records(self, event: Event, delivery: Delivery) -> list[Record]:
        """What follows from an event, as `Trying.records`; for one that is held, itself once more."""
        try:
            return await self._trying.records(released(event), delivery)
        except MissingVersion as missing:
            now = self._ports.now()
            kept = hold(event, missing, self._service, now, self.most_seconds)
            if not isinstance(kept, Held):
                return settle(released(event), kept, Work(self._service, self._service, now, now), self._chains)
            if kept.remark is not None:
                log.warning("%s: %s; the task is held", self._service, missing, extra={"task": event.task})
                await self._ports.send(kept.remark, delivery)
        await self._pause()
        return [encode(kept.event, delivery.topic)]

    async def _pause(self) -> None:
        crowded = self._waiting >= PLACES
        self._waiting += 1
        try:
            await asyncio.sleep(CROWDED_SECONDS if crowded else self.look_seconds)
        finally:
            self._waiting -= 1
