"""Whatever comes in: the answer says what is wrong and where, and the next good task passes."""

import asyncio
import gzip
import json
import time
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from pydantic import BaseModel
from yarl import URL

from callstream.streams.chain import Chain, Chains
from callstream.web.app import build_web
from callstream.web.fake import FakePort
from callstream.web.options import WebOptions
from tests.unit.web.conftest import Client, Start, Write, submission

JSON = {"Content-Type": "application/json"}


def document(text: str) -> bytes:
    """A submission whose title is that piece of JSON."""
    return b'{"chain": "product-copy", "input": {"title": %b}}' % text.encode()


BODIES = {
    "empty": (b"", 400, "not JSON"),
    "not JSON": (b"title=Mug", 400, "line 1, column 1"),
    "not UTF-8": (b'{"chain": "\xff"}', 400, "not UTF-8 at byte 11"),
    "NaN": (document("NaN"), 400, "NaN is not a JSON number"),
    "infinity": (document("-Infinity"), 400, "-Infinity is not a JSON number"),
    "1e999": (document("1e999"), 400, "1e999 is out of range"),
    "depth 10,000": (document("[" * 10_000 + "]" * 10_000), 400, "nested deeper than 32"),
    "5,000 digits": (document("9" * 5000), 400, "5,000 digits"),
    "lone surrogate": (document('"\\ud800"'), 400, "half of a surrogate pair"),
    "repeated key": (b'{"chain": "a", "chain": "b"}', 400, "'chain' stands twice"),
    "no object": (b"[]", 422, "#"),
    "two documents": (b"{} {}", 400, "not JSON"),
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_body_that_cannot_be_read(client: Client, port: FakePort, name: str) -> None:
    body, status, said = BODIES[name]

    response = await client.post("/v1/tasks", data=body, headers=JSON)
    good = await client.post("/v1/tasks", json=submission())

    problem = await response.json()
    assert (response.status, response.content_type) == (status, "application/problem+json")
    assert said in problem["detail"]
    assert good.status == 202
    assert len(port.events) == 1


SUBMISSIONS: dict[str, tuple[dict[str, Any], int, str]] = {
    "unknown chain": ({"chain": "nope"}, 404, "#/chain"),
    "chain of another type": ({"chain": 7}, 422, "#/chain"),
    "input of another type": ({"input": []}, 422, "#/input"),
    "a member too much": ({"input": {"title": "Mug", "colour/~": 1}}, 422, "#/input/colour~1~0"),
    "a member too few": ({"input": {}}, 422, "#/input/title"),
    "a value out of range": ({"input": {"title": "Mug", "price": -1}}, 422, "#/input/price"),
    "an unknown member": ({"sequence": 3}, 422, "#/sequence"),
    "a tenant": ({"tenant": "other"}, 422, "#/tenant"),
    "id with slash": ({"id": "a/b"}, 422, "#/id"),
    "id with NUL": ({"id": "a\0b"}, 422, "#/id"),
    "id with newline": ({"id": "a\n"}, 422, "#/id"),
    "empty id": ({"id": ""}, 422, "#/id"),
    "long id": ({"id": "a" * 129}, 422, "#/id"),
    "id of a sub-task": ({"id": "mug-9~1.1"}, 422, "#/id"),
    "unknown priority": ({"priority": "urgent"}, 422, "#/priority"),
    "deadline in the past": ({"deadline": "2001-01-01T00:00:00Z"}, 422, "#/deadline"),
    "deadline without offset": ({"deadline": "2999-01-01T00:00:00"}, 422, "#/deadline"),
    "deadline of zero": ({"deadline": 0}, 422, "#/deadline"),
    "deadline that is true": ({"deadline": True}, 422, "#/deadline"),
    "deadline for ever": ({"deadline": 1e300}, 422, "#/deadline"),
    "run_at in the year 3000": ({"run_at": "3000-01-01T00:00:00Z"}, 422, "#/run_at"),
    "run_at without offset": ({"run_at": "2026-01-01T00:00:00"}, 422, "#/run_at"),
    "run_at that is a number": ({"run_at": 5}, 422, "#/run_at"),
    "delay that is negative": ({"delay_seconds": -1}, 422, "#/delay_seconds"),
    "delay for ever": ({"delay_seconds": 1e300}, 422, "#/delay_seconds"),
    "delay that is true": ({"delay_seconds": True}, 422, "#/delay_seconds"),
    "delay beside run_at": ({"delay_seconds": 1, "run_at": "2026-01-01T00:00:00Z"}, 422, "#/delay_seconds"),
    "deadline before the start": ({"delay_seconds": 60, "deadline": 30}, 422, "#/delay_seconds"),
    "callback that is no URL": ({"callback": "file:///etc/passwd"}, 422, "#/callback"),
}


@pytest.mark.parametrize("name", SUBMISSIONS)
async def test_a_submission_that_does_not_fit_names_the_place(client: Client, port: FakePort, name: str) -> None:
    members, status, pointer = SUBMISSIONS[name]

    response = await client.post("/v1/tasks", json=submission(**members))

    problem = await response.json()
    assert response.status == problem["status"] == status
    assert problem["instance"] == "/v1/tasks"
    assert any(entry["pointer"].startswith(pointer) for entry in problem["errors"])
    assert port.events == []


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"input": {}}, {"#/input/title": "Field required"}),
        ({"id": "a/b"}, {"#/id": "must be 1 to 128 letters, digits, '.', '_' or '-', a letter or digit first"}),
        ({"deadline": [1]}, {"#/deadline": "Input should be a valid integer, a valid number or a valid string"}),
        (
            {"priority": "urgent", "callback": 7},
            {
                "#/priority": "Input should be 'high', 'normal' or 'low'",
                "#/callback": "Input should be a valid string",
            },
        ),
    ],
)
async def test_a_problem_speaks_of_the_document_that_was_sent(
    client: Client, members: dict[str, Any], told: dict[str, str]
) -> None:
    response = await client.post("/v1/tasks", json=submission(**members))

    problem = await response.json()
    assert {entry["pointer"]: entry["detail"] for entry in problem["errors"]} == told
    [first, *others] = told
    whole = f"{len(told)} places do not fit: {', '.join(told)}" if others else f"{first}: {told[first]}"
    assert problem["detail"] == whole


async def test_of_many_places_the_first_are_told(client: Client) -> None:
    response = await client.post("/v1/tasks", json=submission(**{f"more-{number}": 1 for number in range(7)}))

    problem = await response.json()
    assert problem["detail"].startswith("7 places do not fit, the first 5: #/more-0, #/more-1, ")
    assert len(problem["errors"]) == 7


@pytest.mark.parametrize("key", ["", "x" * 256, "\xe4"])
async def test_an_idempotency_key_that_is_none(client: Client, key: str) -> None:
    response = await client.post("/v1/tasks", json=submission(), headers={"Idempotency-Key": key})

    assert response.status == 400


@pytest.mark.parametrize("path", ["a%2Fb", "a%00b", "a%0Ab", "%0A", "-a", "a" * 129, "%ff", "a%20b", "%F0%9F%92%A9"])
@pytest.mark.parametrize("resource", ["/v1/tasks/{}", "/v1/tasks/{}/events", "/v1/reviews/{}"])
async def test_an_id_in_a_path_that_no_task_can_have(client: Client, path: str, resource: str) -> None:
    response = await client.get(URL(resource.format(path), encoded=True))

    assert response.status == 400
    assert (await response.json())["title"] == "Bad id"


async def test_a_body_too_long_is_refused_before_it_is_sent(start: Start) -> None:
    client = await start(max_body_bytes=2048)
    host, port = client.host, client.port
    reader, writer = await asyncio.open_connection(host, port)
    head = f"POST /v1/tasks HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 52428800\r\n"

    writer.write(head.encode() + b"\r\n{")
    status = await reader.readline()
    writer.close()

    assert b" 413 " in status


async def test_a_client_that_asks_first_is_told_before_it_sends(start: Start) -> None:
    client = await start(max_body_bytes=2048)
    reader, writer = await asyncio.open_connection(client.host, client.port)
    head = f"POST /v1/tasks HTTP/1.1\r\nHost: {client.host}\r\nContent-Length: 52428800\r\nExpect: 100-continue\r\n\r\n"

    writer.write(head.encode())
    status = await reader.readline()
    writer.close()

    assert b" 413 " in status


async def test_a_body_of_unknown_length_is_read_no_further_than_its_bound(start: Start) -> None:
    client = await start(max_body_bytes=2048)

    async def endless() -> Any:
        for _ in range(100):
            yield b"x" * 1024

    response = await client.post("/v1/tasks", data=endless(), headers=JSON)

    assert response.status == 413
    assert "2,048 bytes" in (await response.json())["detail"]


async def test_a_packed_body_is_bounded_by_what_it_unpacks_to(start: Start) -> None:
    client = await start()
    packed = gzip.compress(b" " * 5_000_000)

    response = await client.post("/v1/tasks", data=packed, headers=JSON | {"Content-Encoding": "gzip"})
    broken = await client.post("/v1/tasks", data=packed[:100], headers=JSON | {"Content-Encoding": "gzip"})
    good = await client.post(
        "/v1/tasks", data=gzip.compress(json.dumps(submission()).encode()), headers=JSON | {"Content-Encoding": "gzip"}
    )

    assert (response.status, good.status) == (413, 202)
    assert broken.status == 400


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16"]
)
async def test_other_content_is_refused(client: Client, media_type: str) -> None:
    response = await client.post("/v1/tasks", data=b"{}", headers={"Content-Type": media_type})

    assert response.status == 415
    assert "application/json" in (await response.json())["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nothing", 404), ("DELETE", "/v1/tasks", 405), ("PUT", "/v1/tasks/a", 405)]
)
async def test_paths_and_methods_that_are_not_there(client: Client, method: str, path: str, status: int) -> None:
    response = await client.request(method, path)

    problem = await response.json()
    assert (response.status, response.content_type) == (status, "application/problem+json")
    assert (problem["status"], problem["instance"]) == (status, path)
    assert ("Allow" in response.headers) == (status == 405)


async def test_a_bug_is_told_by_reference_only(
    client: Client, port: FakePort, caplog: pytest.LogCaptureFixture
) -> None:
    del port.tables_by_name["tasks"]

    response = await client.get("/v1/tasks/mug-1")

    text = await response.text()
    assert response.status == 500
    assert "KeyError" not in text
    assert "Traceback" not in text
    reference = text.partition("under reference ")[2][:12]
    assert reference in caplog.text


async def test_a_body_that_the_event_around_it_makes_too_large() -> None:
    class Long(BaseModel):
        text: str

    most = 4 * 1024**2
    chains = Chains([Chain("long", Long, (Write(),))])
    async with TestClient(
        TestServer(build_web(FakePort(chains, time.time), WebOptions(max_body_bytes=most), chains))
    ) as long:
        body = b'{"chain": "long", "input": {"text": "%b"}}'
        raw = body % (b"x" * (most - len(body) + 2))
        response = await long.post("/v1/tasks", data=raw, headers=JSON)
        problem = await response.json()
        good = await long.post("/v1/tasks", data=body % b"x", headers=JSON)

    assert (len(raw), response.status, good.status) == (most, 413, 202)
    assert "at most 4,194,304 are passed on" in problem["detail"]
    assert "POST /v1/blobs" in problem["detail"]
