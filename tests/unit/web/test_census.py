"""Tasks that have not ended, counted by version."""

import pytest

from callstream.streams import strict_json
from callstream.streams.chain import Chains
from callstream.streams.event import Json
from callstream.streams.keys import task_key
from callstream.tables.fakes import MemoryRows
from callstream.web.census import ROWS_AT_ONCE, count_unfinished
from callstream.web.fake import FakePort
from callstream.web.options import Role
from tests.unit.web.conftest import Client, Start, submission


def a_row(state: str, version: int = 1, **more: Json) -> Json:
    return {"chain": "shop", "version": version, "state": state, **more}


async def filled(**rows: Json) -> MemoryRows:
    """A table of one partition with the rows of tenant `acme` by task."""
    table = MemoryRows()
    for task, row in rows.items():
        await table.write(table.claim(0), task_key("acme", task.replace("_", "-")), strict_json.pack(row))
    return table


async def test_each_version_has_the_tasks_that_have_not_ended() -> None:
    table = await filled(
        a=a_row("running"),
        b=a_row("held", 2),
        c=a_row("accepted", 2),
        d=a_row("finished"),
        e=a_row("failed", 2, result={"state": "running"}),
    )
    counted, complete = await count_unfinished(table, lambda: [0], b"", {})
    assert (dict(counted), complete) == ({("shop", 1): 1, ("shop", 2): 2}, True)


async def test_what_is_about_to_be_written_counts_as_it_will_be() -> None:
    table = await filled(a=a_row("running"))
    unwritten = {(0, task_key("acme", "a")): a_row("finished"), (0, task_key("acme", "b")): a_row("running", 2)}
    counted, _ = await count_unfinished(table, lambda: [0], b"", unwritten)
    assert dict(counted) == {("shop", 2): 1}


async def test_another_tenants_tasks_are_not_counted() -> None:
    table = await filled(a=a_row("running"))
    for tenant, count in (("acme", 1), ("other", 0)):
        counted, _ = await count_unfinished(table, lambda: [0], task_key(tenant, ""), {})
        assert sum(counted.values()) == count


async def test_more_rows_than_are_looked_at_are_said_to_be_more() -> None:
    table = await filled(**{f"t_{n:05d}": a_row("running") for n in range(2 * ROWS_AT_ONCE + 10)})
    counted, complete = await count_unfinished(table, lambda: [0], b"", {}, most=ROWS_AT_ONCE)
    assert (counted["shop", 1], complete) == (ROWS_AT_ONCE, False)
    counted, complete = await count_unfinished(table, lambda: [0], b"", {})
    assert (counted["shop", 1], complete) == (2 * ROWS_AT_ONCE + 10, True)


async def test_a_partition_that_goes_meanwhile_is_not_read_on() -> None:
    table = await filled(a=a_row("running"))
    here = iter([[0], []])
    counted, _ = await count_unfinished(table, lambda: next(here), b"", {})
    assert not counted


async def test_chains_tell_their_unfinished_tasks_over_all_gateways(start: Start, chains: Chains) -> None:
    # Given two gateways with tasks
    ports = [FakePort(chains, lambda: 1.0, epoch) for epoch in ("here", "there")]
    here, there = [await start(port) for port in ports]
    ports[0].others = (str(there.make_url("/")),)
    for number, client in enumerate((here, there, there)):
        await client.post("/v1/tasks", json=submission(id=f"t-{number}"))
    ports[1].end("default", "t-2")
    # when the first is asked
    told = await (await here.get("/v1/chains?tasks=true")).json()
    # then it counts both
    assert told["unfinished"] == [{"chain": "product-copy", "version": 1, "tasks": 2}]
    assert (told["complete"], told["silent_gateways"]) == (True, 0)
    assert [chain["current"] for chain in told["chains"]] == [True]
    # and says so when the other is silent
    await there.close()
    told = await (await here.get("/v1/chains?tasks=true")).json()
    assert (told["unfinished"][0]["tasks"], told["complete"], told["silent_gateways"]) == (1, False, 1)


async def test_tasks_are_counted_only_when_asked_for(client: Client) -> None:
    assert "unfinished" not in await (await client.get("/v1/chains")).json()
    wrong = await client.get("/v1/chains?tasks=perhaps")
    assert (wrong.status, (await wrong.json())["detail"]) == (400, "tasks takes true or false")


@pytest.mark.parametrize(("role", "count"), [(Role.SUBMIT, 0), (Role.OPERATE, 1)])
async def test_a_key_that_submits_counts_its_own_tasks_alone(
    start: Start, port: FakePort, role: Role, count: int
) -> None:
    key = {"key": "k" * 32, "tenant": "other", "role": role.name.lower()}
    client = await start(port, api_keys=[key])
    port.tables_by_name["tasks"][task_key("acme", "a")] = a_row("running") | {"tenant": "acme"}
    answer = await client.get("/v1/chains?tasks=true", headers={"Authorization": f"Bearer {'k' * 32}"})
    assert sum(one["tasks"] for one in (await answer.json())["unfinished"]) == count
