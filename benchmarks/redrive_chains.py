"""A chain that buries its tasks behind a paid call, for as long as a file is there."""

import asyncio
import os
from pathlib import Path
from typing import ClassVar

from callstream.agents.delivery import WriteBack
from callstream.agents.inference.step import Infer
from callstream.streams.chain import Cell, Chain, Step
from callstream.streams.event import Event, Failure
from callstream.streams.outcome import Bury, Forward, Outcome
from examples.fast.chain import Brief, ProductInput, result, row

GATE = "BENCHMARK_GATE"
"""The environment variable that names the file."""


class Gate(Step):
    """Buries every task while the file is there."""

    name = "gate"
    service: ClassVar[str] = "moderate"

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Look for the file."""
        shut = await asyncio.to_thread(Path(os.environ[GATE]).exists)
        return Bury(Failure(kind="gate-shut", message="shut")) if shut else Forward()


chain = Chain(
    "fast-copy",
    input=ProductInput,
    steps=(Brief(), Infer(name="copy", pool="copywriter"), Gate(), WriteBack(row=row)),
    result=result,
)
