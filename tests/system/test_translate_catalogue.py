"""The example `translate-catalogue`: an index by tasks, a glossary, five sub-tasks, translators, one row of SQL."""

import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from callstream.agents.matching import read
from callstream.streams.event import Json
from tests.support.running import System, running_system, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

EXAMPLE = Path(__file__).parents[2] / "examples/translate-catalogue"
PRODUCTS: list[dict[str, Any]] = [json.loads(line) for line in (EXAMPLE / "products.jsonl").read_text().splitlines()]
LANGUAGES = ("de", "fr", "zh", "es", "it")
"""In the order of their sub-tasks."""
EDIT: Json = {"copy": {"title": "Put right by hand"}}
SAID: list[Json] = [{"verdict": "reject", "reason": "no"}, {"verdict": "edit", "edits": EDIT}, {"verdict": "approve"}]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    async with running_system(tmp_path_factory.mktemp("translate"), (f"{EXAMPLE / 'catalogue.py'}:chain",)) as made:
        made.ask_stub("translator", "embedder")
        await made.start()
        yield made


async def reviews(system: System, task: str) -> list[Json]:
    """The sub-tasks of a task that wait for a translator."""
    async with system.worker.http.get("/v1/reviews?limit=100") as answer:
        return [row for row in (await answer.json())["reviews"] if row["id"].startswith(f"{task}~")]


async def decide(system: System, task: str, said: Json) -> None:
    async with system.worker.http.post(f"/v1/reviews/{task}", json={"reviewer": "ann", **said}) as answer:
        assert answer.status == 202, await answer.text()


async def command(system: System, *words: str) -> tuple[int, str]:
    """What `callstream match` says, and its exit code."""
    code, out, err = await system.worker.command("match", *words)
    return code, out + err


async def test_an_index_is_made_by_tasks_and_a_second_run_asks_no_model(system: System, tmp_path: Path) -> None:
    out = tmp_path / "glossary.npz"
    make = ("index", str(EXAMPLE / "glossary.jsonl"), "--member", "term", "--out", str(out))
    code, said = await command(system, *make)
    assert (code, "26 items, vectors of 256 numbers by embedder" in said) == (0, True), said
    made, shipped = read(out), read(EXAMPLE / "glossary.npz")
    assert (made.items, made.model) == (shipped.items, shipped.model)
    assert abs(made.vectors - shipped.vectors).max() < 1e-6
    before = (await system.stub.report())["calls"]
    assert (await command(system, *make))[0] == 0
    assert (await system.stub.report())["calls"] == before
    code, said = await command(system, "find", str(out), "stoneware from the kiln", "--most", "1")
    assert (code, '"term":"stoneware"' in said) == (0, True), said


async def test_bad_items_are_named_and_nothing_is_written(system: System, tmp_path: Path) -> None:
    items, out = tmp_path / "items.jsonl", tmp_path / "out.npz"
    for text, told in (("", "no items"), ('{"text": "a"}\n{"text": 1}', ":2: 'text' must be a text"), ("{", ":1: ")):
        items.write_text(text)
        code, said = await command(system, "index", str(items), "--out", str(out))
        assert (code, told in said, out.exists()) == (1, True, False), said
    items.write_text('{"text": "a"}')
    code, said = await command(system, "index", str(items), "--out", str(out), "--chain", "none")
    assert (code, "none" in said, out.exists()) == (1, True, False), said


async def test_every_product_is_written_in_the_languages_that_translators_let_pass(system: System) -> None:
    for one in PRODUCTS:
        await system.worker.submit("translate-catalogue", one["input"], id=one["id"])
    decided: dict[str, str] = {}

    async def ended(task: str) -> bool:
        for row in await reviews(system, task):
            if row["id"] not in decided:
                assert row["review"]["group"].startswith("translators-")
                # The first one is rejected, the second put right by hand, the others pass.
                await decide(system, row["id"], SAID[min(len(decided), 2)])
                decided[row["id"]] = str(row["held"])
        async with system.worker.http.get(f"/v1/tasks/{task}") as answer:
            return (await answer.json())["state"] in ("finished", "failed")

    for one in PRODUCTS:
        await until(partial(ended, one["id"]), f"{one['id']} has ended")
    rows = {one["id"]: await system.worker.reaches(one["id"], "finished") for one in PRODUCTS}
    titles = {task: row["result"]["titles"] for task, row in rows.items()}
    # The glossary's words are in the translations.
    told = {titles["cat-mug"].get(language) for language in LANGUAGES} - {None, EDIT["copy"]["title"]}
    settled = ("Steinzeug Becher", "grès mug", "炻器 马克杯", "gres taza", "gres tazza")
    assert len(told) >= 3
    assert all(any(words in str(title) for words in settled) for title in told)
    assert len(decided) >= 2
    rejected, edited = list(decided)[:2]
    without = [(task, language) for task, row in rows.items() for language in row["result"]["without"]]
    assert without == [language_of(rejected)]
    task, language = language_of(edited)
    assert titles[task][language] == EDIT["copy"]["title"]
    with contextlib.closing(sqlite3.connect(system.database, timeout=10)) as database:
        found = dict(database.execute("select task, attributes from catalogue").fetchall())
    for one in PRODUCTS:
        written = json.loads(found[one["id"]])["translations"]
        assert {language: text["title"] for language, text in written.items()} == titles[one["id"]]


def language_of(subtask: str) -> tuple[str, str]:
    """The task and the language of a sub-task: `cat-mug~1.2` is its second."""
    task, _, number = subtask.partition("~")
    return task, LANGUAGES[int(number.partition(".")[2]) - 1]
