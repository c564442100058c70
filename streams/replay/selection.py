"""Which records on the topics are the recorded inputs of a step. Pure: a record in, what it is out."""

from collections.abc import Iterable
from dataclasses import dataclass

from callstream.streams.chain import Chains, UnknownChain
from callstream.streams.event import TASK, Event
from callstream.streams.foreseen import Foreseen
from callstream.streams.topics import lanes_of, topic_of

Headers = Iterable[tuple[str, bytes | None]]


class UnknownStep(Foreseen, LookupError):
    """No chain that is meant has a step of that name; the message says which steps there are."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Recorded inputs of the step `step`, of any chain or one, and of any tenant or one."""

    chains: Chains
    step: str
    chain: str | None = None
    tenant: str | None = None

    def topics(self) -> tuple[str, ...]:
        """The topics that have them. Raises UnknownChain, UnknownStep."""
        if self.chain is not None:
            self.chains.current(self.chain)
        meant = [chain for chain in self.chains if self.chain in (None, chain.name)]
        services = dict.fromkeys(step.service for chain in meant for step in chain.steps if step.name == self.step)
        if not services:
            known = dict.fromkeys(step.name for chain in meant for step in chain.steps)
            whose = f"chain {self.chain!r}" if self.chain is not None else "no chain here"
            said = "has no step" if self.chain is not None else "has a step"
            raise UnknownStep(f"{whose} {said} {self.step!r}; steps: {', '.join(known) or 'none'}")
        return tuple(topic_of(lane) for service in services for lane in lanes_of(service))

    def may_be(self, headers: Headers) -> bool:
        """Whether a record is worth reading, by its attributes alone."""
        told = dict(headers)
        if told.get("ce_type") != TASK.encode():
            return False
        if self.tenant is not None and told.get("ce_tenant") != self.tenant.encode():
            return False
        return self.chain is None or told.get("ce_chain") == self.chain.encode()

    def is_input(self, event: Event) -> bool:
        """Whether an event is the step's input. Raises UnknownChain for a version of a chain that is gone."""
        step = self.chains.get(event.chain, event.version).step(event.sequence)
        return step is not None and step.name == self.step and event.body.end is None


def gone(error: UnknownChain) -> str:
    """A version that is gone, in a line."""
    return f"it cannot be done on another version: {error}"


def never_reached(task: str, step: str, taken: Iterable[str] | None, ended: str | None) -> str:
    """Why a task has no recorded input of a step: the steps it took, if they are known, and how it ended, if it has."""
    steps = "" if taken is None else f"it took {', '.join(taken) or 'none'}, and "
    how = f"it ended {ended}" if ended else "it has not ended"
    return f"task {task!r} never reached step {step!r}: {steps}{how}; nothing was started"
