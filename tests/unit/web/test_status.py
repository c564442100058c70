"""Health, chains and metrics."""

from callstream.streams.keys import task_key
from callstream.web.fake import FakePort
from callstream.web.port import Health
from tests.unit.web.conftest import Client, submission


async def test_health_says_why_not(client: Client, port: FakePort) -> None:
    paths = ("/v1/health/live", "/v1/health/ready", "/v1/health")
    well = [(await client.get(path)).status for path in paths]
    port.state = Health(live=True, ready=False, reasons=("table 'tasks' is recovering",))
    ill = [await client.get(path) for path in paths]

    assert well == [200, 200, 200]
    assert [answer.status for answer in ill] == [200, 503, 503]
    assert (await ill[1].json()) == {"ready": False, "reasons": ["table 'tasks' is recovering"]}


async def test_chains_tell_what_they_take(client: Client) -> None:
    [chain] = (await (await client.get("/v1/chains")).json())["chains"]

    assert chain["name"] == "product-copy"
    assert chain["steps"][1] == {"step": "write", "service": "infer"}
    assert chain["input"]["required"] == ["title"]


async def test_metrics_have_few_labels(client: Client) -> None:
    for n in range(3):
        await client.post("/v1/tasks", json=submission(id=f"mug-{n}"))
        await client.get(f"/nothing/{n}")
    await client.request("PURGE", "/v1/tasks")
    await client.post("/v1/tasks", json=submission(input={}))
    text = await (await client.get("/metrics")).text()

    assert 'callstream_web_requests_total{method="POST",route="/v1/tasks",status="202"} 3.0' in text
    assert 'callstream_web_requests_total{method="GET",route="unmatched",status="404"} 3.0' in text
    assert 'callstream_web_requests_total{method="other",route="unmatched",status="405"} 1.0' in text
    assert 'callstream_web_submissions_total{answer="new",chain="product-copy"} 3.0' in text
    assert 'callstream_web_submissions_total{answer="refused",chain="product-copy"} 1.0' in text
    assert "mug-1" not in text


async def test_the_trace_of_the_caller_goes_on(client: Client, port: FakePort) -> None:
    good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    for header in (good, "00-" + "0" * 32 + "-00f067aa0ba902b7-01", "ff" + good[2:], good.upper(), good + "-x", "x"):
        response = await client.post("/v1/tasks", json=submission(), headers={"traceparent": header})
        assert response.headers["traceparent"] == port.events[-1].traceparent

    traces = [event.traceparent for event in port.events]
    assert traces[0] == good
    assert good not in traces[1:]


async def test_answers_are_guarded(client: Client) -> None:
    response = await client.get("/v1/chains")

    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert response.headers["Cache-Control"] == "no-store"


async def test_pools_are_what_the_replicas_told(client: Client, port: FakePort) -> None:
    port.replicas = {"node-1:7": [{"pool": "copywriter"}]}

    assert await (await client.get("/v1/pools")).json() == {
        "replicas": {"node-1:7": [{"pool": "copywriter"}]},
        "paused": {},
    }


async def test_a_task_says_why_it_waits_until_it_has_ended(client: Client, port: FakePort) -> None:
    task = (await (await client.post("/v1/tasks", json=submission(id="mug-1"))).json())["id"]
    port.calls["default", task] = {"reason": "tokens", "calls_before": 3}
    waits = await (await client.get(f"/v1/tasks/{task}")).json()
    port.end("default", task, "finished")
    ended = await (await client.get(f"/v1/tasks/{task}")).json()

    assert waits["waiting"] == {"reason": "tokens", "calls_before": 3}
    assert "waiting" not in ended


async def test_a_task_whose_call_is_in_flight_says_where_and_does_not_wait(client: Client, port: FakePort) -> None:
    task = (await (await client.post("/v1/tasks", json=submission(id="mug-1"))).json())["id"]
    port.in_flight["default", task] = {"pool": "copywriter", "endpoint": "mini", "since": 1.0}
    port.calls["default", task] = {"reason": "fair share", "put_aside": 3}
    port.tables_by_name["tasks"][task_key("default", task)]["next"] = {"step": "copy", "service": "infer"}
    row = await (await client.get(f"/v1/tasks/{task}")).json()
    assert row["calling"] == {"pool": "copywriter", "endpoint": "mini", "since": 1.0}
    assert "waiting" not in row
    port.end("default", task, "finished")
    assert "calling" not in await (await client.get(f"/v1/tasks/{task}")).json()
