"""What is done with one event between its taking and its end: decode, have the role decide, send what follows.

What cannot be read is buried, what stands in a wrong partition is sent to its own.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from callstream.agents import bodiless
from callstream.agents.aside import Job
from callstream.agents.control.stopping import Stops
from callstream.agents.ports import Delivery, Ports, Role
from callstream.agents.rounds import Rounds
from callstream.agents.settle import Work
from callstream.agents.turns import Turns
from callstream.streams import logs
from callstream.streams.chain import Chains
from callstream.streams.event import Event
from callstream.streams.letters import unreadable
from callstream.streams.wire import BadEvent, BodyMissing, Record, decode
from callstream.streams.wire import encode as encode_event

log = logging.getLogger("callstream.actor")

SENT_ONE_BY_ONE, SENT_AT_ONCE = 4, 64
"""Records of one event that are sent in their order, and of more than these, how many side by side."""


class Handling:
    """Handles the events of one actor. Those of one task take turns where the role is stateful.

    `observed` are topics that another service answers for: what is unreadable or misplaced there is left to that one,
    so that it is buried or sent on once; `unreadable`, if set, is handed what cannot be read there.
    `decode` reads records, for a role whose topic has others than those of tasks; it raises BadEvent.
    """

    def __init__(self, role: Role, ports: Ports, chains: Chains, rounds: Rounds) -> None:
        self._role = role
        self._ports = ports
        self._chains = chains
        self._rounds = rounds
        self._turns = Turns()
        self.decode: Callable[[bytes | None, Sequence[tuple[str, bytes | None]]], Event] = decode
        self.observed: frozenset[str] = frozenset()
        self.unreadable: Callable[[Delivery], Awaitable[None]] | None = None

    async def handle(self, job: Job, stops: Stops | None) -> None:
        """Have all that follows from an event on the log. Raises LostOwnership, LogUnavailable."""
        delivery = job.delivery
        try:
            event = self.decode(await self._ports.load(delivery), delivery.headers)
            moved = self._moved(event, delivery)
        except BadEvent as error:
            if delivery.topic in self.observed:
                if self.unreadable is not None:
                    await self.unreadable(delivery)
                return
            origin = (delivery.topic, delivery.partition, delivery.offset)
            ends: list[Record] = []
            if isinstance(error, BodyMissing):
                now = self._ports.now()
                work = Work(self._role.service, self._role.service, now, now, origin=origin)
                cancel_of = stops.cancel_of if stops is not None else lambda _event: None
                ends = bodiless.ends(delivery.headers, str(error), work, self._chains, cancel_of)
            letter = unreadable(origin, delivery.key, delivery.value, delivery.headers, str(error))
            for record in ends or [letter]:
                await self._ports.send(record, delivery)
            log.warning("%s/%d@%d is unreadable: %s", *origin, error, extra={"service": self._role.service})
            return
        if moved and delivery.topic in self.observed:
            return
        with logs.bind(service=self._role.service, tenant=event.tenant, task=event.task, trace=_trace_of(event)):
            if not self._role.stateful:
                await self._perform(moved, event, job, stops)
                return
            async with self._turns.turn(event.key):
                await self._perform(moved, event, job, stops)

    async def _perform(self, moved: list[Record], event: Event, job: Job, stops: Stops | None) -> None:
        records = moved or await self._records(event, job, stops)
        # Of a fan-out: its sub-tasks in any order, before the task itself.
        ahead = len(records) - 1 if len(records) > SENT_ONE_BY_ONE else 0
        for start in range(0, ahead, SENT_AT_ONCE):
            await self._send_all(records[start : min(start + SENT_AT_ONCE, ahead)], job.delivery)
        for record in records[ahead:]:
            await self._ports.send(record, job.delivery)

    async def _records(self, event: Event, job: Job, stops: Stops | None) -> list[Record]:
        if stops is None:
            return await self._rounds.records(event, job.delivery)
        return await stops.records(event, job, self._rounds.records)

    async def _send_all(self, records: list[Record], delivery: Delivery) -> None:
        """Send side by side; what went wrong with the first that failed is raised when none is under way any more."""
        sent = await asyncio.gather(*(self._ports.send(one, delivery) for one in records), return_exceptions=True)
        for failed in sent:
            if isinstance(failed, BaseException):
                raise failed

    def _moved(self, event: Event, delivery: Delivery) -> list[Record]:
        """The event once more, for the partition of its key, if it stands in another. Raises BadEvent."""
        if self._ports.partition_of(event.key) == delivery.partition:
            return []
        try:
            return [encode_event(event, delivery.topic)]
        except ValueError as error:
            raise BadEvent(f"in the wrong partition, and {error}") from None


def _trace_of(event: Event) -> str | None:
    return event.traceparent.split("-")[1] if event.traceparent is not None else None
