"""Held tasks are listed, and a person's verdict about one is handed in."""

from typing import Any

import pytest

from callstream.agents.review import Choice
from callstream.web.fake import FakePort
from tests.unit.web.conftest import Client, submission


async def hold(client: Client, port: FakePort, *tasks: str) -> None:
    for task in tasks:
        await client.post("/v1/tasks", json=submission(id=task))
        port.hold("default", task, "a forbidden claim")


async def test_held_tasks_are_listed_page_by_page(client: Client, port: FakePort) -> None:
    await hold(client, port, "c", "a", "b")
    await client.post("/v1/tasks", json=submission(id="running"))

    first = await (await client.get("/v1/reviews?limit=2")).json()
    second = await (await client.get(f"/v1/reviews?limit=2&after={first['next']}")).json()

    assert [row["id"] for row in first["reviews"]] == ["a", "b"]
    assert [row["id"] for row in second["reviews"]] == ["c"]
    assert second["next"] is None
    assert first["reviews"][0]["held"] == "a forbidden claim"


async def test_a_verdict_is_handed_in(client: Client, port: FakePort) -> None:
    await hold(client, port, "mug-1")
    body = {"verdict": "edit", "reviewer": "Ada", "reason": "tone", "edits": {"write": {"copy": "A mug."}}}

    shown = await client.get("/v1/reviews/mug-1")
    response = await client.post("/v1/reviews/mug-1", json=body)

    assert (await shown.json())["state"] == "held"
    assert response.status == 202
    assert await response.json() == {"id": "mug-1", "status_url": "/v1/tasks/mug-1", "verdict": "edit"}
    [(tenant, task, verdict)] = port.verdicts
    assert (tenant, task, verdict.verdict) == ("default", "mug-1", Choice.EDIT)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"verdict": "maybe", "reviewer": "Ada"},
        {"verdict": "approve"},
        {"verdict": "approve", "reviewer": ""},
        {"verdict": "edit", "reviewer": "Ada"},
        {"verdict": "approve", "reviewer": "Ada", "edits": {"write": {"copy": "A mug."}}},
        {"verdict": "approve", "reviewer": "Ada", "tenant": "other"},
    ],
)
async def test_a_verdict_that_is_none(client: Client, port: FakePort, body: dict[str, Any]) -> None:
    await hold(client, port, "mug-1")

    response = await client.post("/v1/reviews/mug-1", json=body)

    assert response.status == 422
    assert (await response.json())["errors"]
    assert port.verdicts == []


async def test_a_task_that_waits_for_nobody(client: Client, port: FakePort) -> None:
    await client.post("/v1/tasks", json=submission(id="mug-1"))
    verdict = {"verdict": "approve", "reviewer": "Ada"}

    answers = [await client.get("/v1/reviews/mug-1"), await client.post("/v1/reviews/mug-1", json=verdict)]
    missing = await client.post("/v1/reviews/none", json=verdict)

    assert [answer.status for answer in answers] == [409, 409]
    assert missing.status == 404
    assert port.verdicts == []


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "limit=-1", "limit=²", "after=a/b"])
async def test_a_page_that_is_none(client: Client, query: str) -> None:
    assert (await client.get(f"/v1/reviews?{query}")).status == 400
