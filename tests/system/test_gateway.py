"""The front door over the real engine: tasks in once, their states out by every way, verdicts, callbacks, traces."""

import asyncio
import base64
import json
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from jaeger_client.thrift_gen.agent import Agent
from standardwebhooks import Webhook
from thrift.protocol.TCompactProtocol import TCompactProtocol
from thrift.transport.TTransport import TMemoryBuffer

from callstream.settings.gather import environment_name
from callstream.streams.event import Json
from callstream.streams.keys import task_key
from callstream.tables.profiles import profile_key
from tests.support.running import (
    OBEDIENT,
    QUICK,
    TENANT,
    Settings,
    System,
    as_record,
    body,
    headers,
    running_system,
    submission,
    until,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
MUG = {"product_id": "mug", "title": "A blue mug"}
BOAST = {"product_id": "mug", "title": "A blue mug", "description": "The world's best mug."}
STEPS = [
    ("intake", "intake"),
    ("prompt", "prepare"),
    ("copy", "infer"),
    ("moderate", "moderate"),
    ("catalogue", "deliver"),
]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
NOTIFIED = "callstream.task.notified"
BURIED = "callstream.task.dead"


class Spans(asyncio.DatagramProtocol):
    """Where a Jaeger agent would listen: decodes each packet as it comes."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []

    def datagram_received(self, data: bytes, addr: object) -> None:
        protocol = TCompactProtocol(TMemoryBuffer(data))
        protocol.readMessageBegin()
        arguments: Any = vars(Agent)["emitBatch_args"]()
        arguments.read(protocol)
        self.seen += [(arguments.batch.process.serviceName, span) for span in arguments.batch.spans]

    def of_trace(self, trace: str) -> list[tuple[str, Any]]:
        """(service, span) of every span of a trace so far."""
        wanted = (int(trace[:16], 16), int(trace[16:], 16))
        return [
            (service, span)
            for service, span in self.seen
            if (span.traceIdHigh % 2**64, span.traceIdLow % 2**64) == wanted
        ]


@dataclass
class Receiver:
    """A caller's server for callbacks: keeps what it gets and answers with `statuses` in turn, then 204."""

    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        self.received.append((dict(request.headers), await request.read()))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 204)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def agent() -> AsyncIterator[tuple[Spans, int]]:
    """What a Jaeger agent gets, and its port."""
    loop = asyncio.get_running_loop()
    transport, spans = await loop.create_datagram_endpoint(Spans, local_addr=("127.0.0.1", 0))
    yield spans, transport.get_extra_info("sockname")[1]
    transport.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory, agent: tuple[Spans, int]) -> AsyncIterator[System]:
    settings: Settings = {
        ("engine", "commit_interval_seconds"): 0.2,
        ("notify", "secret"): SECRET,
        ("notify", "allow_private"): "true",
        ("notify", "first_pause_seconds"): 0.1,
        ("tracing", "enabled"): "true",
        ("tracing", "agent_port"): agent[1],
        ("tracing", "flush_seconds"): 0.1,
    }
    async with running_system(tmp_path_factory.mktemp("gateway"), (QUICK, OBEDIENT), settings) as running:
        await running.start()
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def receiver() -> AsyncIterator[tuple[Receiver, str]]:
    receiver = Receiver()
    application = web.Application()
    application.router.add_post("/{rest:.*}", receiver.take)
    async with TestServer(application) as server:
        yield receiver, str(server.make_url("/done"))


def named(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(4)}"


async def test_a_task_is_accepted_followed_and_told_in_full(system: System) -> None:
    worker, before = system.worker, time.time()
    # when a task is handed in without an id
    told = await worker.submit("quick", MUG, priority="high")
    assert told["state"] == "accepted"
    assert told["status_url"] == f"/v1/tasks/{told['id']}"
    # then one long poll gives its end
    row = await worker.row(told["id"], wait=60)
    assert row is not None
    assert row["state"] == "finished"
    assert row["priority"] == "high"
    assert row["result"]["copy"]
    # and each step with its times, and what the model took
    assert [(step["step"], step["service"]) for step in row["steps"]] == STEPS
    for step in row["steps"]:
        assert before <= step["started"] <= step["ended"] <= time.time()
        assert step["attempts"] == 1
    for earlier, later in pairwise(row["steps"]):
        assert earlier["ended"] <= later["started"]
    copy = row["steps"][2]
    assert (copy["model"], copy["calls"], copy["repeated"]) == ("stub-writer", 1, 0)
    counted = await system.stub.task(TENANT, told["id"])
    assert counted["calls"] == counted["paid"] == 1
    assert copy["tokens_in"] > 0
    assert copy["tokens_out"] > 0
    assert row["next"] is None
    # and a held wait does not come back early
    assert await worker.row("nobody-knows-it") is None


async def test_the_answer_is_given_only_when_the_task_is_on_the_log(system: System) -> None:
    task = named("logged")
    await system.worker.submit("quick", MUG, id=task)
    (found,) = await (await system.tail("intake")).of_task(task, "callstream.task")
    assert headers(found)["ce_id"] == task_key(TENANT, task) + b"/0/1"


async def test_the_same_key_is_the_same_task_and_another_body_a_conflict(system: System) -> None:
    worker, key = system.worker, named("key")
    first = await worker.submit("quick", MUG, key=key)
    assert await worker.submit("quick", MUG, key=key, status=200) | {"state": ""} == first | {"state": ""}
    await worker.reaches(first["id"], "finished")
    again = await worker.submit("quick", dict(reversed(MUG.items())), key=key, status=200)
    assert (again["id"], again["state"]) == (first["id"], "finished")
    refused = await worker.submit("quick", {**MUG, "title": "Another mug"}, key=key, status=409)
    assert refused["type"] == "urn:callstream:problem:other-submission"
    assert (await system.stub.task(TENANT, first["id"]))["calls"] == 1


async def test_the_same_id_is_the_same_task_whichever_door_it_came_through(system: System) -> None:
    worker, task = system.worker, named("id")
    await worker.submit("quick", MUG, id=task)
    # straight onto the log: once the same, once another
    await system.put("intake", as_record(submission("quick", MUG, task), "intake"))
    await system.put("intake", as_record(submission("quick", {**MUG, "title": "Other"}, task), "intake"))
    row = await worker.reaches(task, "finished")
    (letter,) = await (await system.tail("dead")).of_task(task, BURIED)
    assert body(letter)["failure"]["kind"] == "conflict"
    await system.settled()
    assert await worker.row(task) == row
    assert (await system.stub.task(TENANT, task))["calls"] == 1


async def test_twenty_identical_posts_at_once_are_one_task(system: System) -> None:
    key = named("race")

    async def post() -> tuple[int, Json]:
        sent = {"Idempotency-Key": key}
        async with system.worker.http.post("/v1/tasks", json={"chain": "quick", "input": MUG}, headers=sent) as said:
            return said.status, await said.json(content_type=None)

    answers = await asyncio.gather(*(post() for _ in range(20)))
    assert sorted(status for status, _ in answers) == [200] * 19 + [202]
    (task,) = {told["id"] for _, told in answers}
    await system.worker.reaches(task, "finished")
    await system.settled()
    assert (await system.stub.task(TENANT, task))["calls"] == 1


async def test_of_twenty_differing_posts_at_once_one_wins(system: System) -> None:
    task = named("contest")

    async def post(number: int) -> tuple[int, int]:
        given = {"chain": "quick", "id": task, "input": {**MUG, "title": f"Mug {number}"}}
        async with system.worker.http.post("/v1/tasks", json=given) as said:
            return said.status, number

    answers = await asyncio.gather(*(post(number) for number in range(20)))
    (winner,) = [number for status, number in answers if status == 202]
    assert sorted(status for status, _ in answers) == [202] + [409] * 19
    row = await system.worker.reaches(task, "finished")
    assert f"Mug {winner}" in row["result"]["copy"]


async def test_a_deadline_that_has_passed_fails_the_task(system: System) -> None:
    event = submission("quick", MUG, named("late"), deadline=time.time() - 1)
    await system.put("intake", as_record(event, "intake"))
    row = await system.worker.reaches(event.task, "failed")
    assert (row["failure"]["kind"], row["failure"]["step"]) == ("deadline", "intake")


async def test_a_deadline_that_passes_on_the_way_stops_the_next_step(system: System) -> None:
    told = await system.worker.submit("obedient", {"do": "wait"}, deadline=1.4)
    row = await system.worker.reaches(told["id"], "failed")
    assert row["failure"]["kind"] == "deadline"
    assert row["deadline"] is not None
    assert row["steps"][-1]["step"] == row["failure"]["step"]


async def test_a_callback_is_posted_once_and_signed(system: System, receiver: tuple[Receiver, str]) -> None:
    kept, url = receiver
    kept.statuses = [503]
    told = await system.worker.submit("quick", MUG, callback=url)
    row = await system.worker.reaches(told["id"], "finished")

    async def delivered() -> Json | None:
        found = await system.worker.row(told["id"])
        return found if found is not None and found["callback"] else None

    shown = await until(delivered, "the row tells of the callback")
    assert shown["callback"]["state"] == "delivered"
    assert shown["callback"]["attempts"] == 2
    await system.settled()
    (refused, taken) = kept.received
    payload = Webhook(SECRET).verify(taken[1], taken[0])
    assert payload["data"]["id"] == told["id"]
    assert payload["data"]["result"] == row["result"]
    assert refused[0]["webhook-id"] == taken[0]["webhook-id"]
    (note,) = await (await system.tail("notified")).of_task(told["id"], NOTIFIED)
    assert body(note)["outputs"]["notify"]["callback"]["status"] == 204


async def test_a_callback_that_is_refused_is_buried_and_its_task_stays_finished(
    system: System, receiver: tuple[Receiver, str]
) -> None:
    kept, url = receiver
    kept.statuses = [410]
    told = await system.worker.submit("quick", MUG, callback=url)
    (letter,) = await (await system.tail("dead")).of_task(told["id"], BURIED)
    assert body(letter)["failure"]["kind"] == "callback-refused"
    assert (await system.worker.reaches(told["id"], "finished"))["failure"] is None
    assert len(kept.received) == 1


async def lines(answer: aiohttp.ClientResponse) -> list[Json]:
    """The data of every server-sent event to the end of the stream."""
    return [json.loads(line[6:]) async for line in answer.content if line.startswith(b"data: ")]


async def test_server_sent_events_tell_every_state_to_the_end(system: System) -> None:
    told = await system.worker.submit("obedient", {"do": "wait"})
    async with system.worker.http.get(f"/v1/tasks/{told['id']}/events") as answer:
        assert answer.status == 200
        assert answer.content_type == "text/event-stream"
        found = await asyncio.wait_for(lines(answer), 60)
    check_states(found)
    # and whoever comes back with the last cursor is told that it is over
    last = {"Last-Event-ID": found[-1]["cursor"]}
    async with system.worker.http.get(f"/v1/tasks/{told['id']}/events", headers=last) as answer:
        assert answer.status == 204


def check_states(updates: list[Json]) -> None:
    """From the beginning to the end, never back, and every step that took time is seen before it is done."""
    done = [len(update["row"]["steps"]) for update in updates]
    assert updates[0]["state"] in ("accepted", "running")
    assert updates[-1]["state"] == "finished"
    assert done == sorted(done)
    waits = {update["row"]["next"]["step"] for update in updates if update["row"]["next"]}
    assert {"first", "second"} <= waits


async def test_a_websocket_follows_a_task_and_a_chain(system: System) -> None:
    async with system.worker.http.ws_connect("/v1/stream") as socket_of_chain:
        await socket_of_chain.send_json({"subscribe": {"chain": "obedient"}})
        assert (await socket_of_chain.receive_json(timeout=30))["subscribed"] == {"chain": "obedient"}
        told = await system.worker.submit("obedient", {"do": "wait"})
        async with system.worker.http.ws_connect("/v1/stream") as socket_of_task:
            await socket_of_task.send_json({"subscribe": {"task": told["id"]}})
            assert (await socket_of_task.receive_json(timeout=30))["subscribed"] == {"task": told["id"]}
            for updates in (
                await updates_of(socket_of_task, told["id"]),
                await updates_of(socket_of_chain, told["id"]),
            ):
                check_states(updates)
            await socket_of_task.send_json({"subscribe": {"task": "nobody-knows-it"}})
            assert (await socket_of_task.receive_json(timeout=30))["error"]["status"] == 404


async def updates_of(stream: aiohttp.ClientWebSocketResponse, task: str) -> list[Json]:
    found: list[Json] = []
    while not found or found[-1]["state"] not in ("finished", "failed"):
        message = await stream.receive_json(timeout=60)
        if message.get("update", {}).get("task") == task:
            found.append(message["update"])
    return found


async def held(system: System) -> str:
    """A task that waits for a person."""
    told = await system.worker.submit("quick", BOAST)
    row = await system.worker.reaches(told["id"], "held")
    assert "superlative" in row["held"] or "best" in row["held"]
    return str(told["id"])


async def verdict(system: System, task: str, **said: object) -> tuple[int, Json]:
    async with system.worker.http.post(f"/v1/reviews/{task}", json={"reviewer": "ann", **said}) as answer:
        return answer.status, await answer.json(content_type=None)


async def test_held_tasks_are_listed_with_what_a_reviewer_needs(system: System) -> None:
    task = await held(system)
    rows: list[Json] = []

    async def listed() -> bool:
        # the list has a row once the log has it, the status a moment before
        async with system.worker.http.get("/v1/reviews") as answer:
            rows[:] = [row for row in (await answer.json())["reviews"] if row["id"] == task]
        return bool(rows)

    await until(listed, "the task is listed")
    (row,) = rows
    assert row["held"]
    assert row["outputs"]["copy"]["text"]
    async with system.worker.http.get(f"/v1/reviews/{task}") as answer:
        assert answer.status == 200
    assert (await verdict(system, task, verdict="reject", reason="no"))[0] == 202
    await system.worker.reaches(task, "rejected")
    async with system.worker.http.get(f"/v1/reviews/{task}") as answer:
        audit = (await answer.json())["review"]["audit"]
    assert [(note["by"], note["what"], note["why"]) for note in audit] == [("ann", "reject", "no")]


@pytest.mark.parametrize(
    ("said", "end"),
    [
        ({"verdict": "approve"}, "finished"),
        ({"verdict": "edit", "edits": {"copy": {"text": "A good mug."}}}, "finished"),
        ({"verdict": "reject", "reason": "no boasting"}, "rejected"),
    ],
    ids=["approve", "edit", "reject"],
)
async def test_a_verdict_sends_a_held_task_on_once(system: System, said: Json, end: str) -> None:
    task = await held(system)
    # when the same is said twice at once
    answers = await asyncio.gather(*(verdict(system, task, **said) for _ in range(2)))
    # then both are taken, or the second comes too late; and the task ends once
    assert {status for status, _ in answers} <= {202, 409}
    row = await system.worker.reaches(task, end)
    if said["verdict"] == "edit":
        assert row["result"]["copy"] == "A good mug."
    if end == "rejected":
        assert row["failure"]["message"] == "rejected by ann: no boasting"
    assert (await verdict(system, task, verdict="approve"))[0] == 409
    await system.settled()
    assert await system.worker.row(task) == row
    steps = [step["step"] for step in row["steps"]]
    assert steps.count("review") == 1
    assert steps.count("catalogue") == (end == "finished")


async def test_a_verdict_that_cannot_be_carried_out_is_refused(system: System) -> None:
    task = await held(system)
    status, told = await verdict(system, task, verdict="edit", edits={"nothing": {"text": "x"}})
    assert (status, "nothing" in told["detail"]) == (422, True)
    assert (await verdict(system, "nobody-knows-it", verdict="approve"))[0] == 404
    assert (await verdict(system, task, verdict="reject", reason="no"))[0] == 202
    await system.worker.reaches(task, "rejected")


async def test_one_trace_goes_through_all_services_and_out(
    system: System, agent: tuple[Spans, int], receiver: tuple[Receiver, str]
) -> None:
    (spans, _), (_, url) = agent, receiver
    told = await system.worker.submit("quick", MUG, traceparent=f"00-{TRACE}-00f067aa0ba902b7-01", callback=url)
    await system.worker.reaches(told["id"], "finished")
    services = {"intake", "prepare", "infer", "moderate", "deliver", "notify", "model"}

    async def look() -> list[tuple[str, Any]]:
        found = spans.of_trace(TRACE)
        return found if services <= {service for service, _ in found} else []

    found = await until(look, f"spans of {services}")
    by_id = {span.spanId % 2**64: span for _, span in found}
    # each span but the first hangs below another of the same trace
    parents = [span.parentSpanId % 2**64 for _, span in found]
    outside = [parent for parent in parents if parent not in by_id]
    assert outside == [0x00F067AA0BA902B7]
    (model,) = [span for service, span in found if service == "model"]
    (step,) = [span for service, span in found if (service, span.operationName) == ("infer", "copy")]
    assert model.parentSpanId == step.spanId
    assert {tag.key: tag.vStr for tag in step.tags}["task"] == told["id"]


@pytest.mark.parametrize("structured", [False, True], ids=["binary", "structured"])
async def test_a_cloudevent_becomes_a_task_once(system: System, structured: bool) -> None:
    attributes = {"specversion": "1.0", "id": named("event"), "source": "/shop", "type": "product", "priority": "low"}
    data = {"chain": "quick", "input": MUG}
    if structured:
        sent = {"Content-Type": "application/cloudevents+json"}
        raw = json.dumps({**attributes, "data": data})
    else:
        sent = {"Content-Type": "application/json"} | {f"ce-{name}": text for name, text in attributes.items()}
        raw = json.dumps(data)
    found = []
    for _ in range(2):
        async with system.worker.http.post("/v1/events", data=raw, headers=sent) as answer:
            found.append((answer.status, (await answer.json())["id"]))
    assert [status for status, _ in found] == [202, 200]
    assert found[0][1] == found[1][1]
    row = await system.worker.reaches(found[0][1], "finished")
    assert row["priority"] == "low"


@pytest.mark.parametrize("kafka", [False, True], ids=["http", "kafka"])
async def test_a_file_of_tasks_is_produced_and_waited_for(system: System, kafka: bool) -> None:
    path = system.folder / f"{named('tasks')}.jsonl"
    texts = [{"product_id": f"p{n}", "title": f"Mug {n}"} for n in range(5)] + [BOAST]
    ends = ["finished"] * 5 + ["held"]
    lines = [{"chain": "quick", "input": text, "expect": {"end": end}} for text, end in zip(texts, ends, strict=True)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = {**system.settings, ("data_folder",): system.folder / "cli"}
    told = {environment_name(key): value if isinstance(value, str) else str(value) for key, value in settings.items()}
    for key in (("chains",), ("inference", "pools")):
        told[environment_name(key)] = json.dumps(settings[key])
    way = ["--kafka"] if kafka else []
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "callstream", "produce", str(path), "--wait", "--url", system.worker.base, *way),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=system.folder,
        env={"PATH": "/usr/bin:/bin", **told},
    )
    said, _ = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0, said.decode()


@pytest.mark.parametrize("path", ["/v1/tasks/{}", "/v1/tasks/{}/events", "/v1/reviews/{}", "/tasks/{}"])
async def test_a_task_that_nobody_knows_is_not_found(system: System, path: str) -> None:
    async with system.worker.http.get(path.format("nobody-knows-it")) as answer:
        assert answer.status == 404


async def test_every_table_is_listed_with_its_rows(system: System) -> None:
    # given a row in each of them
    task = await held(system)
    assert (await verdict(system, task, verdict="approve"))[0] == 202
    await system.worker.reaches(task, "finished")
    await system.settled()
    key = profile_key(TENANT, "ann")
    await system.producer.send_and_wait("callstream-prepare-profiles-changelog", b'{"tone": "dry"}', key=key)
    keys = {
        "tasks": task_key(TENANT, task),
        "seen": task_key(TENANT, task),
        "receipts": task_key(TENANT, task),
        "reviews": task_key(TENANT, task),
        "profiles": key,
    }
    async with system.worker.http.get("/v1/tables") as answer:
        tables = {table["name"]: table for table in (await answer.json())["tables"]}
    assert set(tables) == {*keys, "latency", "spending", "parked", "timers", "schedules", "paused", "letters", "usage"}
    for table in tables.values():
        assert [part["partition"] for part in table["partitions"]] == [0, 1, 2, 3]
    for name, wanted in keys.items():
        await until(finds(system, name, wanted), f"row {wanted!r} in {name}")
    async with system.worker.http.get("/tables/latency", params={"prefix": "00060|"}) as answer:
        assert answer.status == 200
        assert "copy|stub-writer" in await answer.text()


def finds(system: System, table: str, key: bytes) -> Callable[[], Awaitable[bool]]:
    """Whether a table's page shows the row of a key, in the list and by itself."""

    async def look() -> bool:
        async with system.worker.http.get(f"/tables/{table}", params={"prefix": key.decode()}) as answer:
            assert answer.status == 200, await answer.text()
            if key.decode() not in await answer.text():
                return False
        return True

    return look


async def test_latency_windows_count_each_hop_once(system: System) -> None:
    # given how often each step was counted before
    await system.settled()
    before = await counts(system)
    tasks = [str((await system.worker.submit("quick", MUG))["id"]) for _ in range(5)]
    rows = [await system.worker.reaches(task, "finished") for task in tasks]
    await system.settled()
    # when the events of one of them come again
    events = {}
    for topic in ("intake", "prepare", "moderate", "deliver", "finished"):
        tail = await system.tail(topic)
        (events[topic],) = await tail.find(lambda one: headers(one)["ce_subject"] == tasks[0].encode(), topic)
    for topic, record in events.items():
        await system.put_raw(topic, record.value, record.key, record.headers)
    await system.settled()
    # then each hop has been counted once
    after = await counts(system)
    for step, _ in STEPS:
        assert after[step] - before.get(step, 0) == len(rows), (step, before, after)


async def counts(system: System) -> dict[str, int]:
    """Hops by step over all windows of an hour."""
    async with system.worker.http.get("/v1/latency", params={"window": "1h"}) as answer:
        told = await answer.json()
    place = told["fields"].index("count")
    found: dict[str, int] = {}
    for series in told["series"]:
        found[series["step"]] = found.get(series["step"], 0) + sum(point[place] for point in series["points"])
    return found


async def test_health_tells_what_is_so(system: System) -> None:
    async with system.worker.http.get("/v1/health") as answer:
        assert (answer.status, await answer.json()) == (200, {"live": True, "ready": True, "reasons": []})
    async with system.worker.http.get("/v1/chains") as answer:
        chains = {chain["name"]: chain for chain in (await answer.json())["chains"]}
    assert set(chains) == {"quick", "obedient"}
    assert chains["quick"]["input"]["required"] == ["product_id", "title"]


async def test_the_worker_said_nothing_of_a_bug(system: System) -> None:
    log = system.worker.log()
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:4_000]
