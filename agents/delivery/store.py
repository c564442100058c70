"""Rows into the database: one transaction for a batch, upserts by key, so that a replay leaves what it found."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Table, and_, delete, or_, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, OperationalError, StatementError
from sqlalchemy.ext.asyncio import AsyncEngine

from callstream.agents.delivery.history import History
from callstream.agents.delivery.options import BEGIN
from callstream.agents.delivery.rows import Write
from callstream.agents.delivery.schema import catalogue, chain_log, inference_log

MOST_FORGOTTEN = 1_000
"""Rows that are deleted in one transaction: nobody who writes waits long for it."""
_ABOUT_VALUES = ("22", "23")
"""SQLSTATE classes: data exception, integrity constraint violation."""


class CatalogueStore:
    """Writes batches through an engine whose schema is up to date (`prepare_database`)."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        # What reads before it writes would find SQLite changed since, and not be let write.
        self._writing = engine.execution_options(**{BEGIN: "BEGIN IMMEDIATE"})
        self._history = History(engine)
        self._insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert
        self._catalogue = self._upsert(catalogue, newer_only=True)
        self._inference = self._upsert(inference_log)
        self._chain = self._upsert(chain_log)

    async def write(self, writes: Sequence[Write]) -> None:
        """All of them or none. Raises what SQLAlchemy and its drivers raise; `is_about_values` tells them apart."""
        # In the order of their keys, so that two workers never wait for each other's rows in a circle.
        ordered = sorted(writes, key=lambda write: (write.catalogue["tenant"], write.catalogue["product"]))
        inference = [row for write in ordered for row in write.inference]
        chain = [row for write in ordered for row in write.chain]
        kept = [write.catalogue for write in ordered if write.keeps]
        async with self._writing.begin() as connection:
            if kept:
                await self._history.keep(connection, kept)
            await connection.execute(self._catalogue, [write.catalogue for write in ordered])
            for statement, rows in ((self._inference, inference), (self._chain, chain)):
                if rows:
                    rows.sort(key=lambda row: (row["tenant"], row["task"], row["position"]))
                    await connection.execute(statement, rows)

    async def take_back(self, tenant: str, task: str, step: str) -> list[str]:
        """Undo what a step of a task wrote into the catalogue; gives the products. Both logs keep what was done."""
        async with self._writing.begin() as connection:
            return await self._history.take_back(connection, tenant, task, step)

    async def has(self, tenant: str, task: str, step: str) -> bool:
        """Whether that step of a task has written its rows."""
        log = chain_log.c
        asked = select(log.position).where(log.tenant == tenant, log.task == task, log.step == step).limit(1)
        async with self._engine.connect() as connection:
            return (await connection.execute(asked)).first() is not None

    async def forget(self, before: float, most: int = MOST_FORGOTTEN) -> int:
        """Delete rows of both logs of steps that ended before a time (epoch seconds), at most so many; gives how many.

        The catalogue, and what it had before, stay.
        """
        gone = 0
        for log in (inference_log, chain_log):
            keys = list(log.primary_key.columns)
            old = select(*keys).where(log.c.ended < before).limit(most - gone)
            async with self._writing.begin() as connection:
                done = await connection.execute(delete(log).where(tuple_(*keys).in_(old)))
            gone += max(0, done.rowcount)
            if gone >= most:
                break
        return gone

    def _upsert(self, table: Table, newer_only: bool = False) -> Any:
        statement = self._insert(table)
        new = statement.excluded
        keys = [column.name for column in table.primary_key]
        # A late or replayed task does not overwrite what a task accepted after it has written.
        newer = (
            or_(
                table.c.accepted < new.accepted,
                and_(table.c.accepted == new.accepted, table.c.task < new.task),
                and_(table.c.accepted == new.accepted, table.c.task == new.task, table.c.sequence <= new.sequence),
            )
            if newer_only
            else None
        )
        values = {column.name: new[column.name] for column in table.columns if column.name not in keys}
        return statement.on_conflict_do_update(index_elements=keys, set_=values, where=newer)


def is_about_values(error: Exception) -> bool:
    """Whether an error is the fault of what was to be written, and no later try will do better."""
    if isinstance(error, IntegrityError | DataError | OverflowError):
        return True
    if isinstance(error, DBAPIError):
        state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None) or ""
        return str(state).startswith(_ABOUT_VALUES)
    return isinstance(error, StatementError)


def is_about_database(error: Exception) -> bool:
    """Whether an error says that the database cannot be used just now."""
    if is_about_values(error):
        return False
    return isinstance(error, OperationalError | InterfaceError | DBAPIError | OSError | TimeoutError)
