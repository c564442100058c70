"""Events that go round: those whose version is missing here are left to the timer, which brings them back."""

import logging

from callstream.agents.ports import Delivery, Ports
from callstream.agents.settle import Work, settle
from callstream.agents.trying import Trying
from callstream.agents.versions import Held, hold, released
from callstream.streams.chain import Chains, MissingVersion
from callstream.streams.event import Event
from callstream.streams.timing import delayed
from callstream.streams.wire import Record, encode

log = logging.getLogger("callstream.actor")

MOST_HOURS = 24.0
LOOK_SECONDS = 15.0
"""Between two looks at an event whose version is missing."""


class Rounds:
    """Tries events, and has those go round whose chain or version is not here.

    `most_seconds` is how long a version may be missing.
    """

    def __init__(self, trying: Trying, service: str, ports: Ports, chains: Chains) -> None:
        self._trying = trying
        self._service = service
        self._ports = ports
        self._chains = chains
        self.most_seconds = MOST_HOURS * 3600

    async def records(self, event: Event, delivery: Delivery) -> list[Record]:
        """What follows from an event, as `Trying.records`; for one that is held, what brings it back."""
        try:
            return await self._trying.records(released(event), delivery)
        except MissingVersion as missing:
            now = self._ports.now()
            kept = hold(event, missing, self._service, now, self.most_seconds)
            if not isinstance(kept, Held):
                return settle(released(event), kept, Work(self._service, self._service, now, now), self._chains)
            again = delayed(encode(kept.event, delivery.topic), now + LOOK_SECONDS)
            if kept.remark is None:
                return [again]
            log.warning("%s: %s; the task is held", self._service, missing, extra={"task": event.task})
            return [kept.remark, again]
