"""A step of a task is done again by another task: what is asked, what is answered, what cannot be."""

from typing import Any

import pytest

from callstream.web.fake import FakePort
from callstream.web.replays import window
from tests.unit.web.conftest import Client, submission

PATH = "/v1/tasks/mug-1/replay"


@pytest.fixture
async def task(client: Client, port: FakePort) -> str:
    """A task that has taken its first step and waits before its second."""
    await client.post("/v1/tasks", json=submission(id="mug-1"))
    port.advance("default", "mug-1")
    return "mug-1"


async def problem(client: Client, body: Any, status: int, path: str = PATH) -> str:
    """The detail of the problem that a request is answered with."""
    answer = await client.post(path, json=body)
    told = await answer.json()
    assert answer.status == status, told
    return f"{told['type']} {told['detail']}"


async def test_a_replay_is_started_once(client: Client, port: FakePort, task: str) -> None:
    body = {"from": "write", "reuse_answers": True, "sandbox": True}
    first = await client.post(PATH, json=body)
    told = await first.json()
    again = await client.post(PATH, json=body)
    named = await client.post(PATH, json=body | {"name": "second"})

    assert first.status == 202
    assert told == {**told, "parent": "mug-1", "from": "write", "sandbox": True}
    assert first.headers["Location"] == told["status_url"] == f"/v1/tasks/{told['id']}"
    assert (again.status, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert await again.json() == told
    assert (await named.json())["id"] != told["id"]
    row = await (await client.get(told["status_url"])).json()
    assert (row["parent"], row["sandbox"]) == ("mug-1", True)


@pytest.mark.parametrize(
    "body",
    [{}, {"from": "Write"}, {"from": 3}, {"from": "write", "more": 1}, {"from": "write", "name": "x" * 101}, [1]],
)
async def test_a_request_that_says_something_else_is_refused(client: Client, task: str, body: Any) -> None:
    assert "invalid-input" in await problem(client, body, 422)


async def test_what_cannot_be_replayed_is_told(client: Client, port: FakePort, task: str) -> None:
    assert "unknown-task" in await problem(client, {"from": "write"}, 404, "/v1/tasks/mug-2/replay")
    told = await problem(client, {"from": "draw"}, 422)
    assert "#/from: chain 'product-copy' has no step 'draw'; steps: prepare, write" in told
    port.swept = {"prepare"}
    assert "not-recorded the input of step 'prepare' was swept" in await problem(client, {"from": "prepare"}, 410)


async def test_a_step_that_was_never_reached_is_told_with_those_that_were(client: Client, port: FakePort) -> None:
    await client.post("/v1/tasks", json=submission(id="mug-1"))
    told = await problem(client, {"from": "write"}, 409)
    assert "not-reached task 'mug-1' never reached step 'write': it took none, and it has not ended" in told
    port.advance("default", "mug-1")
    port.hold("default", "mug-1", "a person decides")
    assert "it took prepare, and it has not ended" in await problem(client, {"from": "write"}, 409)
    port.end("default", "mug-1", "failed")
    assert "and it ended failed" in await problem(client, {"from": "write"}, 409)


async def test_a_step_that_its_parent_took_is_asked_of_the_parent(client: Client, port: FakePort, task: str) -> None:
    row = port.tables_by_name["tasks"][b"7:default:mug-1"]
    row |= {"parent": "mug-0", "inherited": 1}
    told = await problem(client, {"from": "prepare"}, 409)
    assert "task 'mug-1' began behind step 'prepare', as a replay of 'mug-0'" in told


async def test_a_version_that_is_gone_is_told(client: Client, port: FakePort, task: str) -> None:
    port.tables_by_name["tasks"][b"7:default:mug-1"]["version"] = 9
    assert "chain-gone it cannot be done on another version: this worker has no" in await problem(
        client, {"from": "write"}, 409
    )


async def test_only_an_operator_may(start: Any) -> None:
    keys = [{"key": "k" * 24, "tenant": "acme", "role": "submit"}]
    client = await start(api_keys=keys)
    answer = await client.post(PATH, json={"from": "write"}, headers={"Authorization": f"Bearer {'k' * 24}"})
    assert answer.status == 403


def test_an_input_is_looked_for_between_the_step_before_and_the_step_itself() -> None:
    def hop(step: str, started: float) -> dict[str, Any]:
        return {"step": step, "started": started, "ended": started + 5}

    row = {"created": 100.0, "steps": [hop("intake", 100), hop("facts", 200), hop("copy", 300), hop("copy", 900)]}
    assert window(row, "facts") == (75.0, 230.0)
    # Of a step that was taken twice the last time counts.
    assert window(row, "copy") == (275.0, 930.0)
    # One that comes next has no end yet, and a replay's own first step has its parent's before it.
    assert window(row, "check") == (875.0, None)
    assert window({**row, "created": 1_000.0, "inherited": 4}, "check") == (970.0, None)
    # What the parent did of that step is not its own.
    assert window({**row, "created": 1_000.0, "inherited": 4}, "copy") == (970.0, None)
    assert window({"created": 10.0, "steps": []}, "facts") == (0.0, None)
