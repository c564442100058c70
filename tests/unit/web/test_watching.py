"""A task's way is followed by status, long poll and server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientResponse

from callstream.web.fake import FakePort
from tests.unit.web.conftest import Client, Start, submission


async def begin(client: Client, task: str = "mug-1") -> None:
    response = await client.post("/v1/tasks", json=submission(id=task))
    assert response.status == 202


async def until_waiting(client: Client) -> None:
    """Return when one client is kept waiting."""
    while 'callstream_web_streams{kind="wait"} 1.0' not in await (await client.get("/metrics")).text():
        pass


async def events(response: ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """The server-sent events of a response: `id`, `data` (parsed), or `comment`."""
    event: dict[str, Any] = {}
    async for raw in response.content:
        line = raw.decode().rstrip("\n")
        if not line:
            if event.keys() & {"data", "comment"}:
                yield event
            event = {}
        elif line.startswith(":"):
            event["comment"] = line[1:].strip()
        else:
            name, _, value = line.partition(": ")
            event[name] = json.loads(value) if name == "data" else value


async def test_the_row_is_shown(client: Client, port: FakePort) -> None:
    await begin(client)
    port.advance("default", "mug-1", model="gpt", tokens_in=3)

    row = await (await client.get("/v1/tasks/mug-1")).json()

    assert row["state"] == "running"
    assert row["steps"][0]["model"] == "gpt"
    assert row["next"] == {"step": "write", "service": "infer"}


async def test_the_page_shows_what_the_task_and_its_steps_cost(client: Client, port: FakePort) -> None:
    await begin(client)
    assert "Cost</dt>" not in await (await client.get("/tasks/mug-1")).text()
    port.advance("default", "mug-1", model="gpt", tokens_in=3, cost={"EUR": "0.0002"})
    port.end("default", "mug-1", cost={"EUR": "0.0002", "USD": "1"}, estimated={"EUR": "0.0001"})

    page = await (await client.get("/tasks/mug-1")).text()

    assert '<td class="num">0.0002 EUR</td>' in page
    assert '<dt>Cost</dt><dd>0.0002 EUR, 1 USD <span class="muted">(0.0001 EUR of it reckoned)</span></dd>' in page


async def test_a_task_is_seen_before_the_table_has_it(client: Client, port: FakePort) -> None:
    await begin(client)
    port.tables_by_name["tasks"].clear()

    row = await (await client.get("/v1/tasks/mug-1")).json()

    assert (row["id"], row["state"]) == ("mug-1", "accepted")


async def test_nobody_sees_what_is_not_there(client: Client) -> None:
    for path in ("/v1/tasks/none", "/v1/tasks/none?wait=5", "/v1/tasks/none/events"):
        response = await client.get(path)
        assert response.status == 404
        assert (await response.json())["type"] == "urn:callstream:problem:unknown-task"


async def test_a_long_poll_ends_with_the_task(client: Client, port: FakePort) -> None:
    await begin(client)
    waiting = asyncio.create_task(client.get("/v1/tasks/mug-1?wait=30"))
    await until_waiting(client)

    port.advance("default", "mug-1")
    port.end("default", "mug-1", result={"copy": "A mug."})
    row = await (await waiting).json()

    assert (row["state"], row["result"]) == ("finished", {"copy": "A mug."})
    assert port.updates.followed == 0


async def test_a_long_poll_is_bounded(start: Start) -> None:
    client = await start(max_wait_seconds=0.05)
    await begin(client)

    row = await (await client.get("/v1/tasks/mug-1?wait=9999")).json()

    assert row["state"] == "accepted"


@pytest.mark.parametrize("wait", ["-1", "nan", "inf", "soon", "1e999"])
async def test_a_wait_that_is_no_time_is_refused(client: Client, wait: str) -> None:
    await begin(client)

    assert (await client.get(f"/v1/tasks/mug-1?wait={wait}")).status == 400


async def test_waiting_clients_are_bounded_in_number(start: Start, port: FakePort) -> None:
    client = await start(max_streams=1)
    await begin(client)
    first = asyncio.create_task(client.get("/v1/tasks/mug-1?wait=30"))
    await until_waiting(client)

    refused = await client.get("/v1/tasks/mug-1?wait=30")
    port.end("default", "mug-1")

    assert refused.status == 503
    assert (await first).status == 200


async def test_events_tell_each_change_to_the_end(client: Client, port: FakePort) -> None:
    await begin(client)
    async with client.get("/v1/tasks/mug-1/events") as response:
        told = events(response)
        first = await anext(told)
        port.advance("default", "mug-1")
        port.end("default", "mug-1", result={"copy": "A mug."})
        rest = [event async for event in told]

    assert response.content_type == "text/event-stream"
    assert first["data"]["state"] == "accepted"
    assert [event["data"]["state"] for event in rest] == ["running", "finished"]
    assert [event["id"] for event in rest] == ["fake-2", "fake-3"]
    assert rest[-1]["data"]["row"]["result"] == {"copy": "A mug."}


async def test_events_go_on_from_a_cursor(client: Client, port: FakePort) -> None:
    await begin(client)
    async with client.get("/v1/tasks/mug-1/events") as response:
        cursor = (await anext(events(response)))["id"]
    port.advance("default", "mug-1")
    port.end("default", "mug-1")

    async with client.get("/v1/tasks/mug-1/events", headers={"Last-Event-ID": cursor}) as response:
        told = [event["data"]["state"] async for event in events(response)]
    after_the_end = await client.get("/v1/tasks/mug-1/events", headers={"Last-Event-ID": port.updates.position})

    assert told == ["running", "finished"]
    assert after_the_end.status == 204


async def test_events_from_a_cursor_of_another_time_begin_with_the_row(client: Client, port: FakePort) -> None:
    await begin(client)
    port.end("default", "mug-1", "failed")

    async with client.get("/v1/tasks/mug-1/events", headers={"Last-Event-ID": "before-17"}) as response:
        told = [event["data"]["state"] async for event in events(response)]

    assert told == ["failed"]


async def test_a_silent_stream_gives_signs_of_life(start: Start) -> None:
    client = await start(heartbeat_seconds=0.01)
    await begin(client)

    async with client.get("/v1/tasks/mug-1/events") as response:
        told = events(response)
        await anext(told)
        beat = await anext(told)

    assert beat == {"comment": "still here"}


async def test_streams_end_when_the_gateway_stops(client: Client) -> None:
    await begin(client)
    async with client.get("/v1/tasks/mug-1/events") as response:
        told = events(response)
        await anext(told)
        assert client.app is not None
        await client.app.shutdown()
        rest = [event async for event in told]
    refused = await client.get("/v1/tasks/mug-1/events")

    assert rest == []
    assert refused.status == 503


async def test_a_long_poll_ends_when_the_gateway_stops(client: Client) -> None:
    await begin(client)
    waiting = asyncio.create_task(client.get("/v1/tasks/mug-1?wait=30"))
    await until_waiting(client)
    assert client.app is not None
    await client.app.shutdown()

    assert (await (await waiting).json())["state"] == "accepted"


async def test_a_client_that_does_not_read_is_dropped(start: Start, port: FakePort) -> None:
    client = await start(slow_client_seconds=0.05, queue_bytes=2_000_000)
    await begin(client)
    reader, writer = await asyncio.open_connection(client.host, client.port, limit=1024)
    writer.write(f"GET /v1/tasks/mug-1/events HTTP/1.1\r\nHost: {client.host}\r\n\r\n".encode())
    assert b"200" in await reader.readline()

    rounds = 0
    while port.updates.followed and rounds < 2000:
        port.advance("default", "mug-1", notes=["x" * 200_000]) if rounds == 0 else port.touch("default", "mug-1")
        await client.get("/v1/health/live")
        rounds += 1
    writer.close()

    assert port.updates.followed == 0
