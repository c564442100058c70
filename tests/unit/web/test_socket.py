"""Many tasks are followed over one WebSocket, and one slow client harms nobody."""

import asyncio
from typing import Any

import pytest
from aiohttp import WSMsgType

from callstream.web.fake import FakePort
from tests.unit.web.conftest import Client, Start, submission


async def test_a_chain_is_followed(client: Client, port: FakePort) -> None:
    async with client.ws_connect("/v1/stream") as socket:
        await socket.send_json({"subscribe": {"chain": "product-copy"}})
        told = [await socket.receive_json()]
        await client.post("/v1/tasks", json=submission(id="mug-1"))
        port.advance("default", "mug-1")
        port.end("default", "mug-1")
        told += [await socket.receive_json() for _ in range(3)]

    assert told[0] == {"subscribed": {"chain": "product-copy"}, "cursor": "fake-0", "resumed": False}
    assert [each["update"]["state"] for each in told[1:]] == ["accepted", "running", "finished"]
    assert told[-1]["update"]["cursor"] == "fake-3"


async def test_a_task_is_followed_from_its_row_on(client: Client, port: FakePort) -> None:
    await client.post("/v1/tasks", json=submission(id="mug-1"))
    await client.post("/v1/tasks", json=submission(id="cup-1"))
    async with client.ws_connect("/v1/stream") as socket:
        await socket.send_json({"subscribe": {"task": "mug-1"}})
        told = [await socket.receive_json() for _ in range(2)]
        port.advance("default", "cup-1")
        port.advance("default", "mug-1")
        told.append(await socket.receive_json())
        await socket.send_json({"unsubscribe": {"task": "mug-1"}})
        told.append(await socket.receive_json())
        port.end("default", "mug-1")
        await socket.send_json({"subscribe": {"task": "cup-1"}})
        told += [await socket.receive_json() for _ in range(2)]

    assert told[1]["update"]["state"] == "accepted"
    assert (told[2]["update"]["task"], told[2]["update"]["state"]) == ("mug-1", "running")
    assert told[3] == {"unsubscribed": {"task": "mug-1"}}
    assert told[5]["update"]["task"] == "cup-1"


async def test_a_cursor_gives_what_was_missed(client: Client, port: FakePort) -> None:
    await client.post("/v1/tasks", json=submission(id="mug-1"))
    cursor = port.updates.position
    port.advance("default", "mug-1")
    async with client.ws_connect("/v1/stream") as socket:
        await socket.send_json({"subscribe": {"chain": "product-copy"}, "after": cursor})
        told = [await socket.receive_json() for _ in range(2)]

    assert told[0]["resumed"] is True
    assert told[1]["update"]["state"] == "running"


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("{", "bad-json"),
        ('{"subscribe": NaN}', "bad-json"),
        ("[]", "invalid-input"),
        ("{}", "invalid-input"),
        ('{"subscribe": {}}', "invalid-input"),
        ('{"subscribe": {"task": "a", "chain": "b"}}', "invalid-input"),
        ('{"subscribe": {"task": "../a"}}', "invalid-input"),
        ('{"subscribe": {"task": "none"}}', "unknown-task"),
        ('{"subscribe": {"chain": "none"}}', "unknown-chain"),
        ('{"hello": 1}', "invalid-input"),
    ],
)
async def test_a_bad_message_is_answered_and_the_next_good_one_works(client: Client, message: str, kind: str) -> None:
    async with client.ws_connect("/v1/stream") as socket:
        await socket.send_str(message)
        error = await socket.receive_json()
        await socket.send_json({"subscribe": {"chain": "product-copy"}})
        good = await socket.receive_json()

    assert error["error"]["type"] == f"urn:callstream:problem:{kind}"
    assert "subscribed" in good


async def test_bytes_are_no_message(client: Client) -> None:
    async with client.ws_connect("/v1/stream") as socket:
        await socket.send_bytes(b"{}")

        assert (await socket.receive_json())["error"]["status"] == 400


async def test_a_message_too_long_ends_the_connection(client: Client) -> None:
    async with client.ws_connect("/v1/stream") as socket:
        await socket.send_str("x" * 5000)
        message = await socket.receive()

    assert (message.type, socket.close_code) == (WSMsgType.CLOSE, 1009)


async def test_subscriptions_are_bounded(start: Start) -> None:
    client = await start(max_subscriptions=1)
    await client.post("/v1/tasks", json=submission(id="mug-1"))
    async with client.ws_connect("/v1/stream") as socket:
        await socket.send_json({"subscribe": {"chain": "product-copy"}})
        await socket.receive_json()
        await socket.send_json({"subscribe": {"task": "mug-1"}})

        assert (await socket.receive_json())["error"]["status"] == 429


async def test_a_client_too_slow_is_dropped_with_a_code(start: Start, port: FakePort) -> None:
    client = await start(queue_messages=5)
    await client.post("/v1/tasks", json=submission(id="mug-1"))
    async with client.ws_connect("/v1/stream") as socket:
        await socket.send_json({"subscribe": {"chain": "product-copy"}})
        await socket.receive_json()
        # All at once: the writer does not run in between, just as if the client did not read.
        for _ in range(6):
            port.touch("default", "mug-1")
        message = await socket.receive()
    metrics = await (await client.get("/metrics")).text()

    assert (message.type, message.data) == (WSMsgType.CLOSE, 4008)
    assert 'callstream_web_lagged_total{kind="websocket"} 1.0' in metrics


async def test_clients_are_told_when_the_gateway_stops(client: Client) -> None:
    async with client.ws_connect("/v1/stream") as socket:
        await socket.send_json({"subscribe": {"chain": "product-copy"}})
        await socket.receive_json()
        assert client.app is not None
        stopping = asyncio.create_task(client.app.shutdown())
        message = await socket.receive()
        await stopping

    assert (message.type, message.data) == (WSMsgType.CLOSE, 1001)


async def test_a_plain_request_is_told_what_is_here(client: Client) -> None:
    response = await client.get("/v1/stream")

    assert response.status == 426
    assert (await response.json())["title"] == "No websocket"


async def test_a_tenant_hears_of_its_own_tasks_only(start: Start, port: FakePort) -> None:
    def key(tenant: str, role: str) -> dict[str, Any]:
        return {"key": f"{tenant}-{role}-0123456789", "tenant": tenant, "role": role}

    client = await start(api_keys=(key("acme", "submit"), key("other", "submit"), key("root", "operate")))

    def headers(name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {name}-0123456789"}

    subscribe = {"subscribe": {"chain": "product-copy"}}
    async with (
        client.ws_connect("/v1/stream", headers=headers("other-submit")) as other,
        client.ws_connect("/v1/stream", headers=headers("root-operate")) as root,
    ):
        for socket in (other, root):
            await socket.send_json(subscribe)
            await socket.receive_json()
        await client.post("/v1/tasks", json=submission(id="secret"), headers=headers("acme-submit"))
        await client.post("/v1/tasks", json=submission(id="own"), headers=headers("other-submit"))

        heard = (await other.receive_json())["update"]["task"]
        all_heard = [(await root.receive_json())["update"]["task"] for _ in range(2)]

    assert heard == "own"
    assert all_heard == ["secret", "own"]
