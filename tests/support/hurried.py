"""Chains for tests of deadlines and of steps that fail in every way. A worker loads this file by its path."""

import asyncio
import sys
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from callstream.agents.inference.step import Infer
from callstream.streams.chain import Attempts, Cell, Chain, Late, Step
from callstream.streams.event import Event, Json
from callstream.streams.outcome import Forward, Outcome


class Orders(BaseModel):
    """What the step `Work` is to do."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    do: Annotated[str, Field(max_length=100)] = "forward"


class Work(Step):
    """A user's step that takes a while, fails, or ends its process."""

    service: ClassVar[str] = "work"
    attempts = Attempts(3, 0.05, 0.1, by_class={"bug": Attempts(2, 0.05, 0.1)})

    def __init__(self, name: str) -> None:
        self.name = name

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Do it."""
        match event.input["do"]:
            case "wait":
                await asyncio.sleep(1.5)
            case "exit":
                sys.exit("login to postgres://shop:tall-hedge-4@db.test failed, key stub-key-123456")
        return Forward({"done": event.input["do"]})


def asked(event: Event) -> Json:
    """One message."""
    return {"messages": [{"role": "user", "content": f"Product: {event.input['do']}"}]}


hurried = Chain(
    "hurried",
    input=Orders,
    deadline_seconds=20.0,
    steps=(
        Work("first"),
        Infer(name="polish", pool="copywriter", request=asked, late=Late(skip=True), expected_seconds=60.0),
        Infer(name="copy", pool="copywriter", request=asked, late=Late(first=True), expected_seconds=0.1),
    ),
)
brief = Chain("brief", input=Orders, deadline_seconds=1.2, steps=(Work("first"), Work("second")))
chains = (hurried, brief)
