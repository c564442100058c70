"""Chains that the system tests run: without pictures, so that a task takes milliseconds, and with steps that misbehave.

A worker loads this file by its path.
"""

import asyncio
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from callstream.agents.delivery import CatalogueRow, WriteBack
from callstream.agents.inference.step import Infer
from callstream.agents.moderation import Moderate, ModerationRules
from callstream.streams.chain import Attempts, Cell, Chain, Step
from callstream.streams.event import Event, Failure, Json
from callstream.streams.outcome import Bury, Finish, Forward, Hold, Outcome, Retry
from callstream.streams.review import Terms


class Product(BaseModel):
    """A product in a few words."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    product_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    title: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    description: Annotated[str, StringConstraints(max_length=4000)] = ""
    remarks: Annotated[str, StringConstraints(max_length=2_000_000)] = ""


class Prompt(Step):
    """The title as the model is to have it."""

    name = "prompt"
    service: ClassVar[str] = "prepare"

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Write one message."""
        asked = f"Product: {event.input['title']}"
        return Forward({"messages": [{"role": "user", "content": asked}], "parameters": {}})


def row(event: Event) -> CatalogueRow:
    """The product's row in the catalogue."""
    return CatalogueRow(
        product=event.input["product_id"],
        title=event.input["title"],
        language="en",
        text=event.body.outputs["copy"]["text"],
        attributes={},
    )


def result(event: Event) -> Json:
    """The copy."""
    return {"copy": event.body.outputs["copy"]["text"]}


quick = Chain(
    "quick",
    version=1,
    input=Product,
    steps=(Prompt(), Infer(name="copy", pool="copywriter"), Moderate(), WriteBack(row=row)),
    result=result,
)


STRICT = ModerationRules.model_validate(
    {
        "version": 3,
        "words": [
            {"id": "again", "category": "tone", "action": "regenerate", "why": "no shouting", "words": ["shout"]},
            {"id": "veil", "category": "brand", "action": "mask", "words": ["Kilnrow"]},
        ],
    }
)

moderated = Chain(
    "moderated",
    input=Product,
    steps=(
        Prompt(),
        Infer(name="copy", pool="copywriter"),
        Moderate(parts=("copy.text", "input.description"), rules=STRICT, regenerate="copy", rounds=2),
        WriteBack(row=row),
    ),
    result=result,
)


class Orders(BaseModel):
    """What the step `Obey` is to do."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    do: Annotated[str, Field(max_length=100)] = "forward"


class Obey(Step):
    """A user's step, on a service of its own, that does what its input says."""

    service: ClassVar[str] = "obey"
    attempts = Attempts(most=3, first_pause_seconds=0.05, longest_pause_seconds=0.1)
    timeout_seconds = 3.0

    def __init__(self, name: str) -> None:
        self.name = name

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Do it."""
        match event.input["do"]:
            case "raise":
                raise RuntimeError("the shelf is on fire")
            case "raise-twice" if event.attempt < 3:
                raise RuntimeError(f"not in attempt {event.attempt}")
            case "hang":
                await asyncio.sleep(3600)
            case "wait":
                await asyncio.sleep(1.5)
            case "nonsense":
                return Forward({"number": float("nan")})
            case "finish":
                return Finish({"early": True})
        return Forward({"done": event.input["do"], "attempt": event.attempt})


class Delisted(Obey):
    """A step after the catalogue was written, whose undo fails for good if the task says so."""

    undoes = True

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Do nothing."""
        return Forward()

    async def undo(self, event: Event, state: Cell) -> Outcome:
        """Take nothing back, or fail."""
        if event.input["title"] == "stuck":
            raise RuntimeError("what was done stays done")
        return Forward()


def listed(event: Event) -> CatalogueRow:
    """A row without a model's text."""
    return CatalogueRow(product=event.input["product_id"], title=event.input["title"], text=event.task)


class Listing(Product):
    """A product that is written to the catalogue, and what happens after that."""

    do: Annotated[str, Field(max_length=100)] = "forward"


listing = Chain(
    "listing",
    version=1,
    input=Listing,
    steps=(WriteBack("first", row=listed, undoes=True), Delisted("second"), Obey("third")),
)
obedient = Chain("obedient", version=1, input=Orders, steps=(Obey("first"), Obey("second")))


class HarmlessPrompt(Prompt):
    """The prompt, which may be run to see what it says."""

    harmless = True


class GatedProduct(Product):
    """A product, and the file that must not be there."""

    gate: str = ""


class Gate(Step):
    """Fails while the file is there; with `again` in its name in three attempts, else at once."""

    name = "gate"
    service: ClassVar[str] = "gate"
    attempts = Attempts(most=3, first_pause_seconds=0.05, longest_pause_seconds=0.1)

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Look for the file."""
        if not is_shut(event.input["gate"]):
            return Forward({"open": True})
        failure = Failure(kind="gate-shut", message=f"order {event.task} stands before a shut gate")
        return Retry(failure) if event.input["gate"].endswith("again") else Bury(failure)


def is_shut(gate: str) -> bool:
    """Whether the file is there."""
    return bool(gate) and Path(gate).exists()


gated = Chain(
    "gated",
    version=1,
    input=GatedProduct,
    steps=(HarmlessPrompt(), Infer(name="copy", pool="copywriter"), Gate(), WriteBack(row=row)),
    result=result,
)


class Terminable(BaseModel):
    """A text that is held, and the terms of its review."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str = "A mug."
    terms: Json = {}


class LookAt(Step):
    """Holds every task on the terms of its input."""

    name = "look"
    service: ClassVar[str] = "moderate"

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Hold it."""
        terms = Terms.model_validate(event.input["terms"])
        return Hold("to be looked at", {"text": event.input["text"]}, terms, event.input["text"])


class Passed(Step):
    """The step after it."""

    name = "passed"
    service: ClassVar[str] = "moderate"

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Do nothing."""
        return Forward()


looked_at = Chain("looked-at", version=1, input=Terminable, steps=(LookAt(), Passed()))
reviewed = Chain(
    "reviewed",
    version=1,
    input=Product,
    steps=(
        Prompt(),
        Infer(name="copy", pool="copywriter"),
        Moderate(regenerate="copy", review=Terms(group="copy", rounds=1)),
        WriteBack(row=row),
    ),
    result=result,
)
