"""A chain whose third step fails for as long as a file is there: trouble whose cause can be taken away.

A worker loads this file by its path.
"""

from pathlib import Path
from typing import ClassVar

from callstream.agents.delivery import WriteBack
from callstream.agents.inference.step import Infer
from callstream.streams.chain import Attempts, Cell, Chain, Step
from callstream.streams.event import Event, Failure
from callstream.streams.outcome import Bury, Forward, Outcome, Retry
from tests.support.chains import Product, Prompt, result, row


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
