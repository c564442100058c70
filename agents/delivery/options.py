"""Where results are written: the settings of the database and the engine made from them."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from sqlalchemy import URL, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from callstream.streams.foreseen import Foreseen

DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
BEGIN = "callstream_begin"
"""Execution option of a connection: how its SQLite transactions begin ("BEGIN" unless given)."""


class DatabaseUnusable(Foreseen, RuntimeError):
    """Why the database cannot be used, and what to do."""


class DeliveryOptions(BaseModel):
    """The database that the catalogue and the logs are written to."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    database_url: SecretStr = Field(
        default=SecretStr("sqlite:///catalogue.db"),
        description="`sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/NAME` (extra `postgres`).",
    )
    pool_size: Annotated[int, Field(ge=1, le=100)] = Field(default=4, description="Connections kept by one worker.")
    timeout_seconds: Annotated[float, Field(gt=0, le=300)] = Field(
        default=10.0, description="How long to wait for a connection, a lock or a statement."
    )
    log_days: Annotated[int, Field(ge=1, le=36_500)] | None = Field(
        default=400,
        description="Rows of `inference_log` and `chain_log` are deleted so long after their step; unset, never.",
    )

    @field_validator("database_url")
    @classmethod
    def _known(cls, given: SecretStr) -> SecretStr:
        try:
            url = make_url(given.get_secret_value())
        except ArgumentError:
            raise ValueError("not a database URL; write sqlite:///FILE or postgresql://USER@HOST/NAME") from None
        if url.drivername not in DRIVERS:
            raise ValueError(f"{url.drivername!r} is not supported; sqlite and postgresql are")
        if not url.database or url.database == ":memory:":
            raise ValueError("the URL names no database: what is in memory only would be lost with the worker")
        return given

    @property
    def url(self) -> URL:
        """The URL with the driver that callstream uses."""
        url = make_url(self.database_url.get_secret_value())
        return url.set(drivername=DRIVERS[url.drivername])


def make_engine(options: DeliveryOptions) -> AsyncEngine:
    """An engine on that database; nothing is connected yet. Raises DatabaseUnusable."""
    url = options.url
    common: dict[str, Any] = {"pool_size": options.pool_size, "pool_timeout": options.timeout_seconds}
    if url.get_backend_name() == "sqlite":
        Path(url.database or "").expanduser().parent.mkdir(parents=True, exist_ok=True)
        engine = create_async_engine(url, connect_args={"timeout": options.timeout_seconds}, **common)
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        return engine
    arguments = {"timeout": options.timeout_seconds, "command_timeout": options.timeout_seconds}
    try:
        return create_async_engine(url, connect_args=arguments, pool_pre_ping=True, **common)
    except ModuleNotFoundError:
        raise DatabaseUnusable("PostgreSQL needs asyncpg: pip install 'callstream[postgres]'") from None


def _prepare_sqlite(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    """WAL, so that readers and the writer do not wait for each other; transactions begin where we say so.

    `synchronous=FULL`: an event is acknowledged once its row is written, and with NORMAL a power cut may take the last
    rows back. Rows are written in batches, so one fsync serves many.
    """
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(BEGIN, "BEGIN"))
