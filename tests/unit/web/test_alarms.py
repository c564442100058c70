"""GET /v1/alarms: what rings, what ended, the rules."""

from callstream.agents.alarms.board import Board
from callstream.agents.alarms.incident import record_of
from callstream.agents.alarms.options import STANDARD_RULES
from callstream.web.fake import FakePort
from tests.unit.agents.alarms.test_telling import ended, incident
from tests.unit.web.conftest import Client, Start


def put(port: FakePort) -> None:
    port.alarms = Board(STANDARD_RULES)
    port.alarms.caught_up()
    for one in (incident(), ended(incident()), incident(2), incident(1, "shop/prompt", rang=120.0)):
        record = record_of(one)
        port.alarms.hear(record.key.decode(), record.value)


async def test_open_ones_and_those_that_ended_are_told_with_the_rules(client: Client, port: FakePort) -> None:
    put(port)
    answer = await client.get("/v1/alarms")
    told = await answer.json()
    assert answer.status == 200
    assert [one["id"] for one in told["open"]] == ["dead/shop/prompt/1", "dead/shop/copy/2"]
    assert [(one["id"], one["lasted_seconds"]) for one in told["recent"]] == [("dead/shop/copy/1", 60.0)]
    assert [rule["name"] for rule in told["rules"]] == [rule.name for rule in STANDARD_RULES]


async def test_a_gateway_that_still_reads_says_so(client: Client, port: FakePort) -> None:
    port.alarms = Board()
    answer = await client.get("/v1/alarms")
    assert answer.status == 503
    assert "still reading" in (await answer.json())["detail"]


async def test_it_takes_the_role_operate(start: Start) -> None:
    key = "submit-key-0123456789-0123456789"
    client = await start(api_keys=[{"key": key, "tenant": "acme", "role": "submit"}])
    answer = await client.get("/v1/alarms", headers={"Authorization": f"Bearer {key}"})
    assert answer.status == 403
