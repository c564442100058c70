"""A chain for tests of the timer: a step that asks for a pause before it succeeds.

A worker loads this file by its path.
"""

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from callstream.streams.chain import Attempts, Cell, Chain, Step
from callstream.streams.event import Event, Failure
from callstream.streams.outcome import Forward, Outcome, Retry


class Wish(BaseModel):
    """How often the step fails, and what pause it asks for after each time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fails: Annotated[int, Field(ge=0, le=9)] = 0
    pause_seconds: Annotated[float, Field(ge=0, le=1e6)] = 0.0


class Hesitant(Step):
    """Fails as often as its input says."""

    name = "hesitate"
    service: ClassVar[str] = "hesitant"
    attempts = Attempts(most=4, first_pause_seconds=0.0)

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Fail, or go on."""
        if event.attempt <= event.input["fails"]:
            return Retry(Failure(kind="busy", message="the oven is full"), event.input["pause_seconds"])
        return Forward({"attempt": event.attempt})


hesitant = Chain("hesitant", version=1, input=Wish, steps=(Hesitant(),))
