"""Held tasks are listed and claimed, and what a person decides about one is handed in."""

import asyncio
import time
from typing import Any

import pytest

from callstream.agents.review import Choice
from callstream.streams.keys import task_key
from callstream.streams.review import opened
from callstream.web.fake import FakePort
from callstream.web.held import held_event
from tests.unit.web.conftest import Client, Start, submission

COPY = {"write": {"copy": "The best mug."}}


async def hold(client: Client, port: FakePort, *tasks: str, **terms: Any) -> None:
    """Tasks that wait for a person, with members of their review replaced."""
    for task in tasks:
        await client.post("/v1/tasks", json=submission(id=task))
        row = port.tables_by_name["tasks"][task_key("default", task)]
        members = {"review": opened(held_event(row)) | terms} if terms else {}
        port.hold("default", task, "a forbidden claim", outputs=COPY, input={"title": "Mug"}, **members)


async def say(client: Client, task: str, what: str = "", **body: Any) -> tuple[int, Any]:
    response = await client.post(f"/v1/reviews/{task}{what}", json={"reviewer": "Ada", **body})
    return response.status, await response.json()


async def listed(client: Client, query: str = "") -> list[str]:
    return [row["id"] for row in (await (await client.get(f"/v1/reviews?{query}")).json())["reviews"]]


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
    told = {"id": "mug-1", "status_url": "/v1/tasks/mug-1", "verdict": "edit"}
    assert await response.json() == told | {"in_effect": True, "review": "decided"}
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
        {"verdict": "reject", "reviewer": "Ada"},
        {"verdict": "reject", "reviewer": "Ada", "reason": " "},
        {"verdict": "regenerate", "reviewer": "Ada"},
        {"verdict": "approve", "reviewer": "Ada", "group": "legal"},
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


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "limit=-1", "limit=²", "after=a/b", "after=eA", "claimed=maybe"]
)
async def test_a_page_that_is_none(client: Client, query: str) -> None:
    assert (await client.get(f"/v1/reviews?{query}")).status == 400


async def test_a_claimed_task_is_anothers_until_it_is_released(client: Client, port: FakePort) -> None:
    await hold(client, port, "mug-1")

    status, told = await say(client, "mug-1", "/claim")
    refused = await say(client, "mug-1", "/claim", reviewer="Bob")
    verdict = await say(client, "mug-1", verdict="approve", reviewer="Bob")
    renewed = await say(client, "mug-1", "/claim")

    assert (status, told["claim"]["by"], told["in_effect"]) == (200, "Ada", True)
    assert told["claim"]["until"] - told["claim"]["since"] == 900
    assert [refused[0], verdict[0], renewed[0]] == [409, 409, 200]
    assert "Ada has claimed it until 20" in refused[1]["detail"]
    assert port.verdicts == []
    assert (await say(client, "mug-1", "/release"))[0] == 200
    assert (await say(client, "mug-1", verdict="approve", reviewer="Bob"))[0] == 202


async def test_of_two_claims_at_once_one_wins(client: Client, port: FakePort) -> None:
    await hold(client, port, "mug-1")

    answers = await asyncio.gather(*(say(client, "mug-1", "/claim", reviewer=who) for who in ("Ada", "Bob", "Cy")))

    assert sorted(status for status, _ in answers) == [200, 409, 409]


async def test_a_lease_that_is_over_is_shown_as_over(start: Start, port: FakePort) -> None:
    client = await start(review_lease_seconds=10)
    past = {"by": "Bob", "since": time.time() - 99, "until": time.time() - 9}
    await hold(client, port, "mug-1", claim=past)

    row = await (await client.get("/v1/reviews/mug-1")).json()

    assert row["review"]["claim"] is None
    assert [(note["by"], note["what"], note["at"]) for note in row["review"]["audit"]] == [
        ("Bob", "expire", past["until"])
    ]
    assert await listed(client, "claimed=false") == ["mug-1"]


async def test_what_a_reviewer_needs_and_what_was_done_is_shown(client: Client, port: FakePort) -> None:
    await hold(client, port, "mug-1", four_eyes=True)
    await say(client, "mug-1", verdict="approve", reason="fine")
    row = await (await client.get("/v1/reviews/mug-1")).json()

    assert (row["outputs"], row["input"]) == (COPY, {"title": "Mug"})
    assert row["review"]["approvals"] == ["Ada"]
    status, told = await say(client, "mug-1", verdict="approve")
    assert (status, "another person" in told["detail"]) == (409, True)
    status, told = await say(client, "mug-1", verdict="approve", reviewer="Bob")
    assert (status, told["review"]) == (202, "decided")

    shown = await client.get("/v1/reviews/mug-1")
    audit = (await shown.json())["review"]["audit"]
    assert shown.status == 200
    assert [(note["by"], note["what"]) for note in audit] == [("Ada", "approve"), ("Ada", "refuse"), ("Bob", "approve")]
    assert (await say(client, "mug-1", verdict="approve"))[0] == 409
    assert "review" not in await (await client.get("/v1/tasks/mug-1")).json()


async def test_an_answer_does_not_wait_for_ever_for_a_desk_that_is_away(client: Client, port: FakePort) -> None:
    await hold(client, port, "mug-1")
    port.obeys = False

    status, told = await say(client, "mug-1", "/claim")

    assert (status, told) == (202, {"id": "mug-1", "claim": None, "in_effect": False, "review": None})


async def test_reviews_are_listed_by_priority_then_due_then_id_and_filtered(client: Client, port: FakePort) -> None:
    now = time.time()
    await hold(client, port, "d", "a")
    await hold(client, port, "later", priority="normal", due=now + 99)
    await hold(client, port, "soon", priority="normal", due=now + 9, group="legal")
    await hold(client, port, "urgent", priority="high", claim={"by": "Bob", "since": now, "until": now + 99})
    await hold(client, port, "low", priority="low", due=now)

    pages, after = [], ""
    while after is not None:
        page = await (await client.get(f"/v1/reviews?limit=2&after={after}")).json()
        pages.append([row["id"] for row in page["reviews"]])
        after = page["next"]

    assert pages == [["urgent", "soon"], ["later", "a"], ["d", "low"], []]
    assert await listed(client, "group=legal") == ["soon"]
    assert await listed(client, "claimed=true") == ["urgent"]
    assert await listed(client, "claimed=false&limit=1") == ["soon"]
    assert await listed(client, "chain=none") == []
    assert page["complete"]
    first = (await (await client.get("/v1/reviews?limit=1")).json())["reviews"][0]
    assert (first["outputs"], "audit" in first["review"], "attempts" in first["review"]) == (COPY, False, False)


@pytest.mark.parametrize(
    "body", [{"reviewer": " "}, {"reviewer": "x" * 201}, {"reviewer": 7}, {}, {"reviewer": "a", "x": 1}]
)
async def test_a_claim_that_is_none(client: Client, port: FakePort, body: dict[str, Any]) -> None:
    await hold(client, port, "mug-1")
    for what in ("claim", "release"):
        response = await client.post(f"/v1/reviews/mug-1/{what}", json=body)
        assert response.status == 422


async def test_a_claim_of_what_waits_for_nobody(client: Client, port: FakePort) -> None:
    await client.post("/v1/tasks", json=submission(id="mug-1"))
    assert (await say(client, "mug-1", "/claim"))[0] == 409
    assert (await say(client, "none", "/claim"))[0] == 404
    await hold(client, port, "mug-2")
    assert (await say(client, "mug-2", "/release"))[0] == 409
