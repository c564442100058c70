"""Schedules over HTTP: created, shown, steered and removed; whose they are; and what is refused, with the place."""

import time
from typing import Any

import pytest

from callstream.agents.schedules import directory
from callstream.agents.schedules.command import read_command
from callstream.agents.schedules.directory import Directory
from callstream.web import schedules
from callstream.web.fake import FakePort
from tests.unit.web.conftest import Client, Start

NIGHTLY = "/v1/schedules/nightly"


def a_body(**members: Any) -> dict[str, Any]:
    return {"chain": "product-copy", "input": {"title": "Mug"}, "cron": "30 2 * * *"} | members


async def test_a_schedule_is_created_and_shown_with_what_comes_next(client: Client) -> None:
    made = await client.put(NIGHTLY, json=a_body(zone="Asia/Kathmandu", misfire="all", priority="low"))
    shown = await (await client.get(NIGHTLY)).json()

    assert made.status == 202
    assert made.headers["Location"] == NIGHTLY
    assert await made.json() == {"name": "nightly", "status_url": NIGHTLY, "in_effect": True}
    assert shown["input"] == {"title": "Mug"}
    assert (shown["cron"], shown["zone"], shown["misfire"], shown["paused"]) == (
        *("30 2 * * *", "Asia/Kathmandu", "all"),
        False,
    )
    assert shown["next_due"] > time.time()
    assert len(shown["next"]) == 5
    assert all(moment.endswith("T02:30:00+05:45") for moment in shown["next"])
    assert "applied" not in shown


async def test_schedules_are_listed_page_by_page_without_their_inputs(client: Client) -> None:
    for name in ("c", "a", "b"):
        await client.put(f"/v1/schedules/{name}", json=a_body())

    first = await (await client.get("/v1/schedules?limit=2")).json()
    second = await (await client.get(f"/v1/schedules?limit=2&after={first['next']}")).json()

    assert [row["name"] for row in first["schedules"]] == ["a", "b"]
    assert [row["name"] for row in second["schedules"]] == ["c"]
    assert second["next"] is None
    assert "input" not in first["schedules"][0]


async def test_a_schedule_is_paused_resumed_and_removed(client: Client) -> None:
    await client.put(NIGHTLY, json=a_body())

    assert (await client.post(f"{NIGHTLY}/pause")).status == 202
    paused = await (await client.get(NIGHTLY)).json()
    assert (paused["paused"], paused["next"]) == (True, [])
    assert (await client.post(f"{NIGHTLY}/resume")).status == 202
    assert (await (await client.get(NIGHTLY)).json())["paused"] is False
    assert (await client.delete(NIGHTLY)).status == 202
    assert (await client.get(NIGHTLY)).status == 404


async def test_a_trigger_names_its_task_and_a_key_the_same_one(client: Client, port: FakePort) -> None:
    await client.put(NIGHTLY, json=a_body())

    told = [await (await client.post(f"{NIGHTLY}/trigger")).json() for _ in range(2)]
    keyed = [await (await client.post(f"{NIGHTLY}/trigger", headers={"Idempotency-Key": "x"})).json() for _ in range(2)]

    assert told[0]["task"].startswith("nightly.now-")
    assert told[0]["task_url"] == f"/v1/tasks/{told[0]['task']}"
    assert told[0]["task"] != told[1]["task"]
    assert keyed[0]["task"] == keyed[1]["task"]
    assert read_command(port.commands[-1]).trigger_suffix == keyed[1]["task"].partition(".")[2]


async def test_an_answer_says_when_nobody_has_obeyed_yet(
    client: Client, port: FakePort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedules, "EFFECT_SECONDS", 0.05)
    port.obeys = False

    response = await client.put(NIGHTLY, json=a_body())

    assert (response.status, (await response.json())["in_effect"]) == (202, False)
    assert len(port.commands) == 1


@pytest.mark.parametrize(
    ("members", "status", "pointer", "detail"),
    [
        ({"cron": "0 0 30 2 *"}, 422, "#/cron", "'0 0 30 2 *' never fires"),
        ({"cron": "61 * * * *"}, 422, "#/cron", "'61' is no minute"),
        ({"zone": "Mars/Olympus"}, 422, "#/zone", "no time zone is called 'Mars/Olympus'"),
        ({"chain": "unheard-of"}, 404, "#/chain", "known: product-copy"),
        ({"input": {"title": "Mug", "colour": "red"}}, 422, "#/input/colour", "Extra inputs are not permitted"),
        ({"input": {"title": "M" * 20_000}}, 422, "#/input", "may have 16,384"),
        ({"misfire": "maybe"}, 422, "#/misfire", "'skip', 'one' or 'all'"),
        ({"grace_seconds": 0}, 422, "#/grace_seconds", "greater than or equal to 1"),
        ({"paused": True}, 422, "#/paused", "Extra inputs are not permitted"),
    ],
)
async def test_a_schedule_that_cannot_be_is_refused_with_the_place(
    client: Client, port: FakePort, members: dict[str, Any], status: int, pointer: str, detail: str
) -> None:
    response = await client.put(NIGHTLY, json=a_body(**members))
    problem = await response.json()

    assert response.status == status
    assert response.content_type == "application/problem+json"
    assert problem["errors"][0]["pointer"] == pointer
    assert detail in problem["errors"][0]["detail"]
    assert port.commands == []


async def test_a_body_that_is_no_object_is_told_in_plain_words(client: Client, port: FakePort) -> None:
    response = await client.put(NIGHTLY, json=[])

    assert response.status == 422
    assert (await response.json())["detail"] == "#: Input should be an object"
    assert port.commands == []


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("DELETE", ""), ("POST", "/pause"), ("POST", "/resume"),
                                              ("POST", "/trigger")])  # fmt: skip
async def test_a_schedule_that_there_is_not(client: Client, port: FakePort, method: str, path: str) -> None:
    response = await client.request(method, NIGHTLY + path)

    assert response.status == 404
    assert (await response.json())["detail"] == "no schedule 'nightly' of this tenant is known; PUT creates it"
    assert port.commands == []


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/schedules/-x", "bad-name"),
        ("/v1/schedules/a~b", "bad-name"),
        ("/v1/schedules/" + "x" * 81, "bad-name"),
        ("/v1/schedules?after=%00", "bad-name"),
        ("/v1/schedules?limit=0", "bad-limit"),
        ("/v1/schedules?limit=many", "bad-limit"),
    ],
)
async def test_a_name_or_limit_that_is_none(client: Client, path: str, kind: str) -> None:
    response = await client.get(path)

    assert response.status == 400
    assert (await response.json())["type"] == f"urn:callstream:problem:{kind}"


async def test_no_more_schedules_than_are_kept(start: Start, port: FakePort) -> None:
    port.schedules = Directory(most=1)
    port.schedules.caught_up()
    client = await start()
    await client.put(NIGHTLY, json=a_body())

    refused = await client.put("/v1/schedules/another", json=a_body())

    assert refused.status == 409
    assert f"{directory.MOST_KEPT:,} schedules" in (await refused.json())["detail"]
    assert (await client.put(NIGHTLY, json=a_body(cron="0 3 * * *"))).status == 202


async def test_schedules_of_another_tenant_do_not_exist(start: Start) -> None:
    keys = [{"key": f"{tenant}-0123456789abcdef", "tenant": tenant, "role": "submit"} for tenant in ("acme", "other")]
    client = await start(api_keys=keys)
    mine, others = ({"Authorization": f"Bearer {entry['key']}"} for entry in keys)
    await client.put(NIGHTLY, json=a_body(), headers=mine)

    assert (await client.get(NIGHTLY, headers=mine)).status == 200
    assert (await client.get(NIGHTLY)).status == 401
    assert (await client.get(NIGHTLY, headers=others)).status == 404
    assert (await client.delete(NIGHTLY, headers=others)).status == 404
    assert (await (await client.get("/v1/schedules", headers=others)).json())["schedules"] == []


async def test_a_gateway_that_does_not_know_yet_says_so(client: Client, port: FakePort) -> None:
    port.schedules.ready = False

    for response in (await client.get("/v1/schedules"), await client.put(NIGHTLY, json=a_body())):
        assert response.status == 503
        assert response.headers["Retry-After"] == "1"


async def test_the_log_that_is_away_refuses_a_command(client: Client, port: FakePort) -> None:
    port.unavailable = "the broker is away"

    assert (await client.put(NIGHTLY, json=a_body())).status == 503
