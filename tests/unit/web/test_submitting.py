"""Tasks are handed in once, however often and however close together they are sent."""

import asyncio
import time

import pytest

from callstream.streams.chain import Chains
from callstream.streams.event import Event, Priority
from callstream.streams.keys import task_key
from callstream.web.fake import FakePort
from callstream.web.port import Unavailable
from tests.unit.web.conftest import Client, Start, submission


async def test_a_submission_is_answered_once_it_is_on_the_log(client: Client, port: FakePort) -> None:
    response = await client.post("/v1/tasks", json=submission(id="mug-1", priority="high", deadline=60))

    body = await response.json()
    assert response.status == 202
    assert body == {"id": "mug-1", "status_url": "/v1/tasks/mug-1", "state": "accepted"}
    assert response.headers["Location"] == "/v1/tasks/mug-1"
    [event] = port.events
    assert (event.tenant, event.task, event.sequence, event.version) == ("default", "mug-1", 0, 0)
    assert event.priority is Priority.HIGH
    assert event.deadline is not None
    assert event.deadline - event.time == pytest.approx(60, abs=1)


@pytest.mark.parametrize(
    ("members", "ahead"), [({"delay_seconds": 90}, 90.0), ({"run_at": "1970-01-01T00:00:00Z"}, None), ({}, None)]
)
async def test_a_submission_may_say_when_it_starts(
    client: Client, port: FakePort, members: dict[str, object], ahead: float | None
) -> None:
    response = await client.post("/v1/tasks", json=submission(id="mug-1", **members))

    assert response.status == 202
    [event] = port.events
    if ahead is None:
        assert event.run_at in (0.0, None)
    else:
        assert event.run_at is not None
        assert event.run_at - event.time == pytest.approx(ahead, abs=1)


async def test_the_same_submission_again_gives_the_first_task(client: Client, port: FakePort) -> None:
    await client.post("/v1/tasks", json=submission(id="mug-1"))
    port.advance("default", "mug-1")

    again = await client.post("/v1/tasks", json=submission(id="mug-1", priority="low"))

    assert again.status == 200
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (await again.json())["state"] == "running"
    assert len(port.events) == 1


async def test_an_idempotency_key_names_the_task(client: Client, port: FakePort) -> None:
    first = await client.post("/v1/tasks", json=submission(), headers={"Idempotency-Key": "order 7"})
    again = await client.post("/v1/tasks", json=submission(), headers={"Idempotency-Key": "order 7"})

    assert (first.status, again.status) == (202, 200)
    assert (await first.json())["id"] == (await again.json())["id"]
    assert len(port.events) == 1


async def test_another_submission_under_the_same_key_is_refused(client: Client, port: FakePort) -> None:
    await client.post("/v1/tasks", json=submission(), headers={"Idempotency-Key": "order 7"})

    other = await client.post(
        "/v1/tasks", json=submission(input={"title": "Cup"}), headers={"Idempotency-Key": "order 7"}
    )

    assert other.status == 409
    assert (await other.json())["type"] == "urn:callstream:problem:other-submission"
    assert len(port.events) == 1


class SlowLog(FakePort):
    """A log that takes an event only once `go` is set."""

    def __init__(self, chains: Chains) -> None:
        super().__init__(chains, time.time)
        self.go = asyncio.Event()
        self.broken = False

    async def submit(self, event: Event) -> None:
        """Wait, then do as ever, or fail."""
        await self.go.wait()
        if self.broken:
            raise Unavailable("the log is gone")
        await super().submit(event)


async def test_a_race_of_two_submissions_starts_one_task(start: Start, chains: Chains) -> None:
    port = SlowLog(chains)
    client = await start(port)

    bodies = [submission(id="mug-1")] * 5 + [submission(id="mug-1", input={"title": "Cup"})]
    racing = [asyncio.create_task(client.post("/v1/tasks", json=body)) for body in bodies]
    done, _ = await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
    port.go.set()
    statuses = sorted([(await response).status for response in racing])

    assert [(await response).status for response in done] == [409]
    assert statuses == [200, 200, 200, 200, 202, 409]
    assert len(port.events) == 1


async def test_what_did_not_reach_the_log_is_told_and_forgotten(start: Start, chains: Chains) -> None:
    port = SlowLog(chains)
    port.broken = True
    port.go.set()
    client = await start(port)

    failed = await client.post("/v1/tasks", json=submission(id="mug-1"))
    port.broken = False
    again = await client.post("/v1/tasks", json=submission(id="mug-1", input={"title": "Cup"}))

    assert (failed.status, again.status) == (503, 202)
    assert failed.headers["Retry-After"] == "1"
    assert (await failed.json())["detail"] == "the log is gone"


async def test_what_the_timer_has_is_told_on_every_way_and_no_gate_takes_its_place(
    client: Client, port: FakePort
) -> None:
    await client.post("/v1/tasks", json=submission(id="mug-1"))
    failure = {"kind": "busy", "message": "the oven is full", "step": "copy"}
    waiting = {"reason": "retry", "until": 86_400.0 * 365, "attempts": 2, "failure": failure}
    key = task_key("default", "mug-1")
    port.tables_by_name["tasks"][key] |= {"waiting": waiting}
    port.calls["default", "mug-1"] = {"pool": "large", "reason": "fair-share"}

    told = await client.get("/v1/tasks/mug-1")
    page = await client.get("/tasks/mug-1", headers={"Accept": "text/html"})

    assert (await told.json())["waiting"] == waiting
    assert "after attempt 2: busy: the oven is full" in await page.text()
