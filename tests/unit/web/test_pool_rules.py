"""Rules of pools over HTTP: what is taken and shown, what is refused and why."""

from typing import Any

import pytest

from callstream.agents.inference.choice import MOST_RULES
from callstream.web.fake import FakePort
from tests.unit.web.conftest import Client, Start

POOLS = {
    "node-1:7": [
        {"pool": "writer", "endpoints": [{"endpoint": "e1", "model": "big"}, {"endpoint": "e2", "model": "small"}]},
        {"pool": "cheap", "endpoints": [{"endpoint": "c1", "model": "tiny"}]},
    ]
}
WHY = {"reason": "canary of the week", "by": "ada"}


async def put(client: Client, rule: str, document: Any, status: int = 202, pool: str = "writer") -> Any:
    answer = await client.put(f"/v1/pools/{pool}/rules/{rule}", json=document)
    told = await answer.json()
    assert answer.status == status, told
    return told


async def rules(client: Client) -> list[Any]:
    return list((await (await client.get("/v1/pools/rules")).json())["rules"])


async def test_a_rule_is_set_replaced_shown_and_unset_each_with_who_and_why(client: Client, port: FakePort) -> None:
    port.replicas = POOLS
    told = await put(client, "canary", {"endpoints": ["e2"], "share": 10, **WHY})
    assert (told["says"], told["by"], told["reason"], told["place"]) == ("10 % to e2", "ada", WHY["reason"], 100)
    await put(client, "tenant-a", {"model": "big", "when": "tenant == 'a'", "place": 1})
    await put(client, "canary", {"endpoints": ["e2"], "share": 50})
    assert [(one["name"], one["says"], one["by"]) for one in await rules(client)] == [
        ("tenant-a", "to model big when tenant == 'a'", "default (operate)"),
        ("canary", "50 % to e2", "default (operate)"),
    ]
    gone = await client.delete("/v1/pools/writer/rules/canary", json={"by": "bob"})
    assert (gone.status, (await gone.json())["says"]) == (202, "unset")
    last = (await rules(client))[-1]
    assert (last["name"], last["says"], last["by"], last["rule"]) == ("canary", "unset", "bob", None)
    again = await client.delete("/v1/pools/writer/rules/canary")
    assert again.status == 404
    assert "has no rule 'canary' in force; there are: tenant-a" in (await again.json())["detail"]


async def test_a_rule_that_cannot_be_obeyed_any_more_says_why(client: Client, port: FakePort) -> None:
    port.replicas = POOLS
    await put(client, "cheap", {"to": "cheap"})
    port.replicas = {"node-1:7": POOLS["node-1:7"][:1]}
    assert (await rules(client))[0]["unusable"] == "no pool is called 'cheap'; there are: writer"


@pytest.mark.parametrize(
    ("pool", "document", "said"),
    [
        ("writter", {"endpoints": ["e1"]}, "no pool is called 'writter'; there are: cheap, writer"),
        ("writer", {"endpoints": ["e9"]}, "pool 'writer' has no endpoint 'e9'; there are: e1, e2"),
        ("writer", {"endpoints": ["e1"], "share": 101}, "share"),
        ("writer", {"endpoints": ["e1"], "when": "tenant = 'a'"}, "write == to compare"),
        ("writer", {"endpoints": ["e1"], "when": "tenent == 'a'"}, "tenent"),
        ("writer", {}, "names one of endpoints, model, weights, cheapest, to"),
        ("writer", {"weights": {"e1": "many"}}, "weights"),
        ("writer", {"endpoints": ["e1"], "weigth": 1}, "weigth"),
    ],
)
async def test_what_is_wrong_is_named(client: Client, port: FakePort, pool: str, document: Any, said: str) -> None:
    port.replicas = POOLS
    assert said in str(await put(client, "r", document, 422, pool))
    assert await rules(client) == []


async def test_no_more_rules_are_taken_than_a_pool_has_room_for(client: Client, port: FakePort) -> None:
    port.replicas = POOLS
    for number in range(MOST_RULES):
        await put(client, f"r{number}", {"endpoints": ["e1"]})
    assert "unset one" in (await put(client, "more", {"endpoints": ["e1"]}, 409))["detail"]
    await put(client, "r1", {"endpoints": ["e2"]})


async def test_a_name_that_is_none_is_refused_and_so_is_who_may_not_operate(start: Start) -> None:
    client = await start(api_keys=[{"key": "s" * 16, "tenant": "acme", "role": "submit"}])
    submitter = {"Authorization": f"Bearer {'s' * 16}"}
    assert (await client.put("/v1/pools/writer/rules/r", json={}, headers=submitter)).status == 403
    assert (await client.delete("/v1/pools/writer/rules/r", headers=submitter)).status == 403
    assert (await client.get("/v1/pools/rules", headers=submitter)).status == 403


async def test_a_path_without_names_is_refused(client: Client) -> None:
    assert "is no name" in (await put(client, "no%20name", {"endpoints": ["e1"]}, 400))["detail"]
