"""Commands over HTTP: what is taken, what is refused and why, and what a task then says of itself."""

import time
from typing import Any

import pytest

from callstream.agents.control.commands import CancelTask, as_value
from callstream.agents.control.controls import MOST_TASKS
from callstream.streams.chain import Chains
from callstream.streams.keys import task_key
from callstream.web.fake import FakePort
from tests.unit.web.conftest import Client, Start, submission

WHY = {"reason": "not needed", "by": "ada"}
KEYS = [
    {"key": "s" * 16, "tenant": "acme", "role": "submit"},
    {"key": "o" * 16, "tenant": "acme", "role": "operate"},
]


async def post(client: Client, path: str, document: Any, status: int = 202, **more: Any) -> Any:
    answer = await client.post(path, json=document, **more)
    told = await answer.json()
    assert answer.status == status, told
    return told


async def row(client: Client, task: str) -> Any:
    return await (await client.get(f"/v1/tasks/{task}")).json()


async def test_a_task_is_cancelled_once_and_says_so(client: Client, port: FakePort) -> None:
    await post(client, "/v1/tasks", submission(id="mug-1"))
    first = await client.post("/v1/tasks/mug-1/cancel", json=WHY)
    again = await client.post("/v1/tasks/mug-1/cancel")
    told = await first.json()
    assert (first.status, again.status, await again.json()) == (202, 200, told)
    assert (again.headers["Idempotent-Replayed"], first.headers["Location"]) == ("true", "/v1/tasks/mug-1")
    assert (told["id"], told["state"], told["status_url"]) == ("mug-1", "accepted", "/v1/tasks/mug-1")
    assert (
        (await row(client, "mug-1"))["cancel"] == told["cancel"] == WHY | {"at": told["cancel"]["at"], "rollback": True}
    )
    port.end("default", "mug-1", "cancelled")
    assert (await client.post("/v1/tasks/mug-1/cancel")).status == 200
    assert "cancel" not in await row(client, "mug-1")


async def test_a_cancel_says_whether_what_was_done_is_undone_and_the_first_one_stands(client: Client) -> None:
    for task in ("a", "b"):
        await post(client, "/v1/tasks", submission(id=task))
    assert (await post(client, "/v1/tasks/a/cancel", {"rollback": False}))["cancel"]["rollback"] is False
    assert (await post(client, "/v1/tasks/a/cancel", {"rollback": True}, 200))["cancel"]["rollback"] is False
    await post(client, "/v1/control/cancel", {"tasks": ["b"], "rollback": False})
    assert (await row(client, "b"))["cancel"]["rollback"] is False
    told = await post(client, "/v1/control/cancel", {"filter": {"chain": "product-copy"}, "rollback": False})
    assert told["filter"]["rollback"] is False
    await post(client, "/v1/tasks/a/cancel", {"rollback": "perhaps"}, 422)


async def test_a_task_whose_gateway_has_a_clock_ahead_is_cancelled_all_the_same(client: Client, port: FakePort) -> None:
    await post(client, "/v1/tasks", submission(id="mug-1"))
    port.tables_by_name["tasks"][task_key("default", "mug-1")]["created"] = time.time() + 60
    await post(client, "/v1/tasks/mug-1/cancel", WHY)
    assert (await row(client, "mug-1"))["cancel"]["by"] == "ada"


@pytest.mark.parametrize("state", ["finished", "rejected", "failed"])
async def test_what_has_ended_and_what_nobody_knows_is_told(client: Client, port: FakePort, state: str) -> None:
    await post(client, "/v1/tasks", submission(id="mug-1"))
    port.end("default", "mug-1", state)
    ended = await post(client, "/v1/tasks/mug-1/cancel", WHY, 409)
    assert (ended["type"].rpartition(":")[2], ended["detail"].endswith(f"it is {state}")) == ("already-ended", True)
    assert (await post(client, "/v1/tasks/nobody/cancel", WHY, 404))["title"] == "Unknown task"
    assert (await client.post("/v1/tasks/-/cancel")).status == 400
    assert not port.controls.any


async def test_a_list_says_what_became_of_each(client: Client, port: FakePort) -> None:
    for task in ("a", "b", "c"):
        await post(client, "/v1/tasks", submission(id=task))
    port.end("default", "b")
    await post(client, "/v1/tasks/c/cancel", WHY)
    told = await post(client, "/v1/control/cancel", {"tasks": ["a", "b", "c", "d", "a"], **WHY})
    assert told["tasks"] == [
        {"id": "a", "outcome": "cancelled", "state": "accepted"},
        {"id": "b", "outcome": "ended", "state": "finished"},
        {"id": "c", "outcome": "cancelled before", "state": "accepted"},
        {"id": "d", "outcome": "unknown"},
    ]


async def test_tasks_of_other_gateways_are_cancelled_there(start: Start, chains: Chains) -> None:
    here, there, gone = FakePort(chains, time.time), FakePort(chains, time.time), "http://127.0.0.1:1"
    client, other = await start(here), await start(there)
    here.owners = {task_key("default", "b"): str(other.make_url("/")), task_key("default", "c"): gone}
    await post(client, "/v1/tasks", submission(id="a"))
    await post(other, "/v1/tasks", submission(id="b"))
    told = await post(client, "/v1/control/cancel", {"tasks": ["c", "b", "a"], **WHY})
    assert [one["outcome"] for one in told["tasks"]] == ["unreached", "cancelled", "cancelled"]
    assert (here.controls.tasks_cancelled, there.controls.tasks_cancelled) == (1, 1)
    assert (await client.post("/v1/tasks/b/cancel")).status == 200


async def test_a_filter_takes_the_tasks_of_before(client: Client, port: FakePort) -> None:
    await post(client, "/v1/tasks", submission(id="before"))
    told = await post(client, "/v1/control/cancel", {"filter": {"chain": "product-copy"}, **WHY})
    assert told["filter"] == {
        "chain": "product-copy",
        **WHY,
        "before": told["filter"]["at"],
        "at": told["filter"]["at"],
        "rollback": True,
    }
    await post(client, "/v1/tasks", submission(id="later"))
    assert "cancel" in await row(client, "before")
    assert "cancel" not in await row(client, "later")
    shown = await (await client.get("/v1/control")).json()
    assert (shown["filters"], shown["cancelled_tasks"]) == ([told["filter"]], 0)


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ({}, "give either tasks or filter"),
        ({"tasks": []}, "#/tasks: List should have at least 1 item, not 0"),
        ({"tasks": ["a b"]}, "#/tasks/0"),
        ({"tasks": ["a"] * 1001}, "#/tasks"),
        ({"tasks": ["a"], "filter": {"chain": "a"}}, "give either tasks or filter"),
        ({"filter": {}}, "names at least one of chain, tenant, state and created_before"),
        ({"filter": {"state": "finished"}}, "#/filter/state"),
        ({"filter": {"created_before": -1}}, "#/filter/created_before"),
        ({"filter": {"colour": "blue"}}, "#/filter/colour"),
        ({"filter": {"chain": "a"}, "tenant": "b"}, "with a filter, tenant belongs into it"),
        ({"tasks": ["a"], "reason": "x" * 501}, "#/reason"),
        ({"tasks": ["a"], "by": ""}, "#/by"),
    ],
)
async def test_a_cancel_that_cannot_be_is_told_where(client: Client, document: Any, place: str) -> None:
    told = await post(client, "/v1/control/cancel", document, 422)
    assert place in str(told)


async def test_what_is_paused_is_shown_and_waited_for(client: Client, port: FakePort) -> None:
    port.replicas = {"node-1:7": [{"pool": "writer"}]}
    await post(client, "/v1/tasks", submission(id="mug-1"))
    scopes: list[Any] = [
        {"chain": "product-copy"},
        {"tenant": "default"},
        {"service": "prepare"},
        {"task": "mug-1", "tenant": "default"},
    ]
    for scope in scopes:
        paused = await post(client, "/v1/control/pause", {"scope": scope, **WHY})
        assert paused == {"scope": scope, **WHY, "since": paused["since"]}
        assert await post(client, "/v1/control/pause", {"scope": scope, "by": "bob"}, 200) == paused
        waiting = (await row(client, "mug-1"))["waiting"]
        kind = next(iter(scope))
        assert waiting == {"reason": "paused", "waits_for": f"resume of {kind} {scope[kind]}", "paused": paused}
        assert (await (await client.get("/v1/control")).json())["pauses"] == [paused]
        resumed = await post(client, "/v1/control/resume", {"scope": scope})
        assert (resumed["scope"], resumed["paused_since"]) == (scope, paused["since"])
        assert "waiting" not in await row(client, "mug-1")
        assert (await post(client, "/v1/control/resume", {"scope": scope}, 409))["detail"].startswith(f"{kind} ")


async def test_a_pause_of_a_task_that_has_ended_or_that_nobody_knows_is_refused(client: Client, port: FakePort) -> None:
    await post(client, "/v1/tasks", submission(id="mug-1"))
    port.end("default", "mug-1", "finished")
    told = await post(client, "/v1/control/pause", {"scope": {"task": "mug-1"}, **WHY}, 409)
    assert told["detail"] == "task 'mug-1' cannot be paused any more: it is finished"
    assert (await post(client, "/v1/control/pause", {"scope": {"task": "nobody"}}, 404))["title"] == "Unknown task"
    await post(client, "/v1/control/pause", {"scope": {"task": "mug-1", "tenant": "other"}}, 404)
    assert not port.controls.any


async def test_a_filter_of_a_chain_that_nobody_knows_is_refused(client: Client, port: FakePort) -> None:
    told = await post(client, "/v1/control/cancel", {"filter": {"chain": "product-cpoy"}}, 422)
    detail = "#/filter/chain: no chain 'product-cpoy' can be cancelled here; there are: product-copy"
    assert told["detail"] == detail
    assert not port.controls.any


async def test_a_pool_is_paused_for_the_step_that_calls_it(client: Client, port: FakePort) -> None:
    port.replicas = {"node-1:7": [{"pool": "write"}]}
    await post(client, "/v1/tasks", submission(id="mug-1"))
    pause = await post(client, "/v1/control/pause", {"scope": {"pool": "write"}})
    assert pause["by"] == "default (operate)"
    assert (await (await client.get("/v1/pools")).json())["paused"] == {"write": pause}
    assert "waiting" not in await row(client, "mug-1")
    # the next step calls a pool of the step's name
    port.advance("default", "mug-1")
    assert (await row(client, "mug-1"))["waiting"]["waits_for"] == "resume of pool write"


@pytest.mark.parametrize(
    ("scope", "place"),
    [
        ({"chain": "nowhere"}, "no chain 'nowhere' can be paused here; there are: product-copy"),
        ({"service": "gateway"}, "there are: infer, intake, notify, prepare, review"),
        ({"service": "paused"}, "no service 'paused' can be paused here"),
        ({"pool": "none"}, "no pool 'none' can be paused here; there are: none"),
        ({}, "and none is named"),
        ({"chain": "a", "pool": "b"}, "not chain and pool"),
        ({"task": "a b"}, "#/scope/task"),
    ],
)
async def test_a_pause_of_what_is_not_there_is_refused(client: Client, scope: Any, place: str) -> None:
    assert place in str(await post(client, "/v1/control/pause", {"scope": scope}, 422))


async def test_beyond_its_bounds_no_more_is_taken(client: Client, port: FakePort) -> None:
    for number in range(MOST_TASKS):
        one = CancelTask.model_construct(at=1.0, by="a", reason="", tenant="t", task=f"t-{number}", before=1.0)
        port.controls._tasks[one.key] = one
    await post(client, "/v1/tasks", submission(id="mug-1"))
    told = await post(client, "/v1/tasks/mug-1/cancel", WHY, 409)
    assert told["detail"].startswith("100,000 cancelled tasks are in force and no more are taken: cancel by a filter")
    assert as_value(one)


async def test_only_operators_stop_what_is_not_their_own(start: Start, port: FakePort) -> None:
    client = await start(api_keys=KEYS)
    submitter, operator = ({"Authorization": f"Bearer {one['key']}"} for one in KEYS)
    for path in ("cancel", "pause", "resume"):
        assert (await client.post(f"/v1/control/{path}", json={}, headers=submitter)).status == 403
    await post(client, "/v1/tasks", submission(id="mug-1"), headers=submitter)
    told = await post(client, "/v1/tasks/mug-1/cancel", {}, headers=submitter)
    assert told["cancel"]["by"] == "acme (submit)"
    # another tenant's tasks are named with their tenant
    many = await post(client, "/v1/control/cancel", {"tasks": ["mug-1"], "tenant": "other"}, headers=operator)
    assert many["tasks"] == [{"id": "mug-1", "outcome": "unknown"}]
    paused = await post(client, "/v1/control/pause", {"scope": {"task": "mug-1"}}, headers=operator)
    assert paused["scope"] == {"task": "mug-1", "tenant": "acme"}
