from dataclasses import replace
from typing import Any, ClassVar

import pytest

from callstream.agents.haste import Haste, haste
from callstream.agents.payer import Payer, payer
from callstream.agents.ports import Policy
from callstream.agents.steps import StepRole
from callstream.streams.chain import Attempts, Cell, Chain, Chains, Late, Step, UnknownChain
from callstream.streams.event import Event
from callstream.streams.fakes import MemoryCell
from callstream.streams.outcome import Bury, Forward, Outcome
from tests.support.clock import Clock
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
    assert ROLE.policy(event) == Policy(name, Attempts(most=2), 7.0, keeps_deadline=True, pays=True)
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


class Slow(Step):
    """A step that takes its time, by a clock that only it moves."""

    service: ClassVar[str] = "prepare"

    def __init__(self, clock: "Clock", late: Late | None = None, expected_seconds: float | None = None) -> None:
        self.name = "slow"
        self.late = late
        self.expected_seconds = expected_seconds
        self.clock = clock
        self.hastes: list[Haste] = []

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Take two seconds."""
        self.hastes.append(haste())
        self.clock.now += 2.0
        return Forward({"done": True})


def a_role(step: Slow, later: Step | None = None) -> StepRole:
    chain = Chain("shop", Input, (step,) if later is None else (step, later))
    return StepRole("prepare", Chains([chain]), stateful=False, clock=step.clock)


def due(seconds: float | None) -> Event:
    return an_event(deadline=None if seconds is None else 100.0 + seconds)


@pytest.mark.parametrize("left", [None, 5.0])
async def test_a_step_with_time_enough_is_begun(left: float | None) -> None:
    step = Slow(Clock(), Late(skip=True), expected_seconds=5.0)
    assert await a_role(step).act(due(left), MemoryCell()) == Forward({"done": True})
    assert step.hastes == [Haste(5.0, short=False)]


async def test_an_optional_step_is_skipped_when_time_is_short() -> None:
    step = Slow(Clock(), Late(skip=True), expected_seconds=5.0)
    outcome = await a_role(step).act(due(4.9), MemoryCell())
    assert outcome == Forward(notes=("slow was skipped: 4.9 s were left, and it takes about 5.0 s to the end",))
    assert step.hastes == []


async def test_a_step_that_stops_when_time_is_short_takes_no_more() -> None:
    step = Slow(Clock(), Late(), expected_seconds=5.0)
    outcome = await a_role(step).act(due(4.9), MemoryCell())
    assert isinstance(outcome, Bury)
    assert (outcome.failure.kind, outcome.failure.step) == ("deadline", "slow")
    assert step.hastes == []


@pytest.mark.parametrize("late", [None, Late(pool="small"), Late(pool="small", skip=True)])
async def test_a_step_that_declares_nothing_or_another_pool_begins_and_knows(late: Late | None) -> None:
    step = Slow(Clock(), late, expected_seconds=5.0)
    assert await a_role(step).act(due(4.9), MemoryCell()) == Forward({"done": True})
    assert step.hastes == [Haste(5.0, short=True)]


@pytest.mark.parametrize(("later_late", "begins"), [(None, False), (Late(), False), (Late(skip=True), True)])
async def test_what_the_rest_of_the_chain_takes_counts_unless_it_may_be_skipped(
    later_late: Late | None, begins: bool
) -> None:
    later = Slow(Clock(), later_late, expected_seconds=3.0)
    later.name = "later"
    step = Slow(Clock(), Late(skip=True), expected_seconds=5.0)
    await a_role(step, later).act(due(7.0), MemoryCell())
    assert bool(step.hastes) == begins


async def test_how_long_a_step_takes_is_learned() -> None:
    step = Slow(Clock(), Late(skip=True))
    role = a_role(step)
    for _ in range(8):
        assert await role.act(an_event(deadline=step.clock.now + 1.0), MemoryCell()) == Forward({"done": True})
    assert role.policy(due(None)).needs_seconds == 2.0
    assert await role.act(an_event(deadline=step.clock.now + 1.9), MemoryCell()) != Forward({"done": True})


async def test_a_step_says_for_whom_its_calls_are_paid() -> None:
    seen: list[Payer] = []

    class Asks(Step):
        name, service = "asks", "infer"

        async def act(self, event: Event, state: Cell) -> Outcome:
            seen.append(payer())
            return Forward()

    role = StepRole("infer", Chains([Chain("shop", Input, (Asks(),))]), stateful=True)
    await role.act(replace(an_event(sequence=1).with_body(generation=2), run=3), MemoryCell())
    assert (seen, payer()) == ([Payer("shop", "3.2.1")], Payer())
