"""The role of a service that runs the steps of chains: prepare, infer, moderate, deliver and any that users name."""

import time
from collections.abc import Callable

from callstream.agents.haste import Haste, hasten
from callstream.agents.payer import paid_for
from callstream.agents.ports import Policy
from callstream.agents.spent import spent
from callstream.agents.tools import Tools
from callstream.agents.usual import Usual
from callstream.streams.chain import Cell, Chains, Late, Step, UnknownChain
from callstream.streams.event import Event, Failure
from callstream.streams.outcome import Bury, Finish, Forward, Hold, Outcome


class StepRole:
    """Looks up which step an event is about to take and lets it act; a longer pause between tries is the timer's.

    `clock` gives epoch seconds.
    """

    def __init__(
        self,
        service: str,
        chains: Chains,
        stateful: bool,
        held_pause_seconds: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._service = service
        self._chains = chains
        self._stateful = stateful
        self._held_pause_seconds = held_pause_seconds
        self._uncut: set[bytes] = set()
        self._clock = clock
        self._usual = Usual()

    @property
    def service(self) -> str:
        """Its name, as in its topic and group."""
        return self._service

    @property
    def stateful(self) -> bool:
        """Whether the service keeps a row for each task."""
        return self._stateful

    def policy(self, event: Event) -> Policy:
        """The step's own attempts and time-out; what is undone is undone past the deadline too."""
        step = self._step(event)
        held = self._held_pause_seconds
        if event.body.undoing is not None:
            return Policy(f"undo {step.name}", step.attempts, step.timeout_seconds, held_pause_seconds=held)
        return Policy(
            step.name,
            step.attempts,
            step.timeout_seconds,
            keeps_deadline=True,
            held_pause_seconds=held,
            needs_seconds=self._usual.seconds(step),
            pays=self._stateful,
        )

    def queue_of(self, chain: str, version: int, sequence: int) -> str | None:
        """What an event at that step waits for; None if that is no step of this service."""
        try:
            return self._step_at(chain, version, sequence).queue
        except UnknownChain:
            return None

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Let the step decide, unless there is no time for it, for which it has declared what happens then."""
        step = self._step(event)
        if event.body.undoing is not None:
            return await step.undo(event, state)
        began, before = self._clock(), spent()
        waited = before.waited + before.retried
        needs = self._usual.seconds(step) + self._declared_later(event)
        left = None if event.deadline is None else event.deadline - began
        short = left is not None and left < needs
        if short and step.late is not None and step.late.pool is None:
            return _too_late(step, step.late, f"{left:.1f} s were left, and it takes about {needs:.1f} s to the end")
        with hasten(Haste(needs, short)), paid_for(event):
            outcome = await self._act(step, event, state)
        if isinstance(outcome, Forward | Finish | Hold):
            self._usual.learn(step, max(0.0, self._clock() - began - (before.waited + before.retried - waited)))
        return outcome

    async def _act(self, step: Step, event: Event, state: Cell) -> Outcome:
        if step.cuttable:
            return await step.act(event, state)
        self._uncut.add(event.key)
        try:
            return await step.act(event, state)
        finally:
            self._uncut.discard(event.key)

    def may_cut(self, event: Event) -> bool:
        """Whether what an event has begun here may be cut."""
        return event.key not in self._uncut

    async def was_done(self, event: Event) -> bool:
        """Whether the effect of the event's step is there already."""
        try:
            step = self._step(event)
        except UnknownChain:
            return False
        return not step.cuttable and await step.was_done(event)

    async def open(self, tools: Tools) -> None:
        """Hand every step of this service the worker's tools."""
        for step in self._chains.steps_of(self._service):
            await step.open(tools)

    async def close(self) -> None:
        """Let every step give back what it took."""
        for step in self._chains.steps_of(self._service):
            await step.close()

    def _declared_later(self, event: Event) -> float:
        """What the steps after this one say they take, without those that may be skipped."""
        chain = self._chains.get(event.chain, event.version)
        later = chain.steps[event.sequence :]
        return sum(step.expected_seconds or 0.0 for step in later if step.late is None or not step.late.skip)

    def _step(self, event: Event) -> Step:
        undoing = event.body.undoing
        return self._step_at(event.chain, event.version, event.sequence if undoing is None else undoing.step)

    def _step_at(self, chain: str, version: int, sequence: int) -> Step:
        step = self._chains.get(chain, version).step(sequence)
        if step is None or step.service != self._service:
            raise UnknownChain(f"step {sequence} of {chain} v{version} is not on service {self._service!r}")
        return step


def _too_late(step: Step, late: Late, why: str) -> Outcome:
    if late.skip:
        return Forward(notes=(f"{step.name} was skipped: {why}",))
    return Bury(Failure(kind="deadline", message=f"{step.name} was not begun: {why}", step=step.name))
