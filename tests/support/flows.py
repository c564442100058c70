"""Chains that grow: versions, for the system tests. A worker loads this file by its path."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from callstream.streams.chain import Cell, Chain, Step
from callstream.streams.event import Event
from callstream.streams.outcome import Forward, Outcome


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
