"""With several gateways, any of them answers for any task."""

import time
from dataclasses import dataclass

import pytest
from aiohttp import WSMsgType

from callstream.streams.chain import Chains
from callstream.streams.keys import task_key
from callstream.web.fake import FakePort
from tests.unit.web.conftest import Client, Start, submission

TASK = "mug-1"


@dataclass
class Pair:
    """Two gateways: `there` owns the task, requests go to `here`."""

    here: Client
    there: Client
    port_here: FakePort
    port_there: FakePort


@pytest.fixture
async def pair(start: Start, chains: Chains) -> Pair:
    """Two gateways that know of each other and both believe that the other owns the task."""
    port_here, port_there = (FakePort(chains, time.time, epoch) for epoch in ("here", "there"))
    here, there = await start(port_here, proxy_seconds=2.0), await start(port_there)
    at = {port_here: str(there.make_url("/")), port_there: str(here.make_url("/"))}
    for port, url in at.items():
        port.owners = {task_key("default", TASK): url}
        port.others = (url,)
    return Pair(here, there, port_here, port_there)


async def test_a_task_is_taken_and_shown_by_its_owner(pair: Pair) -> None:
    submitted = await pair.here.post("/v1/tasks", json=submission(id=TASK))
    pair.port_there.end("default", TASK)
    shown = await pair.here.get(f"/v1/tasks/{TASK}?wait=5")
    again = await pair.here.post("/v1/tasks", json=submission(id=TASK))

    assert (submitted.status, shown.status, again.status) == (202, 200, 200)
    assert submitted.headers["Location"] == f"/v1/tasks/{TASK}"
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (await shown.json())["state"] == "finished"
    assert pair.port_here.events == []


async def test_a_job_just_accepted_by_one_is_known_to_the_other(pair: Pair) -> None:
    pair.port_there.dead.hold()
    made = await (await pair.there.post("/v1/dead/redrive", json={"where": "true"})).json()

    shown = await pair.here.get(made["status_url"])

    assert (shown.status, (await shown.json())["state"]) == (200, "accepted")


async def test_no_request_goes_round(pair: Pair) -> None:
    response = await pair.here.get(f"/v1/tasks/{TASK}")

    assert response.status == 404


async def test_events_come_through_piece_by_piece(pair: Pair) -> None:
    await pair.here.post("/v1/tasks", json=submission(id=TASK))
    async with pair.here.get(f"/v1/tasks/{TASK}/events") as response:
        first = await response.content.readuntil(b'"state":"accepted"')
        pair.port_there.end("default", TASK)
        rest = await response.content.read()

    assert response.content_type == "text/event-stream"
    assert b"id: there-1" in first
    assert b'"state":"finished"' in rest


async def test_a_silent_owner_does_not_stop_submissions(pair: Pair) -> None:
    await pair.there.close()

    submitted = await pair.here.post("/v1/tasks", json=submission(id=TASK))
    shown = await pair.here.get(f"/v1/tasks/{TASK}")

    assert submitted.status == 202
    assert len(pair.port_here.events) == 1
    assert shown.status == 502
    assert (await shown.json())["type"] == "urn:callstream:problem:owner-silent"


async def test_a_task_without_a_name_gets_one_of_this_gateway(start: Start, chains: Chains) -> None:
    class Elsewhere(FakePort):
        """Every second key belongs to another."""

        def owner(self, key: bytes) -> str | None:
            return "http://127.0.0.1:9" if key[-1] % 2 else None

    port = Elsewhere(chains, time.time)
    client = await start(port)

    ids = [(await (await client.post("/v1/tasks", json=submission())).json())["id"] for _ in range(8)]

    assert all(port.owner(task_key("default", task)) is None for task in ids)


async def test_reviews_of_all_gateways_are_listed(pair: Pair) -> None:
    await pair.here.post("/v1/tasks", json=submission(id=TASK))
    await pair.here.post("/v1/tasks", json=submission(id="a-1"))
    pair.port_there.hold("default", TASK, "why")
    pair.port_here.hold("default", "a-1", "why")

    listed = await (await pair.here.get("/v1/reviews")).json()
    verdict = await pair.here.post(f"/v1/reviews/{TASK}", json={"verdict": "approve", "reviewer": "Ada"})
    await pair.there.close()
    partial = await (await pair.here.get("/v1/reviews")).json()

    assert [row["id"] for row in listed["reviews"]] == ["a-1", TASK]
    assert (verdict.status, len(pair.port_there.verdicts)) == (202, 1)
    assert ([row["id"] for row in partial["reviews"]], partial["silent_gateways"]) == (["a-1"], 1)


async def test_a_chain_is_followed_on_all_gateways(pair: Pair) -> None:
    async with pair.here.ws_connect("/v1/stream") as socket:
        await socket.send_json({"subscribe": {"chain": "product-copy"}})
        await socket.receive_json()
        while pair.port_there.updates.followed == 0:
            await pair.there.get("/v1/health")
        await pair.here.post("/v1/tasks", json=submission(id=TASK))
        remote = await socket.receive_json()
        await pair.here.post("/v1/tasks", json=submission(id="local"))
        local = await socket.receive_json()

    assert (remote["update"]["task"], remote["update"]["cursor"]) == (TASK, "there-1")
    assert (local["update"]["task"], local["update"]["cursor"]) == ("local", "here-1")


async def test_a_task_is_followed_at_its_owner(pair: Pair) -> None:
    await pair.here.post("/v1/tasks", json=submission(id=TASK))
    async with pair.here.ws_connect("/v1/stream") as socket:
        await socket.send_json({"subscribe": {"task": TASK}})
        told = [await socket.receive_json() for _ in range(2)]
        pair.port_there.end("default", TASK)
        told.append(await socket.receive_json())
        await socket.send_json({"unsubscribe": {"task": TASK}})
        told.append(await socket.receive_json())
        assert pair.there.app is not None
        await pair.there.app.shutdown()
        message = await socket.receive()

    assert [next(iter(each)) for each in told] == ["subscribed", "update", "update", "unsubscribed"]
    assert told[2]["update"]["state"] == "finished"
    assert (message.type, message.data) == (WSMsgType.CLOSE, 1012)


async def test_a_client_is_sent_away_when_its_task_moves(start: Start, chains: Chains) -> None:
    port = FakePort(chains, time.time)
    client = await start(port, heartbeat_seconds=0.01)
    await client.post("/v1/tasks", json=submission(id=TASK))
    async with (
        client.ws_connect("/v1/stream") as socket,
        client.get(f"/v1/tasks/{TASK}/events") as events,
    ):
        await socket.send_json({"subscribe": {"task": TASK}})
        for _ in range(2):
            await socket.receive_json()
        port.owners = {task_key("default", TASK): "http://127.0.0.1:9"}
        message = await socket.receive()
        await events.content.read()

    assert (message.type, message.data) == (WSMsgType.CLOSE, 1012)
