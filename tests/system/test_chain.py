"""Chains at work: steps that users wrote, on services of their own, in processes of their own; and what goes wrong."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from callstream.streams.event import Json
from tests.support.kafka import committed
from tests.support.running import (
    LISTING,
    OBEDIENT,
    QUICK,
    ROOT,
    TENANT,
    Settings,
    System,
    as_record,
    body,
    headers,
    running_system,
    submission,
    until,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

TRANSLATION = f"{ROOT / 'examples' / 'translation' / 'chain.py'}:chain"
SECRET = "whsec_" + "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="
MUG = {"product_id": "mug", "title": "A blue mug"}
BURIED = "callstream.task.dead"
OTHERS = ("gateway", "intake", "prepare", "infer", "moderate", "deliver", "timer", "review", "notify", "paused", "obey")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """Everything but the service `translate` in one process, and that one by itself in another."""
    settings: Settings = {("engine", "commit_interval_seconds"): 0.2, ("notify", "secret"): SECRET}
    settings = {**settings, ("engine", "missing_version_hours"): 0.001}
    chains = (QUICK, OBEDIENT, LISTING, TRANSLATION)
    async with running_system(tmp_path_factory.mktemp("chain"), chains, settings) as running:
        await running.start(OTHERS)
        yield running


def rows(system: System, statement: str, *values: object) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(system.database, timeout=10)) as database:
        return database.execute(statement, values).fetchall()


async def test_a_users_step_on_its_own_service_takes_its_part_from_a_process_of_its_own(system: System) -> None:
    # given a task that waits before the service `translate`, which nobody runs
    told = await system.worker.submit("translation", MUG)

    async def waits() -> bool:
        row = await system.worker.row(told["id"])
        return row is not None and row["next"] == {"step": "translate", "service": "translate"}

    await until(waits, "the task waits for its translation")
    # when that service starts alone
    alone = await system.start(["translate"], has_gateway=False)
    # then the task goes through it, and its work is in the catalogue
    row = await system.worker.reaches(told["id"], "finished")
    assert set(row["result"]) == {"en", "de", "fr"}
    assert all(row["result"].values())
    step = next(step for step in row["steps"] if step["step"] == "translate")
    assert (step["service"], step["calls"], step["model"]) == ("translate", 2, "stub-writer")
    assert (await system.stub.task(TENANT, told["id"]))["calls"] == 3
    await system.settled()
    assert await committed(system.bootstrap, "callstream-translate")
    (found,) = rows(system, "select text, task from catalogue where product = 'mug' and task = ?", told["id"])
    assert found == (row["result"]["en"], told["id"])
    # and it ends when it is told to
    assert await alone.stop() == 0
    assert "Traceback" not in alone.log()


async def test_an_unknown_service_is_refused_with_those_that_there_are(system: System) -> None:
    worker = await system.start(["nonsense"], has_gateway=False)
    async with asyncio.timeout(60):
        assert await worker.process.wait() != 0
    assert "'nonsense'" in worker.log()
    assert "translate" in worker.log()
    assert "Traceback" not in worker.log()


async def failed(system: System, task: str, kind: str) -> Json:
    """The dead letter of a task that has failed for that reason."""
    row = await system.worker.reaches(task, "failed")
    assert row["failure"]["kind"] == kind
    (letter,) = await (await system.tail("dead")).of_task(task, BURIED)
    assert row["next"] is None
    return body(letter)


async def test_a_step_that_raises_is_tried_again_and_buried_with_its_traceback(system: System) -> None:
    told = await system.worker.submit("obedient", {"do": "raise"})
    letter = await failed(system, told["id"], "bug")
    assert letter["failure"]["message"] == "RuntimeError: the shelf is on fire"
    assert letter["failure"]["step"] == "first"
    assert 'raise RuntimeError("the shelf is on fire")' in letter["failure"]["traceback"]
    hop = letter["trail"][-1]
    assert (hop["step"], hop["attempts"]) == ("first", 3)
    assert sum("the shelf is on fire" in note for note in hop["notes"]) >= 3
    # and its caller is told the message, not the traceback
    row = await system.worker.row(told["id"])
    assert row is not None
    assert row["steps"][-1]["attempts"] == 3
    assert "traceback" not in row["failure"]


async def test_a_step_that_raises_twice_is_done_in_the_third_attempt(system: System) -> None:
    told = await system.worker.submit("obedient", {"do": "raise-twice"})
    row = await system.worker.reaches(told["id"], "finished")
    assert row["result"]["first"] == {"done": "raise-twice", "attempt": 3}
    assert [step["attempts"] for step in row["steps"]] == [1, 3, 3]


async def test_a_step_whose_output_is_no_json_is_buried(system: System) -> None:
    told = await system.worker.submit("obedient", {"do": "nonsense"})
    letter = await failed(system, told["id"], "bug")
    assert "not JSON compliant" in letter["failure"]["message"]


async def test_a_task_that_fails_leaves_the_catalogue_as_it_was(system: System) -> None:
    # given a product of a task that ended well
    def stored() -> list[tuple[object, ...]]:
        return rows(system, "select * from catalogue where product = 'lamp'")

    given = {"product_id": "lamp", "title": "A lamp"}
    told = await system.worker.submit("listing", given)
    await system.worker.reaches(told["id"], "finished")
    before = stored()
    assert len(before) == 1
    # when another one writes it and then fails for good
    failing = await system.worker.submit("listing", {**given, "title": "No lamp", "do": "raise"})
    row = await system.worker.reaches(failing["id"], "failed")
    # then each step is undone, the last one first, the row is as it was, and the failure is that of the step
    assert stored() == before
    assert row["failure"]["step"] == "third"
    assert [(step["step"], step.get("undo", False)) for step in row["steps"]] == [
        ("intake", False),
        ("first", False),
        ("second", False),
        ("third", False),
        ("second", True),
        ("first", True),
    ]
    assert row["steps"][-1]["notes"] == ["'lamp' is as it was before"]


async def test_a_cancelled_task_leaves_the_catalogue_as_it_was_or_keeps_what_it_wrote(system: System) -> None:
    for product, rollback in (("bowl", True), ("jug", False)):
        given = {"product_id": product, "title": "A thing", "do": "hang"}
        told = await system.worker.submit("listing", given)

        async def written(product: str = product) -> bool:
            return bool(rows(system, "select * from catalogue where product = ?", product))

        await until(written, f"{product} is in the catalogue")
        async with system.worker.http.post(f"/v1/tasks/{told['id']}/cancel", json={"rollback": rollback}) as answer:
            assert (answer.status, (await answer.json())["cancel"]["rollback"]) == (202, rollback)
        row = await system.worker.reaches(told["id"], "cancelled")
        assert await written() is not rollback
        assert any(step.get("undo") for step in row["steps"]) is rollback
        assert ("without rollback: what was done stays" in row["steps"][-1]["notes"]) is not rollback


async def test_an_undo_that_always_fails_is_a_dead_letter_and_stops_no_other(system: System) -> None:
    told = await system.worker.submit("listing", {"product_id": "vase", "title": "stuck", "do": "raise"})
    letters = await system.tail("dead")
    row = await system.worker.reaches(told["id"], "failed")
    assert rows(system, "select * from catalogue where product = 'vase'") == []
    # three attempts, and what went wrong
    assert [(step["step"], step["attempts"]) for step in row["steps"] if step.get("undo")] == [
        ("second", 3),
        ("first", 1),
    ]
    failed, stuck = [body(one)["failure"] for one in await letters.of_task(told["id"], "callstream.task.dead", 2)]
    assert failed["step"] == "third"
    assert (stuck["step"], stuck["message"]) == ("undo second", "RuntimeError: what was done stays done")


async def test_a_step_may_end_its_task_early(system: System) -> None:
    told = await system.worker.submit("obedient", {"do": "finish"})
    row = await system.worker.reaches(told["id"], "finished")
    assert row["result"] == {"first": {"early": True}}


async def test_a_hanging_step_holds_up_nobody_else(system: System) -> None:
    hanging = await system.worker.submit("obedient", {"do": "hang"})
    others = [await system.worker.submit("obedient", {"do": "forward"}) for _ in range(5)]
    for told in others:
        await system.worker.reaches(told["id"], "finished")
    row = await system.worker.row(hanging["id"])
    assert row is not None
    assert row["state"] in ("accepted", "running")
    # Its three attempts have three seconds each.
    await failed(system, hanging["id"], "timeout")


@pytest.mark.parametrize("topic", ["intake", "prepare", "infer", "moderate", "deliver", "finished"])
async def test_a_tasks_event_that_comes_again_twice_leaves_one_row_and_no_second_call(
    system: System, topic: str
) -> None:
    # given a task that has ended
    given = {"product_id": f"again-{topic}", "title": "A red mug"}
    told = await system.worker.submit("quick", given)
    row = await system.worker.reaches(told["id"], "finished")
    stored = rows(system, "select * from catalogue where task = ?", told["id"])
    assert len(stored) == 1
    logged = [
        rows(system, f"select * from {table} where task = ? order by position", told["id"])
        for table in ("inference_log", "chain_log")
    ]
    assert [len(found) for found in logged] == [1, 5]
    # when its event on that topic comes again, twice
    tail = await system.tail(topic)
    (event,) = await tail.find(lambda one: headers(one)["ce_subject"] == told["id"].encode(), topic)
    for _ in range(2):
        await system.put_raw(topic, event.value, event.key, event.headers)
    await system.settled()
    # then all is as it was
    assert await system.worker.row(told["id"]) == row
    again = rows(system, "select * from catalogue where task = ?", told["id"])
    assert len(again) == 1
    for table in ("inference_log", "chain_log"):
        (count,) = rows(system, f"select count(*) from {table} where task = ?", told["id"])
        assert count == ((1 if table == "inference_log" else 5),)
    assert (await system.stub.task(TENANT, told["id"]))["calls"] == 1


async def test_an_older_task_that_comes_again_leaves_a_newer_ones_copy(system: System) -> None:
    given = {"product_id": "twice", "title": "An old mug"}
    older = await system.worker.submit("quick", given)
    await system.worker.reaches(older["id"], "finished")
    newer = await system.worker.submit("quick", {**given, "title": "A new mug"})
    await system.worker.reaches(newer["id"], "finished")
    tail = await system.tail("deliver")
    (event,) = await tail.find(lambda one: headers(one)["ce_subject"] == older["id"].encode(), "deliver")
    await system.put_raw("deliver", event.value, event.key, event.headers)
    await system.settled()
    assert rows(system, "select title, task from catalogue where product = 'twice'") == [("A new mug", newer["id"])]


async def test_a_task_goes_on_where_the_model_was_away(system: System) -> None:
    await system.stub.control(fail={"503": 1.0})
    try:
        told = await system.worker.submit("quick", MUG)

        async def tried() -> bool:
            return int((await system.stub.task(TENANT, told["id"]))["calls"]) > 0

        await until(tried, "the model was asked")
    finally:
        await system.stub.control(fail={})
    row = await system.worker.reaches(told["id"], "finished")
    copy = next(step for step in row["steps"] if step["step"] == "copy")
    assert copy["tokens_out"] > 0
    assert (await system.stub.task(TENANT, told["id"]))["paid"] == 1


async def test_a_private_address_is_not_called_unless_settings_allow_it(system: System) -> None:
    received: list[str] = []

    async def take(request: web.Request) -> web.Response:
        received.append(request.path)
        return web.Response(status=204)

    application = web.Application()
    application.router.add_post("/done", take)
    async with TestServer(application) as server:
        told = await system.worker.submit("quick", MUG, callback=str(server.make_url("/done")))
        (letter,) = await (await system.tail("dead")).of_task(told["id"], BURIED)
        assert body(letter)["failure"]["kind"] == "callback-address"
        assert (await system.worker.reaches(told["id"], "finished"))["failure"] is None
        await system.settled()
    assert received == []


async def test_a_task_finishes_on_the_version_it_started_on_or_says_that_it_is_gone(system: System) -> None:
    event = submission("quick", MUG, "from-the-past")
    await system.put("intake", as_record(event, "intake"))
    await system.worker.reaches(event.task, "finished")
    tail = await system.tail("prepare")
    (started,) = await tail.find(lambda one: headers(one)["ce_subject"] == b"from-the-past", "prepare")
    assert headers(started)["ce_chainversion"] == b"1"
    # an event of a version that no worker has is kept, with what they have
    moved = [(name, b"2" if name == "ce_chainversion" else raw) for name, raw in started.headers]
    moved = [(name, b"to-the-future" if name == "ce_subject" else raw) for name, raw in moved]
    await system.put_raw("prepare", started.value, None, moved)
    letter = await failed(system, "to-the-future", "unknown-chain")
    assert "no 'quick' version 2" in letter["failure"]["message"]
    assert letter["submission"]["input"]["title"] == MUG["title"]
