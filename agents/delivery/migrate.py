"""Brings a database's schema up to date at start; workers that start at once wait for each other."""

import asyncio
from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine

from callstream.agents.delivery.options import BEGIN, DatabaseUnusable, DeliveryOptions, make_engine

MIGRATIONS = Path(__file__).with_name("migrations")
LOCK = 0x63616C6C
"""Key of PostgreSQL's advisory lock for our schema ("call")."""

_TRIES = 10
_PAUSE_SECONDS = 0.3


async def prepare_database(options: DeliveryOptions) -> None:
    """Create or migrate the tables. Raises DatabaseUnusable."""
    engine = make_engine(options)
    try:
        await _prepare(engine)
    finally:
        await engine.dispose()


async def _prepare(engine: AsyncEngine) -> None:
    where = engine.url.render_as_string(hide_password=True)
    for attempt in range(1, _TRIES + 1):
        try:
            await _migrate(engine)
        except (OperationalError, OSError, TimeoutError) as error:
            # SQLite does not wait for the lock that a change of journal mode needs: two new workers may meet there.
            if attempt == _TRIES or not (isinstance(error, OperationalError) and "locked" in str(error)):
                raise DatabaseUnusable(f"{where} cannot be used: {_first_line(error)}") from None
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            return


async def _migrate(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execution_options(**{BEGIN: "BEGIN IMMEDIATE"})
        async with connection.begin():
            if engine.dialect.name == "postgresql":
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
            await connection.run_sync(_upgrade)


def _upgrade(connection: Connection) -> None:
    # Read here: it takes a second, for which the commands of a client need not wait.
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        where = connection.engine.url.render_as_string(hide_password=True)
        raise DatabaseUnusable(f"{where}: {error}; was it written by a newer callstream?") from None


def _first_line(error: BaseException) -> str:
    return (str(getattr(error, "orig", None) or error) or type(error).__name__).partition("\n")[0]
