"""Dead letters over HTTP, over the desk in memory."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from callstream.agents.settle import Work, settle
from callstream.streams.chain import Cell, Chain, Chains, Step
from callstream.streams.event import Body, Event, Failure, Hop, Json, Submission
from callstream.streams.outcome import Bury, Forward, Outcome
from callstream.streams.wire import decode
from callstream.web.fake import FakePort
from callstream.web.letters import Found, bounded, whole_job
from tests.unit.web.conftest import Client, Prepare, Product, Start, Write


class Harmless(Prepare):
    """A step that may be run dry."""

    harmless = True

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Say the title aloud."""
        if event.input["title"] == "Broken":
            raise RuntimeError("the mug is broken")
        return Forward({"loud": event.input["title"].upper()})


class Sent(Write):
    """A step that tells what it would do."""

    async def rehearse(self, event: Event) -> Json:
        """The words."""
        return {"would_send": event.body.outputs["prepare"]["loud"]}


class Final(Step):
    """A step that does not."""

    name = "final"
    service: ClassVar[str] = "deliver"


@pytest.fixture
def chains() -> Chains:
    """One chain of three steps."""
    return Chains([Chain("product-copy", Product, (Harmless(), Sent(), Final()))])


async def bury(port: FakePort, *tasks: str, chains: Chains, sequence: int = 2, **changes: Any) -> None:
    """Let tasks die in a step of the chain."""
    for task in tasks:
        body = Body(submission=Submission(chain="product-copy", input={"title": "Mug"}), digest="0" * 64)
        event = Event("default", task, "product-copy", 1, sequence, body, time=10.0)
        names = ["intake", "prepare", "write", "final"]
        trail = tuple(Hop(step=name, service=name, started=1.0, ended=2.0) for name in names[:sequence])
        outputs = {"prepare": {"loud": "MUG"}} if sequence > 1 else {}
        event = replace(event.with_body(trail=trail, outputs=outputs), **changes)
        failure = Failure(kind="refused", message=f"HTTP 400: {task} in trace {abs(hash(task)):012d}")
        work = Work("infer", names[sequence], 3.0, 4.0, origin=("callstream.infer", 0, 9))
        letter, *_ = settle(event, Bury(failure), work, chains)
        await port.dead.send(decode(letter.value, letter.headers))


async def ask(client: Client, method: str, path: str, status: int, body: Json | None = None, **query: str) -> Any:
    headers: Mapping[str, str] = {"Idempotency-Key": query.pop("key")} if "key" in query else {}
    async with client.request(method, f"/v1/dead{path}", json=body, params=query, headers=headers) as said:
        told = await said.json(content_type=None)
        assert said.status == status, told
        return told


async def test_letters_are_listed_page_by_page_over_all_partitions(
    client: Client, port: FakePort, chains: Chains
) -> None:
    tasks = [f"mug-{number:02d}" for number in range(25)]
    await bury(port, *tasks, chains=chains)
    found, cursor = [], ""
    while cursor is not None:
        page = await ask(client, "GET", "", 200, limit="7", cursor=cursor)
        assert len(page["letters"]) <= 7
        found += [row["task"] for row in page["letters"]]
        cursor = page["next"]
    assert found == tasks


async def test_a_filter_and_the_states(client: Client, port: FakePort, chains: Chains) -> None:
    await bury(port, "a", "b", chains=chains)
    await bury(port, "c", chains=chains, sequence=3)
    assert [row["task"] for row in (await ask(client, "GET", "", 200, where="step == 'final'"))["letters"]] == ["c"]
    await ask(client, "POST", "/a/discard", 200, {"reason": "noise"})
    for state, tasks in (("waiting", ["b", "c"]), ("discarded", ["a"]), ("all", ["a", "b", "c"]), ("redriven", [])):
        assert [row["task"] for row in (await ask(client, "GET", "", 200, state=state))["letters"]] == tasks


async def test_groups_count_letters_of_one_cause(client: Client, port: FakePort, chains: Chains) -> None:
    await bury(port, "mug-1", "mug-2", "mug-3", chains=chains)
    await bury(port, "mug-4", chains=chains, sequence=3)
    told = await ask(client, "GET", "", 200, group="cause")
    assert [(group["step"], group["kind"], group["letters"]) for group in told["groups"]] == [
        ("write", "refused", 3),
        ("final", "refused", 1),
    ]
    assert told["complete"] is True


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ({"where": "step ="}, "bad-condition"),
        ({"where": "nope > 1"}, "bad-condition"),
        ({"where": "step.deep == 'x'"}, "bad-condition"),
        ({"where": "x" * 501}, "bad-condition"),
        ({"group": "day"}, "bad-group"),
        ({"state": "lost"}, "bad-state"),
        ({"limit": "0"}, "bad-limit"),
        ({"limit": "201"}, "bad-limit"),
        ({"cursor": "%%%"}, "bad-cursor"),
        ({"cursor": "A" * 601}, "bad-cursor"),
    ],
)
async def test_what_cannot_be_asked(client: Client, query: dict[str, str], kind: str) -> None:
    assert (await ask(client, "GET", "", 400, None, **query))["type"] == f"urn:callstream:problem:{kind}"


async def test_one_letter_with_its_input_and_where_it_can_begin(client: Client, port: FakePort, chains: Chains) -> None:
    await bury(port, "mug-1", chains=chains)
    told = await ask(client, "GET", "/mug-1", 200)
    assert (told["input"], told["can_begin_at"]) == ({"title": "Mug"}, ["prepare", "write"])
    assert told["from"] == {"topic": "callstream.infer", "partition": 0, "offset": 9}
    for path, query in (("/nobody", {}), ("/mug-1", {"tenant": "other"}), ("/mug-1", {"letter": "callback"})):
        await ask(client, "GET", path, 404, None, **query)
    await ask(client, "GET", "/mug-1", 400, letter="love")
    await ask(client, "GET", "/mug-1", 400, tenant="no tenant")


async def test_a_redrive_is_done_once_however_often_it_is_sent(client: Client, port: FakePort, chains: Chains) -> None:
    await bury(port, "mug-1", chains=chains)
    told = await ask(client, "POST", "/mug-1/redrive", 200, {"by": "kim", "reason": "mended"})
    assert (told["done"]["by"], told["done"]["run"]) == ("kim (default)", 1)
    problem = await ask(client, "POST", "/mug-1/redrive", 409, {})
    assert "it was redriven already by kim (default)" in problem["detail"]
    assert [(event.task, event.sequence, event.run) for event in port.dead.again] == [("mug-1", 2, 1)]


async def test_a_decision_that_takes_longer_is_accepted(
    client: Client, port: FakePort, chains: Chains, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callstream.web.dead.WAIT_SECONDS", 0.1)
    await bury(port, "mug-1", chains=chains)
    port.dead.hold()
    told = await ask(client, "POST", "/mug-1/redrive", 202, {}, key="one")
    assert told["state"] == "accepted"
    again = await ask(client, "POST", "/mug-1/redrive", 202, {}, key="one")
    assert again["command"] == told["command"]
    assert len(port.dead.held) == 2


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"from_step": "final"}, 409, "it can at: prepare, write"),
        ({"from_step": "nope"}, 409, "it can at: prepare, write"),
        ({"from_step": 7}, 422, "from_step"),
        ({"ask_again": "perhaps"}, 422, "ask_again"),
        ({"nope": 1}, 422, "nope"),
        ({"reason": "x" * 501}, 422, "reason"),
    ],
)
async def test_a_redrive_that_cannot_be(
    client: Client, port: FakePort, chains: Chains, body: Json, status: int, told: str
) -> None:
    await bury(port, "mug-1", chains=chains)
    assert told in (await ask(client, "POST", "/mug-1/redrive", status, body))["detail"]
    assert port.dead.again == []


async def test_a_letter_whose_chain_is_gone(port: FakePort, start: Start, client: Client, chains: Chains) -> None:
    await bury(port, "mug-1", chains=chains)
    gone = replace((await _event(port)), version=9)
    await port.dead.send(replace(gone, task="mug-9"))
    problem = await ask(client, "POST", "/mug-9/redrive", 409, {})
    assert "this worker has no 'product-copy' version 9" in problem["detail"]
    assert "have a worker serve that version again" in problem["detail"]
    assert "this worker has no" in (await ask(client, "GET", "/mug-9", 200))["cannot_redrive"]


async def _event(port: FakePort) -> Event:
    letter = port.letters.letter("default", "mug-1", None)
    assert letter is not None
    assert letter.event is not None
    return letter.event


async def test_an_edit_is_checked_by_the_chains_model(client: Client, port: FakePort, chains: Chains) -> None:
    await bury(port, "mug-1", chains=chains)
    for given, told in (({"title": 7}, "title"), ({}, "title"), ({"title": "x", "more": 1}, "more")):
        assert told in (await ask(client, "PUT", "/mug-1/input", 422, given))["detail"]
    await ask(client, "PUT", "/mug-1/input", 422, {"title": "Cup"}, by="x" * 201)
    await ask(client, "PUT", "/mug-1/input", 200, {"title": "Cup"}, by="ada@desk", reason="a typing error")
    told = await ask(client, "GET", "/mug-1", 200)
    assert told["audit"][-1]["by"].startswith("ada@desk")
    assert told["audit"][-1]["reason"] == "a typing error"
    assert (told["edited"], told["input"]) == (True, {"title": "Cup", "price": 1.0})
    await ask(client, "POST", "/mug-1/redrive", 200, {})
    assert port.dead.again[0].sequence == 1
    await ask(client, "PUT", "/mug-1/input", 409, {"title": "Bowl"})


async def test_a_dry_run_shows_what_would_happen_and_changes_nothing(
    client: Client, port: FakePort, chains: Chains
) -> None:
    await bury(port, "mug-1", chains=chains)
    written = len(port.dead.rows.written)
    told = await ask(client, "POST", "/mug-1/dry-run", 200, {"from_step": "prepare"})
    assert told["steps"] == [
        {"step": "prepare", "service": "prepare", "output": {"loud": "MUG"}, "notes": []},
        {"step": "write", "service": "infer", "would_send": "MUG"},
    ]
    assert len(port.dead.rows.written) == written
    assert (await ask(client, "GET", "/mug-1", 200))["state"] == "waiting"


async def test_a_dry_run_of_a_step_that_fails_and_of_one_that_has_none(
    client: Client, port: FakePort, chains: Chains
) -> None:
    await bury(port, "mug-1", chains=chains)
    await bury(port, "mug-2", chains=chains, sequence=3)
    await ask(client, "PUT", "/mug-1/input", 200, {"title": "Broken"})
    told = await ask(client, "POST", "/mug-1/dry-run", 200)
    assert told["steps"][0]["would_fail"]["message"] == "RuntimeError: the mug is broken"
    problem = await ask(client, "POST", "/mug-2/dry-run", 409)
    assert "step 'final' is not harmless and has no rehearsal" in problem["detail"]


async def test_a_job_over_letters(client: Client, port: FakePort, chains: Chains) -> None:
    await bury(port, *(f"mug-{number}" for number in range(6)), chains=chains)
    await ask(client, "POST", "/redrive", 400, {"where": "nope"})
    await ask(client, "POST", "/redrive", 422, {"rate": 0})
    made = await ask(client, "POST", "/redrive", 202, {"where": "task != 'mug-3'", "rate": 1000}, key="k")
    same = await ask(client, "POST", "/redrive", 202, {"where": "task != 'mug-3'", "rate": 1000}, key="k")
    assert made == same
    path = f"/jobs/{made['job']}"
    assert (await ask(client, "GET", path, 200))["state"] == "running"
    await ask(client, "POST", f"{path}/pause", 202)
    assert (await ask(client, "GET", path, 200))["state"] == "paused"
    await ask(client, "POST", f"{path}/resume", 202, {"by": "kim"})
    for moment in range(4):
        for partition in port.dead.rows.open_partitions():
            await port.dead.runner.look(partition, time.time() + moment)
    told = await ask(client, "GET", path, 200)
    assert (told["state"], told["matched"], told["sent"], told["missing"]) == ("done", 5, 5, 0)
    assert sorted(event.task for event in port.dead.again) == ["mug-0", "mug-1", "mug-2", "mug-4", "mug-5"]
    assert [job["job"] for job in (await ask(client, "GET", "/jobs", 200))["jobs"]] == [made["job"]]
    await ask(client, "POST", f"{path}/cancel", 409)
    await ask(client, "POST", f"{path}/explode", 404)
    await ask(client, "GET", "/jobs/nope", 404)
    await ask(client, "GET", "/jobs/NO..PE", 400)


async def test_a_job_that_nobody_has_begun_is_accepted(client: Client, port: FakePort) -> None:
    port.dead.hold()
    made = await ask(client, "POST", "/redrive", 202, {"where": "kind == 'refused'"})
    told = await ask(client, "GET", f"/jobs/{made['job']}", 200)
    assert (told["state"], told["where"], told["matched"]) == ("accepted", "kind == 'refused'", None)
    assert told["missing"] == port.dead.box.partitions
    # and it can be stopped before it begins
    await ask(client, "POST", f"/jobs/{made['job']}/pause", 202)


async def work_off(port: FakePort, begin: float = 0.0) -> None:
    """Let the jobs do what there is to do."""
    for moment in range(6):
        for partition in port.dead.rows.open_partitions():
            await port.dead.runner.look(partition, time.time() + begin + moment)


async def test_a_selection_is_discarded_or_edited_as_a_job(client: Client, port: FakePort, chains: Chains) -> None:
    await bury(port, *(f"mug-{number}" for number in range(4)), chains=chains)
    for path, body, why in (
        ("/redrive", {}, "say which letters"),
        ("/discard", {"reason": "old"}, "say which letters"),
        ("/discard", {"where": "true"}, "reason"),
        ("/discard", {"where": "true", "tasks": ["a"], "reason": "old"}, "either tasks or where"),
        ("/discard", {"tasks": [], "reason": "old"}, "tasks"),
        ("/discard", {"tasks": ["a"] * 1_001, "reason": "old"}, "tasks"),
        ("/edit", {"where": "true"}, "patch"),
        ("/edit", {"where": "true", "patch": {}}, "patch"),
        ("/edit", {"where": "true", "patch": {"title": "x" * 70_000}}, "at most 65,536"),
        ("/redrive", {"where": "true", "tenant": "acme"}, "tenant goes with tasks"),
    ):
        assert why in str(await ask(client, "POST", path, 422, body)), (path, body)
    await ask(client, "POST", "/discard", 400, {"where": "nope == 1", "reason": "old"})
    made = await ask(client, "POST", "/discard", 202, {"tasks": ["mug-1", "mug-2"], "reason": "old"})
    await work_off(port)
    told = await ask(client, "GET", f"/jobs/{made['job']}", 200)
    assert (told["does"], told["state"], told["sent"], told["tasks"]) == ("discard", "done", 2, 2)
    listed = await ask(client, "GET", "", 200, state="discarded")
    assert sorted(row["task"] for row in listed["letters"]) == ["mug-1", "mug-2"]
    edit = await ask(client, "POST", "/edit", 202, {"where": "true", "patch": {"unknown": 1}, "rate": 1000})
    await work_off(port, begin=10.0)
    told = await ask(client, "GET", f"/jobs/{edit['job']}", 200)
    assert (told["state"], told["sent"], told["left"], told["patch"]) == ("done", 0, 2, {"unknown": 1})
    assert {one["task"] for one in told["refusals"]} == {"mug-0", "mug-3"}


async def test_only_an_operator_sees_dead_letters(start: Start) -> None:
    key = "k" * 16
    client = await start(api_keys=[{"key": key, "tenant": "acme", "role": "review"}])
    async with client.get("/v1/dead", headers={"Authorization": f"Bearer {key}"}) as said:
        assert said.status == 403


def test_a_page_ends_where_the_first_partition_was_looked_through_to() -> None:
    rows: list[tuple[bytes, Json]] = [(b"d", {}), (b"a", {}), (b"c", {}), (b"b", {})]
    assert [key for key, _ in bounded(Found(rows, b"c"), 10).letters] == [b"a", b"b", b"c"]
    cut = bounded(Found(rows, None), 2)
    assert ([key for key, _ in cut.letters], cut.upto) == ([b"a", b"b"], b"b")
    assert bounded(Found(rows, None), 4).upto is None


def test_a_job_is_done_when_every_part_is() -> None:
    part: Json = {
        "job": "j",
        "where": "",
        "rate": 1.0,
        "by": "kim",
        "reason": "",
        "from_step": None,
        "ask_again": False,
        "state": "done",
        "created": 1.0,
        "changed": 2.0,
        "matched": 3,
        "sent": 3,
        "looked_at": 4,
    }
    assert whole_job([part, part], 2)["state"] == "done"
    assert whole_job([part], 2)["state"] == "running"
    assert whole_job([part, part | {"state": "paused", "matched": None}], 2)["matched"] is None
    assert whole_job([part, part | {"state": "cancelled"}], 2)["state"] == "cancelled"
