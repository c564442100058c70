"""What an actor does with an event whose task, chain, tenant or service was told to stop.

The event of a cancelled task is not begun: its end follows from it, as it would from its step. One that is worked on is
cut, whether it runs, waits at a gate or pauses between two tries; once its step has decided, the decision stands, and
the next service meets the command. The event of a paused task is sent to where such wait (`pausing`), so that those
behind it are reached.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Iterable
from dataclasses import dataclass
from typing import Protocol

from callstream.agents.aside import Job
from callstream.agents.control.commands import Cancel, Subject, reason_of
from callstream.agents.control.controls import Controls, subject_of
from callstream.agents.inference.receipts_state import taken
from callstream.agents.payer import spends_of
from callstream.agents.ports import Delivery, Ports
from callstream.agents.settle import Work, settle
from callstream.agents.steps import StepRole
from callstream.streams.chain import Chains, UnknownChain
from callstream.streams.event import Event, Json, Usage
from callstream.streams.outcome import Again, Cancelled
from callstream.streams.wire import Record

log = logging.getLogger("callstream.control")

LOOKS_BEHIND = 4
"""Looks at what waits, after a command was heard: an event may be put aside in the same moment."""
ASK_AGAIN_SECONDS = 2.0

Tries = Callable[[Event, Delivery], Awaitable[list[Record]]]
Waiting = Callable[[Callable[[Subject | None], bool]], AsyncIterator[list[Job]]]
"""Events in a service's table whose tasks fit, as jobs: some at a time, which are begun at once."""


class Calls(Protocol):
    """The model calls of this process."""

    def waiting(self) -> frozenset[tuple[str, str]]:
        """Tenant and id of each task of which every call waits at a gate, so that nothing is lost with it."""

    def cut(self, tenant: str, task: str) -> None:
        """Nobody wants the answers of a task's calls any more."""


@dataclass(eq=False)
class Stops:
    """Obeys commands for one actor. `steps` are those of a service that takes steps: only there events are diverted.

    `ends` is False for a service that ends its cancelled tasks itself. `waiting` finds events in the service's table,
    of the `partitions` that are here.
    """

    service: str
    controls: Controls
    ports: Ports
    chains: Chains
    steps: StepRole | None = None
    calls: Calls | None = None
    ends: bool = True
    waiting: Waiting | None = None
    partitions: Callable[[], Iterable[int]] = tuple
    _looked: tuple[int, tuple[int, ...]] = (0, ())
    _looks: int = 0

    @property
    def resting(self) -> bool:
        """Whether the service begins nothing."""
        return self.controls.any and self.controls.paused(None, self.service) is not None

    def ended(self, subject: Subject | None) -> bool:
        """Whether a task is cancelled."""
        return subject is not None and self.controls.cancelled(subject) is not None

    def cancel_of(self, event: Event) -> Cancel | None:
        """The command by which the task of an event is cancelled, if this service ends such a task."""
        return self.controls.cancelled(subject_of(event)) if self.ends and self.controls.any else None

    async def records(self, event: Event, job: Job, tries: Tries) -> list[Record]:
        """What follows from an event: from what its step decides, unless that may not begin or is cut."""
        began: float | None = None
        while True:
            if self.controls.any and (stopped := await self._stopped(event, job, began)) is not None:
                return stopped
            started = self.ports.now()
            job.event = event
            try:
                return await tries(event, job.delivery)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not job.cut or job.void or task is None or task.uncancel():
                    raise
                job.cut, began = False, started
                log.info("cut by a command: %s", event.id, extra={"service": self.service, "task": event.task})
                if self.calls is not None:
                    self.calls.cut(event.tenant, event.task)
            finally:
                job.event = None

    def cuts(self, jobs: Iterable[Job]) -> list[Job]:
        """Those that are to be cut now, of these which are worked on."""
        if not self.controls.any:
            return []
        waiting = self.calls.waiting() if self.calls is not None else frozenset()
        found = [job for job in jobs if job.event is not None and not job.cut and self._must_stop(job.event, waiting)]
        for job in found:
            job.cut = True
        return found

    async def end_waiting(self, begin: Callable[[list[Job]], Awaitable[None]]) -> None:
        """Have the cancelled tasks end that wait in the service's table, if there may be new ones."""
        if self.waiting is None:
            return
        now = self.controls.cancels, tuple(self.partitions())
        if now != self._looked:
            self._looked, self._looks = now, LOOKS_BEHIND
        if self._looks:
            self._looks -= 1
            async for jobs in self.waiting(self.ended):
                await begin(jobs)

    def _must_stop(self, event: Event, waiting: Container[tuple[str, str]]) -> bool:
        subject = subject_of(event)
        if event.body.end is not None or event.body.undoing is not None:
            return False
        if self.cancel_of(event) is not None:
            return self.steps is None or self.steps.may_cut(event)
        return self._is_paused(subject) and (event.tenant, event.task) in waiting

    def _is_paused(self, subject: Subject) -> bool:
        return self.steps is not None and self.controls.paused(subject) is not None

    async def _stopped(self, event: Event, job: Job, began: float | None) -> list[Record] | None:
        """What follows from an event that may not begin, or was cut after it `began`; None for one that may."""
        if event.body.undoing is not None:
            # Its end is decided.
            return None
        subject = subject_of(event)
        cancel = self.cancel_of(event) if event.body.end is None else None
        if cancel is not None:
            if await self._was_done(event):
                return None
            # Of a task that was not begun the end is the same whenever it is told.
            times = (cancel.at, cancel.at) if began is None else (began, self.ports.now())
            row = self._row(event, job.delivery)
            outcome: Cancelled | Again = Cancelled(reason_of(cancel), _usage(event, row), cancel.rollback)
            spends = spends_of(event, row)
        elif self._is_paused(subject):
            times, outcome, spends = (0.0, 0.0), Again(paused=True), ()
        else:
            return None
        work = Work(self.service, self._step_of(event), *times, spends=spends)
        return settle(event, outcome, work, self.chains)

    async def _was_done(self, event: Event) -> bool:
        """Whether the step's effect is there already. Whoever cannot be asked now is asked again."""
        while self.steps is not None:
            try:
                return await self.steps.was_done(event)
            except Exception as error:
                log.warning("whether %s was done before it was cancelled is not known yet: %r", event.id, error)
            await asyncio.sleep(ASK_AGAIN_SECONDS)
        return False

    def _row(self, event: Event, delivery: Delivery) -> Json | None:
        """The task's row with the receipts of its calls, if the service keeps such."""
        if self.steps is None or not self.steps.stateful:
            return None
        return self.ports.cell(event.key, delivery).value

    def _step_of(self, event: Event) -> str:
        try:
            step = self.chains.get(event.chain, event.version).step(event.sequence)
        except UnknownChain:
            step = None
        return step.name if step is not None else self.service


def _usage(event: Event, row: Json | None) -> Usage | None:
    """What the step's calls may have taken, as its receipts say."""
    return taken(row, f"{event.key.decode()}/{event.sequence}/")
