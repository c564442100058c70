"""The role of a service that runs the steps of chains: prepare, infer, moderate, deliver and any that users name."""

from callstream.agents.ports import Policy
from callstream.agents.tools import Tools
from callstream.streams.chain import Cell, Chains, Step, UnknownChain
from callstream.streams.event import Event
from callstream.streams.outcome import Outcome


class StepRole:
    """Looks up which step an event is about to take and lets it act."""

    def __init__(self, service: str, chains: Chains, stateful: bool) -> None:
        self._service = service
        self._chains = chains
        self._stateful = stateful

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
        if event.body.undoing is not None:
            return Policy(f"undo {step.name}", step.attempts, step.timeout_seconds)
        return Policy(step.name, step.attempts, step.timeout_seconds, keeps_deadline=True)

    def queue_of(self, chain: str, version: int, sequence: int) -> str | None:
        """What an event at that step waits for; None if that is no step of this service."""
        try:
            return self._step_at(chain, version, sequence).queue
        except UnknownChain:
            return None

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Let the step decide."""
        step = self._step(event)
        return await (step.act(event, state) if event.body.undoing is None else step.undo(event, state))

    async def open(self, tools: Tools) -> None:
        """Hand every step of this service the worker's tools."""
        for step in self._chains.steps_of(self._service):
            await step.open(tools)

    async def close(self) -> None:
        """Let every step give back what it took."""
        for step in self._chains.steps_of(self._service):
            await step.close()

    def _step(self, event: Event) -> Step:
        undoing = event.body.undoing
        return self._step_at(event.chain, event.version, event.sequence if undoing is None else undoing.step)

    def _step_at(self, chain: str, version: int, sequence: int) -> Step:
        step = self._chains.get(chain, version).step(sequence)
        if step is None or step.service != self._service:
            raise UnknownChain(f"step {sequence} of {chain} v{version} is not on service {self._service!r}")
        return step
