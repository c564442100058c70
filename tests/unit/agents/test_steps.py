from typing import Any, ClassVar

import pytest

from callstream.agents.ports import Policy
from callstream.agents.steps import StepRole
from callstream.streams.chain import Attempts, Cell, Chain, Chains, Step, UnknownChain
from callstream.streams.event import Event
from callstream.streams.fakes import MemoryCell
from callstream.streams.outcome import Forward, Outcome
from tests.support.events import Input, an_event


class Named(Step):
    """A step that says its name and keeps what it was opened with."""

    service: ClassVar[str] = "prepare"

    def __init__(self, name: str) -> None:
        self.name = name
        self.attempts = Attempts(most=2)
        self.timeout_seconds = 7.0
        self.tools: list[Any] = []

    async def open(self, tools: Any) -> None:
        """Keep them."""
        self.tools.append(tools)

    async def close(self) -> None:
        """Give them back."""
        self.tools.pop()

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Say the name, and remember the event."""
        await state.save({"id": event.id})
        return Forward({"by": self.name})


class Elsewhere(Named):
    """One of another service."""

    service: ClassVar[str] = "infer"


STEPS = (Named("first"), Elsewhere("second"), Named("third"))
OTHER = Named("only")
CHAINS = Chains([Chain("shop", Input, STEPS), Chain("shop", Input, (OTHER,), version=2)])
ROLE = StepRole("prepare", CHAINS, stateful=True)


@pytest.mark.parametrize(("sequence", "version", "name"), [(1, 1, "first"), (3, 1, "third"), (1, 2, "only")])
async def test_an_event_takes_the_step_of_its_sequence_in_the_version_it_started_on(
    sequence: int, version: int, name: str
) -> None:
    event, cell = an_event(sequence=sequence, version=version), MemoryCell()
    assert ROLE.policy(event) == Policy(name, Attempts(most=2), 7.0, keeps_deadline=True)
    assert await ROLE.act(event, cell) == Forward({"by": name})
    assert cell.value == {"id": event.id}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sequence": 2}, "step 2 of shop v1 is not on service 'prepare'"),
        ({"sequence": 0}, "step 0 of shop v1"),
        ({"sequence": 4}, "step 4 of shop v1"),
        ({"version": 3}, "this worker has no 'shop' version 3; it has: shop v1, shop v2"),
        ({"chain": "talk"}, "this worker has no 'talk' version 1"),
    ],
)
def test_an_event_that_stands_on_the_wrong_service_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UnknownChain, match=said):
        ROLE.policy(an_event(**changes))


async def test_every_step_of_the_service_and_no_other_is_opened_and_closed() -> None:
    tools: Any = object()
    await ROLE.open(tools)
    assert [step.tools for step in (*STEPS, OTHER)] == [[tools], [], [tools], [tools]]
    await ROLE.close()
    assert [step.tools for step in (*STEPS, OTHER)] == [[], [], [], []]


def test_a_role_says_what_it_is() -> None:
    assert (ROLE.service, ROLE.stateful) == ("prepare", True)
    assert not StepRole("deliver", CHAINS, stateful=False).stateful
