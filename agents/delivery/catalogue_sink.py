"""Into SQL: the catalogue's row, and both logs of the task, in one transaction with each other."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from time import time
from typing import TypeVar

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncEngine

from callstream.agents.delivery.migrate import prepare_database
from callstream.agents.delivery.options import DatabaseUnusable, DeliveryOptions, make_engine
from callstream.agents.delivery.rows import CatalogueRow, Write, write_of
from callstream.agents.delivery.sink import Away, Entry, Refused
from callstream.agents.delivery.store import CatalogueStore, is_about_database, is_about_values
from callstream.streams.findings import describe

Result = TypeVar("Result")


class CatalogueSink:
    """Entries as rows of the catalogue: the key is the product, the value has the other columns.

    `prompt` names the step whose output has the template. `prepare` is done before the first write.
    """

    def __init__(
        self, engine: AsyncEngine, prompt: str = "prompt", prepare: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self._engine = engine
        self._prompt = prompt
        self._prepare = prepare
        self._store = CatalogueStore(engine)

    @classmethod
    def at(cls, options: DeliveryOptions) -> "CatalogueSink":
        """One with a database of its own, whose schema it brings up to date. Raises DatabaseUnusable."""
        return cls(make_engine(options), prepare=lambda: prepare_database(options))

    async def open(self) -> None:
        """Create or migrate the tables of a database of its own. Raises Away."""
        if self._prepare is not None:
            try:
                await self._prepare()
            except DatabaseUnusable as error:
                raise Away(str(error)) from None

    async def close(self) -> None:
        """Close the connections to a database of its own."""
        if self._prepare is not None:
            await self._engine.dispose()

    async def write(self, entries: Sequence[Entry]) -> list[Refused | Away | None]:
        """In one transaction; where one entry spoils that, each in its own. Raises Away."""
        results: list[Refused | Away | None] = [None] * len(entries)
        writes: dict[int, Write] = {}
        for place, entry in enumerate(entries):
            try:
                writes[place] = self._write_of(entry)
            except Refused as error:
                results[place] = error
        try:
            if writes:
                await self._done(self._store.write(list(writes.values())))
        except Refused as error:
            if len(writes) == 1:
                results[next(iter(writes))] = error
                return results
            for place, write in writes.items():
                try:
                    await self._done(self._store.write([write]))
                except Refused as refused:
                    results[place] = refused
        return results

    async def has(self, entry: Entry) -> bool:
        """Whether the chain log knows of it. Raises Away."""
        return await self._done(self._store.has(entry.tenant, entry.task, entry.step))

    async def undo(self, entry: Entry) -> bool:
        """Give products the row back that they had; both logs keep what was done. Raises Away."""
        return bool(await self._done(self._store.take_back(entry.tenant, entry.task, entry.step)))

    def _write_of(self, entry: Entry) -> Write:
        try:
            row = CatalogueRow.model_validate({**entry.value, "product": entry.key})
        except ValidationError as error:
            raise Refused(describe(error)) from None
        write = write_of(entry.event, entry.step, row, self._prompt, (entry.began or time(), time()))
        return replace(write, keeps=entry.keeps)

    async def _done(self, asked: Awaitable[Result]) -> Result:
        try:
            return await asked
        except Exception as error:
            # The driver's own words only: SQLAlchemy's would repeat the statement with all its values.
            cause = getattr(error, "orig", None) or error
            message = f"{type(cause).__name__}: {str(cause).partition(chr(10))[0]}"[:500]
            if is_about_values(error):
                raise Refused(message) from None
            if is_about_database(error):
                raise Away(message) from None
            raise
