"""The masked views of both logs: how things went is there, and nothing of what was written."""

import re
import shlex
from collections.abc import AsyncIterator
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Table, inspect, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine

from callstream.agents.delivery import DeliveryOptions, WriteBack, make_engine, prepare_database
from callstream.agents.delivery.migrate import MIGRATIONS
from callstream.agents.delivery.schema import chain_log, inference_log
from callstream.streams.event import Body, Event, Failure, Hop, Submission, Usage
from callstream.streams.outcome import Forward
from callstream.streams.spend import Spend, SpendKind
from tests.support.delivering import NoCell, Tools
from tests.support.postgres import Postgres, postgres

__all__ = ["postgres"]

ROOT = Path(__file__).parents[2]
READING, PROMPTS = (ROOT / "docs/guide" / f"{name}.md" for name in ("reading", "prompts"))
SECRET = "Ida Berg 蓝色"
"""Stands in every text of the task."""

MASKED: list[tuple[Table, dict[str, str]]] = [
    (inference_log, {"messages": "prompt_characters", "output": "output_characters"}),
    (chain_log, {"notes": "notes_characters"}),
]
"""Columns that may hold what a task is about, and what a view has in their place."""

_numbers = count(1)


@pytest.fixture(params=["sqlite", "postgres"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """A prepared database."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/catalogue.db"
    else:
        server: Postgres = request.getfixturevalue("postgres")
        url = server.create(f"masked_{next(_numbers)}")
    options = DeliveryOptions.model_validate({"database_url": url})
    await prepare_database(options)
    engine = make_engine(options)
    yield engine
    await engine.dispose()


def hop(step: str, seconds: float, **more: Any) -> Hop:
    return Hop(step=step, service="infer", started=86_400.0, ended=86_400.0 + seconds, notes=(f"of {SECRET}",), **more)


def event() -> Event:
    """A task whose every text names somebody: what came in, the prompt, answers of both kinds, remarks, a failure."""
    usage = Usage(model="m", endpoint="e", calls=1, tokens_in=7, tokens_out=9)
    spend = Spend(kind=SpendKind.ANSWER, at=86_402.0, cost=Decimal("0.25"), currency="EUR")
    photo = {"type": "image_url", "image_url": {"url": SECRET}}
    content = [{"type": "text", "text": SECRET}, photo]
    body = Body(
        submission=Submission(chain="shop", input={"product": "mug", "of": SECRET}, callback="https://x.test/Ida"),
        digest="0" * 64,
        outputs={
            "prompt": {"template": "mug", "version": 3, "messages": [{"role": "user", "content": content}]},
            "copy": {"text": SECRET},
            "shape": {SECRET: {"words": [SECRET]}},
        },
        trail=(
            hop("intake", 0),
            hop("prompt", 1),
            hop("copy", 2, usage=usage, spends=(spend,)),
            hop("shape", 3, usage=usage, spends=(spend,)),
        ),
        failure=Failure(kind="x", message=SECRET),
        held=SECRET,
    )
    return Event(tenant="acme", task="mug-1", chain="shop", version=1, sequence=4, body=body, time=9.0)


async def written(engine: AsyncEngine) -> None:
    step = WriteBack(
        row=lambda event: {"product": SECRET, "title": SECRET, "text": SECRET, "attributes": {SECRET: SECRET}}
    )
    await step.open(Tools(engine))
    assert isinstance(await step.act(event(), NoCell()), Forward)
    await step.close()


async def rows(engine: AsyncEngine, statement: str) -> list[dict[str, Any]]:
    async with engine.connect() as connection:
        return [dict(row) for row in (await connection.execute(text(statement))).mappings()]


async def everything(engine: AsyncEngine, suffix: str) -> str:
    found = [await rows(engine, f"SELECT * FROM {table.name}{suffix} ORDER BY position") for table, _ in MASKED]
    return re.sub(r"\\+u([0-9a-f]{4})", lambda match: chr(int(match[1], 16)), str(found))


async def test_nothing_that_a_task_says_comes_through(engine: AsyncEngine) -> None:
    await written(engine)
    # given a task that says a name in both logs, again and again, when all of the views is read, no part of it is there
    assert (await everything(engine, "")).count(SECRET) == 11
    seen = await everything(engine, "_masked")
    assert [word for word in ("Ida", "Berg", "蓝", "色") if word in seen] == []


async def test_how_it_went_stays_and_texts_are_counted(engine: AsyncEngine) -> None:
    await written(engine)
    copy, shape = await rows(engine, "SELECT * FROM inference_log_masked ORDER BY position")
    assert {name: copy[name] for name in ("tenant", "task", "position", "step", "model", "endpoint")} == {
        "tenant": "acme",
        "task": "mug-1",
        "position": 2,
        "step": "copy",
        "model": "m",
        "endpoint": "e",
    }
    assert [copy[name] for name in ("calls", "repeated", "tokens_in", "tokens_out", "attempts")] == [1, 0, 7, 9, 1]
    assert [copy[name] for name in ("started", "ended", "template", "template_version")] == [86400, 86402, "mug", "3"]
    assert [copy[name] for name in ("cost", "currency")] == ["0.25", "EUR"]
    # what was written counts as characters, however the database has them: "user", "text", "image_url" and both texts
    assert copy["prompt_characters"] == len("user") + len("text") + len("image_url") + 2 * len(SECRET)
    assert copy["output_characters"] == len(SECRET)
    assert shape["output_characters"] == len(f'{{"{SECRET}":{{"words":["{SECRET}"]}}}}')
    chain = await rows(engine, "SELECT * FROM chain_log_masked ORDER BY position")
    assert [row["step"] for row in chain] == ["intake", "prompt", "copy", "shape", "catalogue"]
    assert [row["notes_characters"] for row in chain] == [len(f"of {SECRET}")] * 4 + [0]


async def test_a_step_without_a_prompt_has_no_length_of_one(engine: AsyncEngine) -> None:
    await written(engine)
    for nothing in ("null", None):
        async with engine.begin() as connection:
            await connection.execute(text("UPDATE inference_log SET messages = :given"), {"given": nothing})
        found = await rows(engine, "SELECT prompt_characters FROM inference_log_masked")
        assert found == [{"prompt_characters": None}] * 2


@pytest.mark.parametrize(("table", "masked"), MASKED, ids=lambda given: getattr(given, "name", ""))
async def test_somebody_has_decided_about_each_column(
    engine: AsyncEngine, table: Table, masked: dict[str, str]
) -> None:
    """A new column must be put into the view by a migration, and into MASKED above if it may hold content."""

    def columns(connection: Connection) -> set[str]:
        return {column["name"] for column in inspect(connection).get_columns(f"{table.name}_masked")}

    async with engine.connect() as connection:
        found = await connection.run_sync(columns)
    assert found == {masked.get(column.name, column.name) for column in table.columns}


async def test_the_views_go_and_come_with_their_version(engine: AsyncEngine) -> None:
    def views(connection: Connection) -> list[str]:
        return sorted(inspect(connection).get_view_names())

    def move(connection: Connection, version: str) -> list[str]:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        (command.downgrade if version == "0003" else command.upgrade)(config, version)
        return views(connection)

    await written(engine)
    async with engine.begin() as connection:
        assert await connection.run_sync(move, "0003") == []
        assert await connection.run_sync(move, "0004") == ["chain_log_masked", "inference_log_masked"]
    assert len(await rows(engine, "SELECT * FROM inference_log_masked")) == 2


def queries(info: str) -> list[str]:
    """The statements of the blocks of the guide that are marked so."""
    return re.findall(rf"^```{info}\n(.*?)^```$", READING.read_text(), re.MULTILINE | re.DOTALL)


async def test_the_guides_grant_gives_the_views_and_not_the_tables(engine: AsyncEngine) -> None:
    if engine.dialect.name != "postgresql":
        pytest.skip("SQLite knows no roles")
    await written(engine)
    [grant] = queries("sql grant")
    async with engine.begin() as connection:
        for statement in filter(str.strip, grant.split(";")):
            await connection.execute(text(statement))
    try:
        for table, _ in MASKED:
            async with engine.connect() as connection:
                await connection.execute(text("SET ROLE reporting"))
                assert (await connection.execute(text(f"SELECT * FROM {table.name}_masked"))).all()
                with pytest.raises(ProgrammingError, match="permission denied"):
                    await connection.execute(text(f"SELECT position FROM {table.name}"))
                await connection.rollback()
                await connection.execute(text("RESET ROLE"))
    finally:
        async with engine.begin() as connection:
            await connection.execute(text("DROP OWNED BY reporting"))
            await connection.execute(text("DROP ROLE reporting"))


async def test_the_guides_queries_run_as_they_stand(engine: AsyncEngine) -> None:
    await written(engine)
    [slowest] = queries("sql")
    assert await rows(engine, slowest) == [
        {"model": "m", "step": "copy", "p95": 2},
        {"model": "m", "step": "shape", "p95": 3},
    ]
    if engine.dialect.name == "postgresql":
        [costs] = queries("sql postgresql")
    else:
        commands = [line for page in (READING, PROMPTS) for line in page.read_text().splitlines() if "sqlite3 " in line]
        asked = [shlex.split(line)[2] for line in commands]
        assert len(asked) == 4
        assert [bool(await rows(engine, one)) for one in asked] == [True] * 4
        [costs] = [one for one in asked if "masked" in one]
    [found] = await rows(engine, costs)
    assert (str(found["day"]), found["model"], found["currency"]) == ("1970-01-02", "m", "EUR")
    assert (float(found["cost"]), found["tokens_out"]) == (0.5, 18)
