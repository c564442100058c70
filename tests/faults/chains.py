"""Chains for the kills at points, beside those of the system tests. A worker loads this file by its path."""

import asyncio
from typing import ClassVar

from callstream.agents.delivery import Deliver, SinkRow, TopicSink, WriteBack
from callstream.agents.joining import Join
from callstream.streams.chain import Attempts, Cell, Chain, Step
from callstream.streams.event import Event, Failure
from callstream.streams.outcome import FanOut, Forward, Hold, Outcome, Retry, Subtask
from callstream.streams.review import NO_TERMS, OnDue, Terms
from tests.support.chains import Delisted, GatedProduct, Product, is_shut, listed
from tests.support.flows import Add, Number, total

PAUSE_SECONDS = 0.6
"""More than an event is held in memory for here: the timer has it meanwhile."""
UNWATCHED, DUE_SECONDS = "Nobody looks at it", 2.0
"""The title of a product that people leave alone, and after how long it is released."""
LATE_SECONDS, IN_TIME_SECONDS = 5.0, 1.5
LOOK_SECONDS = 0.1
COPIES = "faults.copies"
"""A topic of others."""


class Unsteady(Step):
    """Fails in its first two attempts, and leaves the pauses to the timer."""

    name = "unsteady"
    service: ClassVar[str] = "unsteady"
    attempts = Attempts(most=4, first_pause_seconds=0.01, longest_pause_seconds=0.02)

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Fail, or not."""
        if event.attempt > 2:
            return Forward({"attempt": event.attempt})
        return Retry(Failure(kind="busy", message="come again"), PAUSE_SECONDS)


class Ask(Step):
    """Holds each task for a person, some of them not for long."""

    name = "ask"
    service: ClassVar[str] = "prepare"

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Hold it."""
        title = event.input["title"]
        terms = Terms(due_seconds=DUE_SECONDS, on_due=OnDue.RELEASE) if title == UNWATCHED else NO_TERMS
        return Hold("to be looked at", {"title": title}, terms)


class Stay(Step):
    """Goes on when its file is gone."""

    name = "stay"
    service: ClassVar[str] = "obey"
    timeout_seconds = 3600

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Wait."""
        while is_shut(event.input["gate"]):  # noqa: ASYNC110 - a file says so, and no other task
            await asyncio.sleep(LOOK_SECONDS)
        return Forward()


class Slow(Add):
    """The second of some comes long after the others."""

    service: ClassVar[str] = "double"

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Add, at once or late."""
        if event.input["number"] == 2:
            await asyncio.sleep(LATE_SECONDS)
        return await super().act(event, state)


class Scatter(Step):
    """Starts as many late sub-tasks as the number says."""

    name = "scatter"
    service: ClassVar[str] = "prepare"

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Start them: the numbers from 1."""
        return FanOut([Subtask("late-part", {"number": number + 1}) for number in range(event.input["number"])])


def copy_of(event: Event) -> SinkRow:
    """What stands on the topic of others under a product."""
    return SinkRow(key=event.input["product_id"], value={"title": event.input["title"]})


told = Chain("told", Product, (Deliver("told", sink=TopicSink(COPIES), row=copy_of),))
later = Chain("later", Product, (Unsteady(), WriteBack(row=listed)))
reviewed = Chain("reviewed", Product, (Ask(), WriteBack(row=listed)))
withdrawn = Chain("withdrawn", GatedProduct, (WriteBack("first", row=listed, undoes=True), Delisted("second"), Stay()))
late_part = Chain("late-part", Number, (Add("one"), Slow("slow", after="one")))
in_time = Chain("in-time", Number, (Scatter(), Join("total", least=1, within_seconds=IN_TIME_SECONDS, pick=total)))
chains = [told, later, reviewed, withdrawn, late_part, in_time]
