"""Write-back against real databases: one contract for SQLite and PostgreSQL, then what only one of them does."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pydantic import SecretStr
from sqlalchemy import Connection, func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from callstream.agents.delivery import (
    DatabaseUnusable,
    DeliveryOptions,
    WriteBack,
    make_engine,
    prepare_database,
)
from callstream.agents.delivery.history import MOST_KEPT, History
from callstream.agents.delivery.schema import catalogue, catalogue_history, chain_log, inference_log, metadata
from callstream.agents.delivery.store import CatalogueStore
from callstream.streams.event import Body, Event, Hop, Submission, Usage
from callstream.streams.outcome import Bury, Forward, Retry
from tests.support.delivering import NoCell, Tools
from tests.support.postgres import Postgres, postgres

__all__ = ["postgres"]

_numbers = count(1)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new/catalogue.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.create(f"test_{next(_numbers)}")


def options_of(url: str, seconds: float = 10.0) -> DeliveryOptions:
    return DeliveryOptions(database_url=SecretStr(url), timeout_seconds=seconds)


def engine_of(url: str, seconds: float = 10.0) -> AsyncEngine:
    return make_engine(options_of(url, seconds))


@pytest.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    """A prepared one."""
    await prepare_database(options_of(url))
    engine = engine_of(url)
    yield engine
    await engine.dispose()


def event(task: str = "mug-1", text: str = "A mug.", accepted: float = 5.0, product: str = "mug") -> Event:
    body = Body(
        submission=Submission(chain="shop", input={"product": product}),
        digest="0" * 64,
        outputs={"prompt": {"template": "mug", "version": 3}, "copy": {"text": text}},
        trail=(
            Hop(step="intake", service="intake", started=accepted, ended=accepted),
            Hop(
                step="copy",
                service="infer",
                started=6,
                ended=7,
                attempts=2,
                usage=Usage(model="m", endpoint="e", calls=1, tokens_in=7, tokens_out=9),
            ),
        ),
    )
    return Event(tenant="acme", task=task, chain="shop", version=1, sequence=4, body=body, time=9.0)


def row_of(event: Event) -> dict[str, Any]:
    return {"product": event.input["product"], "text": event.body.outputs["copy"]["text"], "attributes": {"颜色": "蓝"}}


async def opened(engine: AsyncEngine) -> WriteBack:
    step = WriteBack(row=row_of)
    await step.open(Tools(engine))
    return step


async def rows(engine: AsyncEngine, table: Any) -> list[dict[str, Any]]:
    async with engine.connect() as connection:
        found = await connection.execute(select(table).order_by(*table.primary_key))
        return [dict(row) for row in found.mappings()]


async def test_a_task_replayed_leaves_one_row_and_both_logs(engine: AsyncEngine) -> None:
    step = await opened(engine)
    for attempt in (1, 1, 2):
        outcome = await step.act(replace(event(), attempt=attempt), NoCell())
        assert outcome == Forward({"product": "mug"})
    await step.close()
    [product] = await rows(engine, catalogue)
    assert (product["text"], product["attributes"], product["task"]) == ("A mug.", {"颜色": "蓝"}, "mug-1")
    [call] = await rows(engine, inference_log)
    assert (call["model"], call["tokens_out"], call["attempts"], call["template"]) == ("m", 9, 2, "mug")
    assert (call["template_version"], call["output"], call["messages"]) == ("3", "A mug.", None)
    assert [hop["step"] for hop in await rows(engine, chain_log)] == ["intake", "copy", "catalogue"]


async def test_a_replayed_older_task_does_not_overwrite_a_newer_one(engine: AsyncEngine) -> None:
    step = await opened(engine)
    older, newer = event("a", "old", 5.0), event("b", "new", 6.0)
    for each in (older, newer, older):
        assert isinstance(await step.act(each, NoCell()), Forward)
    await step.close()
    [product] = await rows(engine, catalogue)
    assert product["text"] == "new"
    assert {hop["task"] for hop in await rows(engine, chain_log)} == {"a", "b"}


async def test_many_at_once_from_two_workers(engine: AsyncEngine, url: str) -> None:
    other = engine_of(url)
    steps = [await opened(engine), await opened(other)]
    events = [event(f"t-{number}", f"text {number}", number, f"p-{number % 50}") for number in range(300)]
    outcomes = await asyncio.gather(*(step.act(each, NoCell()) for each in events for step in steps))
    assert all(isinstance(outcome, Forward) for outcome in outcomes)
    for step in steps:
        await step.close()
    await other.dispose()
    found = await rows(engine, catalogue)
    assert {row["product"]: row["text"] for row in found} == {f"p-{n % 50}": f"text {n}" for n in range(250, 300)}
    assert len(await rows(engine, inference_log)) == 300


async def test_one_row_that_the_database_refuses_fails_alone(engine: AsyncEngine) -> None:
    step = await opened(engine)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE UNIQUE INDEX one_copy ON catalogue (text)"))
    copies = {"a": "x", "b": "x", "c": "y"}
    outcomes = await asyncio.gather(*(step.act(event(p, copy, 5.0, p), NoCell()) for p, copy in copies.items()))
    assert [type(outcome) for outcome in outcomes] == [Forward, Bury, Forward]
    assert await texts(engine) == {"a": "x", "c": "y"}


@pytest.mark.parametrize("text", ["a\0b", "x" * 200_001])
async def test_a_row_that_cannot_be_stored_is_buried_and_the_next_one_passes(engine: AsyncEngine, text: str) -> None:
    step = await opened(engine)
    outcome = await step.act(event(text=text), NoCell())
    assert isinstance(outcome, Bury)
    assert outcome.failure.kind == "catalogue-row"
    assert outcome.failure.message.startswith("text: ")
    assert isinstance(await step.act(event(), NoCell()), Forward)
    await step.close()


async def test_odd_but_legal_text_comes_back_as_it_went_in(engine: AsyncEngine) -> None:
    odd = "'; DROP TABLE catalogue; -- \u202e 👩‍👩‍👧 \U0010ffff \x7f %s :name \\"
    step = await opened(engine)
    assert isinstance(await step.act(event(text=odd), NoCell()), Forward)
    await step.close()
    assert [row["text"] for row in await rows(engine, catalogue)] == [odd]


async def test_workers_that_start_at_once_prepare_one_schema(url: str) -> None:
    script = (
        "import asyncio, sys; from callstream.agents.delivery import *; "
        "asyncio.run(prepare_database(DeliveryOptions(database_url=sys.argv[1])))"
    )
    command = (sys.executable, "-c", script, url)
    workers = [await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE) for _ in range(4)]
    for worker in workers:
        _, errors = await worker.communicate()
        assert worker.returncode == 0, errors.decode()[-2000:]
    engine = engine_of(url)
    async with engine.connect() as connection:
        assert (await connection.execute(select(func.count()).select_from(catalogue))).scalar() == 0
    await engine.dispose()


async def test_the_migrations_make_the_schema_that_the_code_has(engine: AsyncEngine) -> None:
    def differences(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"version_table": "callstream_schema"})
        return list(compare_metadata(context, metadata))

    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_rows_of_the_logs_that_are_old_are_deleted_some_at_a_time_and_the_catalogue_stays(
    engine: AsyncEngine,
) -> None:
    step = await opened(engine)
    for number in range(3):
        await step.act(event(f"mug-{number}", product=f"mug-{number}"), NoCell())
    await step.close()
    store = CatalogueStore(engine)
    # the steps before it ended at 5 and 7 in every task, the one that wrote ended now
    assert await store.forget(5.0) == 0
    assert [await store.forget(8.0, most=4) for _ in range(4)] == [4, 4, 1, 0]
    assert await rows(engine, inference_log) == []
    assert [row["step"] for row in await rows(engine, chain_log)] == ["catalogue"] * 3
    assert len(await rows(engine, catalogue)) == 3


async def test_a_database_of_a_newer_version_is_left_alone(engine: AsyncEngine, url: str) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE callstream_schema SET version_num = '9999'"))
    with pytest.raises(DatabaseUnusable, match="newer callstream"):
        await prepare_database(options_of(url))


async def test_without_tables_the_task_is_tried_again(url: str) -> None:
    engine = engine_of(url)
    step = await opened(engine)
    outcome = await step.act(event(), NoCell())
    await step.close()
    await engine.dispose()
    assert isinstance(outcome, Retry)
    assert outcome.failure.kind == "database"
    assert "A mug." not in outcome.failure.message


async def test_a_locked_sqlite_file_is_tried_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/catalogue.db"
    engine, holder = engine_of(url, 0.2), engine_of(url)
    await prepare_database(options_of(url))
    step = await opened(engine)
    async with holder.connect() as connection:
        await connection.execute(text("DELETE FROM catalogue"))
        outcome = await step.act(event(), NoCell())
        assert isinstance(outcome, Retry)
        assert outcome.failure.kind == "database"
        assert "locked" in outcome.failure.message
    assert isinstance(await step.act(event(), NoCell()), Forward)
    await step.close()
    await engine.dispose()
    await holder.dispose()


async def test_sqlite_keeps_what_it_has_confirmed(tmp_path: Path) -> None:
    engine = engine_of(f"sqlite:///{tmp_path}/catalogue.db")
    async with engine.connect() as connection:
        assert (await connection.execute(text("PRAGMA journal_mode"))).scalar() == "wal"
        assert (await connection.execute(text("PRAGMA synchronous"))).scalar() == 2
    await engine.dispose()


@pytest.fixture
def own_postgres(postgres: Postgres) -> Iterator[Postgres]:
    """The server, running again when the test is over."""
    yield postgres
    if not postgres.running:
        postgres.start()


async def test_postgresql_that_goes_away_and_comes_back(own_postgres: Postgres) -> None:
    url = own_postgres.create(f"test_{next(_numbers)}")
    await prepare_database(options_of(url))
    engine = engine_of(url)
    step = await opened(engine)
    assert isinstance(await step.act(event("a"), NoCell()), Forward)
    await asyncio.to_thread(own_postgres.stop)
    outcomes = await asyncio.gather(*(step.act(event(f"b-{number}"), NoCell()) for number in range(20)))
    assert {type(outcome) for outcome in outcomes} == {Retry}
    with pytest.raises(DatabaseUnusable, match="cannot be used"):
        await prepare_database(options_of(url))
    await asyncio.to_thread(own_postgres.start)
    assert isinstance(await step.act(event("c"), NoCell()), Forward)
    await step.close()
    assert {row["task"] for row in await rows(engine, inference_log)} == {"a", "c"}
    await engine.dispose()


async def test_an_unreachable_server_is_named_without_its_password() -> None:
    with pytest.raises(DatabaseUnusable) as refused:
        await prepare_database(options_of("postgresql://u:hush@127.0.0.1:1/n", 2.0))
    assert "127.0.0.1:1" in str(refused.value)
    assert "hush" not in str(refused.value)


async def undoing(engine: AsyncEngine) -> WriteBack:
    step = WriteBack(row=row_of, undoes=True)
    await step.open(Tools(engine))
    return step


async def texts(engine: AsyncEngine) -> dict[str, str]:
    return {row["product"]: row["text"] for row in await rows(engine, catalogue)}


async def test_a_product_has_the_row_back_that_it_had_before(engine: AsyncEngine) -> None:
    # given a product that a task wrote which keeps nothing, and one that nobody wrote
    plain, step = await opened(engine), await undoing(engine)
    await plain.act(event("a", "first", 1.0), NoCell())
    before = await rows(engine, catalogue)
    await step.act(event("b", "second", 2.0), NoCell())
    await step.act(event("c", "new", 2.0, "jug"), NoCell())
    assert await texts(engine) == {"mug": "second", "jug": "new"}
    # when both are undone, twice
    for _ in range(2):
        for task in ("b", "c"):
            assert isinstance(await step.undo(event(task), NoCell()), Forward)
    # then all is as it was, to the column
    assert await rows(engine, catalogue) == before
    # and one that never wrote has nothing to undo
    assert await step.undo(event("z"), NoCell()) == Forward(notes=("nothing to undo",))
    assert await rows(engine, catalogue) == before


@pytest.mark.parametrize("order", ["bc", "cb"])
async def test_tasks_are_undone_in_any_order(engine: AsyncEngine, order: str) -> None:
    step = await undoing(engine)
    for number, task in enumerate("abc"):
        await step.act(event(task, f"of {task}", float(number)), NoCell())
    left = {"bc": ["of c", "of a"], "cb": ["of b", "of a"]}[order]
    for task, copy in zip(order, left, strict=True):
        await step.undo(event(task), NoCell())
        assert await texts(engine) == {"mug": copy}
    # a task that was written again after that stands again, as after a redrive
    await step.act(event("b", "of b again", 1.0), NoCell())
    assert await texts(engine) == {"mug": "of b again"}


async def test_a_row_that_another_task_has_written_since_stands(engine: AsyncEngine) -> None:
    plain, step = await opened(engine), await undoing(engine)
    await step.act(event("a", "undone", 1.0), NoCell())
    await plain.act(event("b", "newer", 2.0), NoCell())
    await step.undo(event("a"), NoCell())
    assert await texts(engine) == {"mug": "newer"}


async def test_few_rows_of_a_product_are_kept(engine: AsyncEngine) -> None:
    step = await undoing(engine)
    for number in range(MOST_KEPT + 5):
        await step.act(event(f"t-{number:02}", str(number), float(number)), NoCell())
        await step.act(event(f"j-{number:02}", str(number), 1.0, f"jug-{number}"), NoCell())
    kept = await rows(engine, catalogue_history)
    assert [row["task"] for row in kept if row["product"] == "mug"] == [f"t-{n:02}" for n in range(5, MOST_KEPT + 5)]
    assert len(kept) == MOST_KEPT * 2 + 5


async def test_writes_and_undos_of_two_workers_at_once_leave_the_newest_that_was_not_undone(
    engine: AsyncEngine, url: str
) -> None:
    other = engine_of(url)
    steps = [await undoing(engine), await undoing(other)]

    async def task(number: int) -> None:
        step, own = steps[number % 2], event(f"t-{number:03}", str(number), float(number), f"p-{number % 5}")
        for _ in range(100):
            if isinstance(await step.act(own, NoCell()), Forward):
                break
        for _ in range(100):
            if number % 3 == 0 or isinstance(await step.undo(own, NoCell()), Forward):
                break

    await asyncio.gather(*(task(number) for number in range(60)))
    await other.dispose()
    expected = {f"p-{p}": str(max(n for n in range(60) if n % 5 == p and n % 3 == 0)) for p in range(5)}
    assert await texts(engine) == expected


async def test_a_row_that_is_being_taken_back_is_not_kept_by_a_write_that_replaces_it(postgres: Postgres) -> None:
    url = postgres.create(f"test_{next(_numbers)}")
    await prepare_database(options_of(url))
    engine, other = engine_of(url), engine_of(url)
    step = await undoing(engine)
    for number, task in enumerate("ab"):
        await step.act(event(task, f"of {task}", float(number)), NoCell())
    # given an undo whose transaction is still open, and a write that waits for it
    async with other.begin() as connection:
        assert await History(other).take_back(connection, "acme", "b", step.name) == ["mug"]
        write = asyncio.create_task(step.act(event("c", "of c", 2.0), NoCell()))
        await until_one_waits(engine)
    assert isinstance(await write, Forward)
    # when that write is undone too, then what was taken back before does not stand again
    await step.undo(event("c"), NoCell())
    assert await texts(engine) == {"mug": "of a"}
    await other.dispose()
    await engine.dispose()


async def until_one_waits(engine: AsyncEngine) -> None:
    # of one database only, and each time in a transaction of its own, which sees what is now
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    async with asyncio.timeout(10.0):
        while True:
            async with engine.connect() as connection:
                if (await connection.execute(waiting)).scalar():
                    return
            await asyncio.sleep(0.01)


async def test_a_sandbox_writes_nothing_and_says_what_it_would_have_written(engine: AsyncEngine) -> None:
    step = await opened(engine)
    outcome = await step.act(replace(event(), sandbox=True), NoCell())
    await step.close()
    assert isinstance(outcome, Forward)
    assert outcome.output["would_write"] == {**row_of(event()), "title": "", "language": ""}
    assert outcome.notes == ("sandbox: the catalogue's row of 'mug' was not written",)
    assert [await rows(engine, table) for table in (catalogue, inference_log, chain_log)] == [[], [], []]
