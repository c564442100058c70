"""The step that writes a task's result into the catalogue, and how it came about into the logs beside it."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from callstream.agents.delivery.batch import BatchWriter
from callstream.agents.delivery.rows import CatalogueRow, Write, write_of
from callstream.agents.delivery.store import CatalogueStore, is_about_database, is_about_values
from callstream.agents.tools import Tools
from callstream.streams.chain import Attempts, Cell, Step, describe
from callstream.streams.event import Event, Failure, Json
from callstream.streams.outcome import Bury, Forward, Outcome, Retry

log = logging.getLogger("callstream.deliver")

UNDO_SECONDS = 30.0

RowOf = Callable[[Event], CatalogueRow | Mapping[str, Any]]


class WriteBack(Step):
    """Upserts the product's row, and rows of `inference_log` and `chain_log`, in one transaction.

    Idempotent: the same task and step leave the same rows however often they arrive, and a task that was accepted
    earlier never overwrites the copy of a later one. `row` gives the catalogue row of an event; `prompt` names the step
    whose output has the template. Output: `{"product"}`. Kinds: `catalogue-row` (buried), `database` (tried again).

    With `undoes` the row that is replaced is kept: if the task ends badly after all, the product has it again.
    In a sandbox nothing is written: `{"product", "would_write"}` has the row.
    """

    service = "deliver"
    # Its row may be there while it is cut: it is brought to its end, and asked before the next try.
    cuttable = False
    # A database that is away for some minutes is waited for: the task has been paid for already.
    attempts = Attempts(most=100, first_pause_seconds=0.5, longest_pause_seconds=10.0)

    def __init__(self, name: str = "catalogue", *, row: RowOf, prompt: str = "prompt", undoes: bool = False) -> None:
        self.name = name
        self.undoes = undoes
        self._row = row
        self._prompt = prompt
        self._store: CatalogueStore | None = None
        self._writer: BatchWriter[Write] | None = None

    async def open(self, tools: Tools) -> None:
        """Take the worker's database, whose schema is up to date."""
        self._store = CatalogueStore(tools.database)
        self._writer = BatchWriter(self._store.write, is_about_values)

    async def close(self) -> None:
        """Write what waits."""
        if self._writer is not None:
            await self._writer.close()
            self._writer = None

    async def was_done(self, event: Event) -> bool:
        """Whether the rows of an event are there. Raises what the database does."""
        if self._store is None:
            raise RuntimeError(f"step {self.name!r} was not opened")
        return await self._store.has(event.tenant, event.task, self.name)

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Write the rows of one event."""
        if self._writer is None:
            raise RuntimeError(f"step {self.name!r} was not opened")
        started = time.time()
        try:
            row = CatalogueRow.model_validate(self._row(event))
        except ValidationError as error:
            return Bury(Failure(kind="catalogue-row", message=describe(error), step=self.name))
        if event.sandbox:
            told = f"sandbox: the catalogue's row of {row.product!r} was not written"
            return Forward({"product": row.product, "would_write": row.model_dump()}, notes=(told,))
        write = replace(write_of(event, self.name, row, self._prompt, (started, time.time())), keeps=self.undoes)
        try:
            await self._writer.put(write)
        except Exception as error:
            return self._failed(error)
        return Forward({"product": row.product})

    async def undo(self, event: Event, state: Cell) -> Outcome:
        """Give the product the row back that it had, unless another task has written it since."""
        if self._store is None:
            raise RuntimeError(f"step {self.name!r} was not opened")
        try:
            async with asyncio.timeout(UNDO_SECONDS):
                products = await self._store.take_back(event.tenant, event.task, self.name)
        except Exception as error:
            return self._failed(error)
        return Forward(notes=tuple(f"{product!r} is as it was before" for product in products) or ("nothing to undo",))

    async def rehearse(self, event: Event) -> Json:
        """The row that it would write into the catalogue."""
        try:
            row = CatalogueRow.model_validate(self._row(event))
        except ValidationError as error:
            return {"would_fail": {"kind": "catalogue-row", "message": describe(error)}}
        return {"would_write": {"tenant": event.tenant, **row.model_dump(mode="json")}}

    def _failed(self, error: Exception) -> Outcome:
        # The driver's own words only: SQLAlchemy's would repeat the statement with all its values.
        cause = getattr(error, "orig", None) or error
        message = f"{type(cause).__name__}: {str(cause).partition(chr(10))[0]}"[:500]
        if is_about_values(error):
            return Bury(Failure(kind="catalogue-row", message=message, step=self.name))
        if is_about_database(error):
            log.warning("the database cannot be used: %s", message)
            return Retry(Failure(kind="database", message=message, step=self.name))
        raise error
