"""Chains that grow, spread and part, for the system tests. A worker loads this file by its path."""

import asyncio
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from callstream.agents.joining import Join
from callstream.streams.chain import Cell, Chain, Step
from callstream.streams.event import Event, Json
from callstream.streams.outcome import FanOut, Forward, Outcome, Subtask
from callstream.streams.routes import END, Routes, Rule


class Number(BaseModel):
    """What these chains take."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: int = Field(default=1, ge=0)


class Add(Step):
    """Adds one to the number, or to what the step before made of it."""

    service: ClassVar[str] = "prepare"

    def __init__(self, name: str, after: str | None = None) -> None:
        self.name = name
        self.after = after

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Add."""
        number = event.input["number"] if self.after is None else event.body.outputs[self.after]["number"]
        return Forward({"number": number + 1})


class Double(Add):
    """Doubles it, on a service of its own."""

    service: ClassVar[str] = "double"

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Double."""
        return Forward({"number": event.body.outputs[str(self.after)]["number"] * 2})


first = Chain("sums", Number, (Add("one"), Double("two", after="one")), version=1)
second = Chain("sums", Number, (Add("one"), Add("more", after="one"), Double("two", after="more")), version=2)
older = [first]
newer = [first, second]


class Spread(Step):
    """Starts as many sub-tasks as the number says, each of which is to add to its own."""

    name = "spread"
    service: ClassVar[str] = "prepare"

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Start them: the numbers from 1."""
        return FanOut([Subtask("part", {"number": number + 1}) for number in range(event.input["number"])])


class Slow(Add):
    """Adds one, unless its number is `stuck`: then its time never comes."""

    service: ClassVar[str] = "double"
    timeout_seconds = 3600

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Add, or wait."""
        if event.input["number"] == STUCK:
            await asyncio.sleep(3600)
        return await super().act(event, state)


STUCK = 7


def total(taken: list[Json], event: Event) -> Json:
    """What all gave, and of how many."""
    return {"number": sum(one["result"]["slow"]["number"] for one in taken), "of": len(taken)}


part = Chain("part", Number, (Add("one"), Slow("slow", after="one")))
wide = Chain("wide", Number, (Spread(), Join("total", pick=total), Double("two", after="total")))
hurried = Chain("hurried", Number, (Spread(), Join("total", least=1, within_seconds=3, pick=total)))
eager = Chain("eager", Number, (Spread(), Join("total", take="first", pick=total)))

ROUTES = {
    "one": Routes(
        (
            Rule("input.number > 100", "two"),
            Rule("input.number == 50", END),
            Rule("input.number == 13", "one"),
            Rule("input.number == 14 && outputs.one.missing == 1", "two"),
            Rule("input.number < 10", {"more": 50, "two": 50}),
            Rule("input.number == 20", "more", shadow="two"),
            Rule("input.number == 60", "two", topic="audit.numbers"),
            Rule("input.number == 61", END, topic="partner.numbers"),
        )
    )
}
routed = Chain("routed", Number, (Add("one"), Add("more", after="one"), Double("two", after="one")), routes=ROUTES)
flows = [part, wide, hurried, eager, routed]
