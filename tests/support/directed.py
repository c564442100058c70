"""The chain of a worker process whose one service does what each task's input says.

`do` is one of: forward; hang; remember (save and forward); save (once, when the file `go` is there, then hang);
saves (again and again).

A worker loads this file by its path.
"""

import asyncio
import os
import time
from pathlib import Path

from callstream.streams.chain import Cell
from callstream.streams.event import Event
from callstream.streams.outcome import Forward, Outcome
from callstream.streams.ownership import LostOwnership
from tests.support.services import chain_of

SAVES_SECONDS = 0.05


async def act(event: Event, state: Cell) -> Outcome:
    """Do it; what was saved is written, line by line, into the input's `file`."""
    match event.input["do"]:
        case "save":
            _note(event, "begun")
            await asyncio.to_thread(_wait_for, Path(event.input["go"]))
            _note(event, "saving")
            await state.save({"saved": event.task})
            _note(event, "saved")
            await asyncio.sleep(3600)
        case "remember":
            await state.save({"saved": event.task})
        case "saves":
            while True:
                try:
                    await state.save({"saved": event.task})
                except LostOwnership as error:
                    _note(event, f"refused: {error}")
                    raise
                _note(event, "saved")
                await asyncio.sleep(SAVES_SECONDS)
        case "hang":
            _note(event, "hanging")
            await asyncio.sleep(3600)
    return Forward({"done": event.input["do"]})


def _wait_for(file: Path) -> None:
    while not file.exists():
        time.sleep(SAVES_SECONDS)


def _note(event: Event, line: str) -> None:
    with Path(event.input["file"]).open("a") as file:
        file.write(line + "\n")


chain = chain_of(os.environ["DIRECTED_SERVICE"], act, remembers=True)
