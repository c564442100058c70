"""A task comes as a CloudEvent, in both modes of the HTTP binding, as the SDK sends them."""

import json
from typing import Any

import pytest
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

from callstream.streams.event import Priority
from callstream.web.fake import FakePort
from tests.unit.web.conftest import Client, submission

ATTRIBUTES = {"specversion": "1.0", "id": "17", "source": "/shop", "type": "shop.product.added"}


def structured(data: Any = None, **attributes: Any) -> dict[str, Any]:
    return ATTRIBUTES | {"data": submission() if data is None else data} | attributes


async def post(client: Client, envelope: Any) -> Any:
    headers = {"Content-Type": "application/cloudevents+json"}
    return await client.post("/v1/events", data=json.dumps(envelope), headers=headers)


@pytest.mark.parametrize("bind", [to_binary_event, to_structured_event])
async def test_events_of_the_sdk_are_tasks(client: Client, port: FakePort, bind: Any) -> None:
    event = CloudEvent(
        attributes=ATTRIBUTES | {"subject": "mug-1", "priority": "high", "datacontenttype": "application/json"},
        data=submission(),
    )
    message = bind(event)

    response = await client.post("/v1/events", data=message.body, headers=message.headers)

    assert response.status == 202
    assert response.headers["Location"] == "/v1/tasks/mug-1"
    assert (port.events[0].task, port.events[0].priority) == ("mug-1", Priority.HIGH)


async def test_a_repeated_event_is_the_same_task(client: Client, port: FakePort) -> None:
    first, again = await post(client, structured()), await post(client, structured())
    other = await post(client, structured(id="18"))

    assert [first.status, again.status, other.status] == [202, 200, 202]
    assert len(port.events) == 2


async def test_extensions_are_taken_over(client: Client, port: FakePort) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    await post(
        client,
        structured(
            traceparent=trace, expirytime="2026-12-31T00:00:00Z", runat="1970-01-01T00:00:00Z", tenant="default"
        ),
    )

    assert port.events[0].traceparent == trace
    assert port.events[0].deadline is not None
    assert port.events[0].run_at == 0


@pytest.mark.parametrize(
    ("envelope", "status", "said"),
    [
        ([], 400, "JSON object"),
        (structured(specversion="0.3"), 400, "'0.3' is not taken"),
        ({"specversion": "1.0", "source": "/s", "type": "t", "data": {}}, 400, "attribute 'id' is missing"),
        ({"specversion": "1.0", "id": "1", "type": "t", "data": {}}, 400, "attribute 'source' is missing"),
        ({"id": "1", "source": "/s", "type": "t"}, 400, "specversion"),
        (structured(data_base64="e30="), 400, "data_base64"),
        (structured(data=[1]), 422, "JSON object"),
        (structured(data={"chain": "product-copy"}), 422, "#/input"),
        (structured(data=submission(chain="nope")), 404, "nope"),
        (structured(subject="a/b"), 400, "no task id"),
        (structured(subject="mug-9~1.1"), 400, "attribute 'subject': must not contain '~'"),
        (structured(priority="urgent"), 400, "priority"),
        (structured(expirytime="soon"), 400, "expirytime"),
        (structured(expirytime="2001-01-01T00:00:00Z"), 400, "attribute 'expirytime': must lie in the future"),
        (structured(expirytime="9999-01-01T00:00:00Z"), 400, "attribute 'expirytime': must lie within a year"),
        (structured(runat="3000-01-01T00:00:00Z"), 400, "runat"),
        (structured(tenant="other"), 403, "tenant"),
    ],
)
async def test_an_event_that_is_no_task(client: Client, port: FakePort, envelope: Any, status: int, said: str) -> None:
    response = await post(client, envelope)

    assert response.status == status
    assert said in (await response.json())["detail"]
    assert port.events == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/cloudevents-batch+json"}, 415),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/json"}, 400),
        ({"Content-Type": "application/json", "ce-specversion": "1.0", "ce-id": "%ff"}, 400),
        ({"Content-Type": "application/json", "ce-specversion": "1.0", "ce-id": "x" * 5000}, 400),
    ],
)
async def test_headers_that_make_no_event(client: Client, headers: dict[str, str], status: int) -> None:
    response = await client.post("/v1/events", data=b"{}", headers=headers)

    assert response.status == status
