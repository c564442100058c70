"""The one actor loop: take → decode → admit → act → perform → finish.

Every service runs this loop; services differ only in their role's `act`. Demand is the limit less what runs: the next
delivery is taken only when there is room, so that what cannot run stays in Kafka. No exception leaves the loop.
"""

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from random import Random

from callstream.agents.ports import Delivery, Policy, Ports, Role
from callstream.agents.settle import Work, settle
from callstream.agents.turns import Turns
from callstream.streams.chain import Attempts, Chains, UnknownChain
from callstream.streams.event import Event, Failure
from callstream.streams.ledger import Ledger, LedgerSnapshot, Ticket
from callstream.streams.letters import unreadable
from callstream.streams.outcome import Bury, Outcome, Retry
from callstream.streams.ownership import LostOwnership
from callstream.streams.wire import BadEvent, LogUnavailable, Record, decode
from callstream.streams.wire import encode as encode_event

log = logging.getLogger("callstream.actor")

MAX_TRACEBACK = 8000


@dataclass(slots=True)
class _Tries:
    count: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ActorSnapshot:
    """What an actor has in hand: events running now, the ledger, and totals since it started."""

    service: str
    running: int
    ledger: LedgerSnapshot
    taken: int
    finished: int


class Actor:
    """Runs one role over any number of streams of deliveries (one for each topic that the service reads)."""

    def __init__(self, role: Role, ports: Ports, chains: Chains, concurrency: int, max_unfinished: int) -> None:
        self.role = role
        self._ports = ports
        self._chains = chains
        self._concurrency = concurrency
        self._max_unfinished = max_unfinished
        self._ledger: Ledger[Delivery] = Ledger()
        self._running: dict[asyncio.Task[None], Ticket[Delivery]] = {}
        self._freed = asyncio.Event()
        self._turns = Turns()
        self._random = Random()
        self._closed = False
        self.taken = 0
        self.finished = 0
        self.progress = 0

    async def run(self, deliveries: AsyncIterator[Delivery]) -> None:
        """Take deliveries while there is room, until the stream ends or the actor is drained."""
        async for delivery in deliveries:
            if self._closed:
                return
            place = (delivery.topic, delivery.partition)
            ticket = self._ledger.take(place, delivery.offset, delivery)
            self.taken += 1
            task = asyncio.create_task(self._handle(delivery, ticket))
            self._running[task] = ticket
            while not self._has_room():
                self._freed.clear()
                await self._freed.wait()

    def revoke(self) -> None:
        """Cancel what runs and forget every partition: called before the partitions go to their next owners."""
        unfinished = self._ledger.revoke()
        for task in self._running:
            task.cancel()
        if unfinished:
            log.info(
                "revoked: %d unfinished events go back to the log",
                len(unfinished),
                extra={"service": self.role.service},
            )

    async def drain(self, seconds: float) -> bool:
        """Take nothing more and give what runs that long to finish; False if some of it had to be cancelled."""
        self._closed = True
        if self._running:
            await asyncio.wait(list(self._running), timeout=seconds)
        left = list(self._running)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        return not left

    def snapshot(self) -> ActorSnapshot:
        """What it has in hand."""
        return ActorSnapshot(self.role.service, len(self._running), self._ledger.snapshot(), self.taken, self.finished)

    def _has_room(self) -> bool:
        return len(self._running) < self._concurrency and len(self._ledger) < self._max_unfinished

    async def _handle(self, delivery: Delivery, ticket: Ticket[Delivery]) -> None:
        try:
            await self._process(delivery)
        except asyncio.CancelledError:
            if not ticket.void and not self._closed:
                raise
        except LostOwnership:
            log.info("%s/%d@%d: partition lost, left to its owner", delivery.topic, delivery.partition, delivery.offset)
        except Exception as error:
            self._ports.crashed(error)
        else:
            for released in self._ledger.finish(ticket):
                released.ack()
            self.finished += 1
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._running.pop(task, None)
            self._freed.set()

    async def _process(self, delivery: Delivery) -> None:
        try:
            event = decode(await self._ports.load(delivery), delivery.headers)
        except BadEvent as error:
            origin = (delivery.topic, delivery.partition, delivery.offset)
            await self._ports.send(
                unreadable(origin, delivery.key, delivery.value, delivery.headers, str(error)), delivery
            )
            log.warning("%s/%d@%d is unreadable: %s", *origin, error, extra={"service": self.role.service})
            return
        if self._ports.partition_of(event.key) != delivery.partition:
            await self._ports.send(encode_event(event, delivery.topic), delivery)
            return
        async with AsyncExitStack() as stack:
            if self.role.stateful:
                await stack.enter_async_context(self._turns.turn(event.key))
            for record in await self._decide(event, delivery):
                await self._ports.send(record, delivery)

    async def _decide(self, event: Event, delivery: Delivery) -> list[Record]:
        """Try until there is an outcome other than Retry; then the records that follow from it."""
        started = self._ports.now()
        policy = Policy(step=self.role.service)
        notes: list[str] = []
        attempt = event.attempt
        try:
            policy = self.role.policy(event)
        except UnknownChain as error:
            outcome: Outcome = Bury(Failure(kind="unknown-chain", message=str(error)))
        else:
            while True:
                outcome = await self._try(replace(event, attempt=attempt), delivery, policy)
                if not isinstance(outcome, Retry):
                    break
                notes.append(f"attempt {attempt}: {outcome.failure.kind}: {outcome.failure.message}"[:2000])
                if attempt >= policy.attempts.most:
                    outcome = Bury(outcome.failure)
                    break
                await asyncio.sleep(self._pause(policy.attempts, attempt, outcome.after_seconds))
                attempt += 1
        work = Work(
            self.role.service, policy.step, started, self._ports.now(), attempt - event.attempt + 1, tuple(notes)
        )
        return settle(event, outcome, work, self._chains)

    async def _try(self, event: Event, delivery: Delivery, policy: Policy) -> Outcome:
        now = self._ports.now()
        if policy.keeps_deadline and event.deadline is not None and now > event.deadline:
            late = f"its deadline passed {now - event.deadline:.1f} s before {policy.step!r} could start"
            return Bury(Failure(kind="deadline", message=late))
        try:
            async with asyncio.timeout(policy.timeout_seconds):
                return await self.role.act(event, self._ports.cell(event.key, delivery))
        except (LostOwnership, LogUnavailable):
            raise
        except TimeoutError:
            return Retry(
                Failure(kind="timeout", message=f"{policy.step!r} took longer than {policy.timeout_seconds:g} s")
            )
        except Exception as error:
            log.exception("step %s failed", policy.step, extra={"task": event.task, "tenant": event.tenant})
            return Retry(_bug(error))

    def _pause(self, attempts: Attempts, attempt: int, asked: float | None) -> float:
        ceiling = min(attempts.longest_pause_seconds, attempts.first_pause_seconds * 2 ** (attempt - 1))
        pause = self._random.uniform(0, ceiling)
        return max(pause, min(asked, 60.0)) if asked is not None else pause


def _bug(error: Exception) -> Failure:
    where = "".join(traceback.format_exception(error))[-MAX_TRACEBACK:]
    return Failure(kind="bug", message=_clean(f"{type(error).__name__}: {error}")[:2000], traceback=_clean(where))


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
