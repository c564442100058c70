"""Model calls over real HTTP: against the stub model server, which is the witness, and against a rude server."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from callstream.agents.inference.admission.ratelimit import Told
from callstream.agents.inference.call import Call, CallFailed
from callstream.agents.inference.client import Client
from callstream.agents.inference.fakes import a_call
from callstream.agents.inference.options import InferenceOptions
from callstream.agents.inference.receipt import FROM_RECEIPT
from callstream.agents.inference.receipts_state import CALLS
from callstream.agents.inference.stack import ModelStack, build_model
from callstream.streams.fakes import MemoryCell
from callstream.stub.process import RunningStub, running_stub
from tests.support.rude import GOOD, Rude, response, rude

NOW = 1_800_000_000.0


MANNERS = {"median_ms": 20, "concurrency": 1000, "retry_after_style": "seconds", "retry_after_seconds": 0}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_stub() -> AsyncIterator[RunningStub]:
    """A stub that asks for a key, for all tests of this file."""
    async with running_stub(sigma=0, key="sk-of-the-stub") as running:
        yield running


@pytest_asyncio.fixture
async def stub(one_stub: RunningStub) -> RunningStub:
    """The stub as if it had just been started."""
    await one_stub.control(**MANNERS)
    await one_stub.reset()
    return one_stub


def options(url: str, endpoint: dict[str, Any] | None = None, **changes: Any) -> InferenceOptions:
    """One pool of one endpoint; pauses are short."""
    only = {
        "name": "stub",
        "base_url": url,
        "model": "stub-writer",
        "api_key": "sk-of-the-stub",
        "timeout_seconds": 5,
        **(endpoint or {}),
    }
    retry = {"attempts": 3, "first_pause_seconds": 0.01, **changes.pop("retry", {})}
    return InferenceOptions.model_validate({"pools": {"copywriter": {"endpoints": [only]}}, "retry": retry, **changes})


@asynccontextmanager
async def stack(given: InferenceOptions, **parts: Any) -> AsyncIterator[ModelStack]:
    built = build_model(given, **parts)
    try:
        yield built
    finally:
        await built.close()


def ask(text: str = "Brand: Kilnrow\nCategory: mug", **changes: Any) -> Call:
    return a_call(request={"messages": [{"role": "user", "content": text}]}, **changes)


async def failure_of(model: ModelStack | Client, call: Call) -> CallFailed:
    with pytest.raises(CallFailed) as failure:
        await model(call)
    return failure.value


async def test_a_call_is_answered_and_the_witness_knows_whose_it_was(stub: RunningStub) -> None:
    async with stack(options(stub.url)) as model:
        reply = await model(ask())

    seen = (await stub.calls())["calls"][0]
    assert "Kilnrow" in reply.text
    assert (reply.usage.calls, reply.usage.repeated, reply.usage.endpoint) == (1, 0, "stub")
    assert reply.usage.tokens_in + reply.usage.tokens_out == seen["tokens"]
    assert (seen["call_id"], seen["task"], seen["tenant"]) == (ask().id, "mug-1", "acme")


@pytest.mark.parametrize("style", ["seconds", "date", "none"])
async def test_429_is_tried_again_in_each_style(stub: RunningStub, style: str) -> None:
    await stub.control(retry_after_style=style)
    async with stack(options(stub.url)) as model:
        reply = await model(ask("stub-fail: 429*2"))

    # What was turned away was no call, no attempt and no failure.
    assert (reply.usage.calls, reply.usage.repeated) == (1, 0)
    assert "turned away 2 times" in reply.notes[-1]
    seen = await stub.task("acme", "mug-1")
    assert (seen["calls"], seen["paid"]) == (3, 1)


async def test_the_wait_that_the_endpoint_asks_for_is_waited(stub: RunningStub) -> None:
    await stub.control(retry_after_seconds=2)
    async with stack(options(stub.url)) as model:
        await model(ask("stub-fail: 429*1"))

    refused, answered = (await stub.calls())["calls"]
    assert (refused["status"], answered["status"]) == (429, 200)
    assert answered["at_unix"] - refused["at_unix"] >= 1.9


async def test_503_is_tried_again_and_given_up_in_the_end(stub: RunningStub) -> None:
    async with stack(options(stub.url)) as model:
        assert (await model(ask("stub-fail: 503*2", task="t1", id="1"))).usage.calls == 3
        failure = await failure_of(model, ask("stub-fail: 503", task="t2", id="2"))

    assert (failure.kind, failure.retryable) == ("unavailable", True)
    assert (await stub.task("acme", "t2"))["calls"] == 3


async def test_a_hanging_endpoint_is_left_after_its_time(stub: RunningStub) -> None:
    async with stack(options(stub.url, {"timeout_seconds": 0.3}, retry={"attempts": 2})) as model:
        reply = await model(ask("stub-fail: hang*1", task="t1", id="1"))
        failure = await failure_of(model, ask("stub-fail: hang", task="t2", id="2", timeout_seconds=0.2))

    assert reply.usage.calls == 2
    assert (failure.kind, failure.message) == ("timeout", "no answer within the step's 0.2 s")


async def test_a_dripping_answer_is_left_after_its_time(stub: RunningStub) -> None:
    async with stack(options(stub.url, {"timeout_seconds": 0.5}, retry={"attempts": 1})) as model:
        failure = await failure_of(model, ask("stub-fail: drip"))

    assert failure.kind == "timeout"


@pytest.mark.parametrize("fault", ["reset", "garbage"])
async def test_a_broken_answer_is_tried_again(stub: RunningStub, fault: str) -> None:
    async with stack(options(stub.url, retry={"attempts": 2})) as model:
        reply = await model(ask(f"stub-fail: {fault}*1", task="t1", id="1"))
        failure = await failure_of(model, ask(f"stub-fail: {fault}", task="t2", id="2"))

    assert reply.usage.calls == 2
    assert (failure.kind, failure.retryable) == ("broken-reply", True)


@pytest.mark.parametrize(("fault", "kind"), [("context", "context-too-long"), ("policy", "refused-by-policy")])
async def test_a_refusal_is_not_tried_again(stub: RunningStub, fault: str, kind: str) -> None:
    async with stack(options(stub.url)) as model:
        failure = await failure_of(model, ask(f"stub-fail: {fault}"))

    assert (failure.kind, failure.retryable) == (kind, False)
    assert (await stub.task("acme", "mug-1"))["calls"] == 1


async def test_a_wrong_key_is_refused_and_not_shown(stub: RunningStub) -> None:
    async with stack(options(stub.url, {"api_key": "sk-another-one"})) as model:
        failure = await failure_of(model, ask())

    assert failure.kind == "refused"
    assert "invalid_api_key" in failure.message
    assert "sk-another-one" not in failure.message


async def test_an_answer_without_usage_is_taken_and_noted(stub: RunningStub) -> None:
    async with stack(options(stub.url)) as model:
        reply = await model(ask("stub-fail: no-usage"))

    assert (reply.usage.tokens_in, reply.usage.tokens_out) == (0, 0)
    assert reply.notes == ("the endpoint reported no usage",)


async def test_an_endpoint_that_is_not_there_is_unreachable() -> None:
    async with stack(options("http://127.0.0.1:9/v1", retry={"attempts": 2})) as model:
        failure = await failure_of(model, ask())

    assert (failure.kind, failure.retryable) == ("unreachable", True)


async def test_the_endpoints_limit_is_kept_and_all_calls_come_through(stub: RunningStub) -> None:
    await stub.control(concurrency=4)
    registry = CollectorRegistry()
    async with stack(options(stub.url, {"concurrency": 4}), registry=registry) as model:
        calls = [ask(id=f"c{number}", task=f"t{number}", cell=MemoryCell()) for number in range(40)]
        await asyncio.gather(*(model(call) for call in calls))

    report = await stub.report()
    assert (report["answered"], report["refused"], report["duplicates"]) == (40, 0, 0)
    labels = {"pool": "copywriter", "endpoint": "stub", "outcome": "answered"}
    assert registry.get_sample_value("callstream_model_calls_total", labels) == 40


async def test_a_redelivered_event_with_an_answered_receipt_makes_no_call(stub: RunningStub) -> None:
    cell = MemoryCell()
    async with stack(options(stub.url)) as first:
        reply = await first(ask(cell=cell))
    async with stack(options(stub.url)) as second:
        again = await second(ask(cell=MemoryCell(cell.value)))

    assert (again.text, again.usage, again.notes) == (reply.text, reply.usage, (FROM_RECEIPT,))
    assert (await stub.report())["calls"] == 1


async def test_a_crash_before_the_answer_is_counted_and_sends_the_same_key(stub: RunningStub) -> None:
    await stub.control(median_ms=2000)
    cell = MemoryCell()
    crashed = build_model(options(stub.url))
    lost = asyncio.ensure_future(crashed(ask(cell=cell)))
    await seen(stub, 1)
    log_at_the_crash = MemoryCell(cell.value)
    await crashed.close()
    await asyncio.gather(lost, return_exceptions=True)

    await stub.control(median_ms=20)
    async with stack(options(stub.url)) as successor:
        reply = await successor(ask(cell=log_at_the_crash))

    assert (reply.usage.repeated, reply.usage.calls) == (1, 2)
    assert "repeated once" in reply.notes[0]
    report = await stub.report()
    assert (report["calls"], report["call_ids"]) == (2, 1)


async def test_a_call_joined_after_its_caller_was_cancelled_is_paid_once(stub: RunningStub) -> None:
    await stub.control(median_ms=500)
    cell = MemoryCell()
    async with stack(options(stub.url)) as model:
        revoked = asyncio.ensure_future(model(ask(cell=cell)))
        await seen(stub, 1)
        revoked.cancel()
        await asyncio.gather(revoked, return_exceptions=True)
        cell.lose()
        assert model.snapshot().unclaimed == 1

        redelivered = MemoryCell(cell.value)
        reply = await model(ask(cell=redelivered))

    assert (reply.usage.repeated, reply.usage.calls) == (0, 1)
    assert redelivered.value is not None
    assert redelivered.value[CALLS][ask().id]["state"] == "answered"
    report = await stub.report()
    assert (report["paid"], report["calls"]) == (1, 1)


async def seen(stub: RunningStub, calls: int) -> None:
    """Until the stub has so many calls, answered or not."""
    async with asyncio.timeout(10):
        while (await stub.report())["calls"] < calls:  # noqa: ASYNC110  # the stub is another process
            await asyncio.sleep(0.02)


async def outcome(server: Rude, **changes: Any) -> CallFailed:
    client = Client(options(server.url, **changes), lambda: NOW)
    try:
        return await failure_of(client, ask(endpoint="stub"))
    finally:
        await client.close()


async def test_the_request_says_who_asks_and_nothing_is_compressed() -> None:
    parent = f"00-{'1' * 32}-{'2' * 16}-01"
    async with rude(response("200 OK", GOOD)) as server:
        client = Client(options(server.url, {"headers": {"X-Extra": "mine"}}), lambda: NOW)
        reply = await client(ask(endpoint="stub", traceparent=parent))
        await client.close()

    head = server.requests[0].decode().lower()
    assert reply.text == "ok"
    assert head.startswith("post /v1/chat/completions http/1.1")
    for line in (
        "authorization: bearer sk-of-the-stub",
        "idempotency-key: 4:acme:mug-1/3/call-1",
        "x-callstream-task: mug-1",
        "x-callstream-tenant: acme",
        f"traceparent: {parent}",
        "x-extra: mine",
        "accept-encoding: identity",
        "content-type: application/json",
    ):
        assert f"\r\n{line}\r\n" in head


async def test_an_endless_answer_is_cut_off() -> None:
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    async with rude(head, b"x" * 65536, times=160_000) as server:
        failure = await outcome(server)

    assert (failure.kind, failure.message) == ("broken-reply", "the answer is larger than 8,388,608 bytes")
    assert server.sent < 64 * 2**20


async def test_an_answer_that_announces_too_much_is_not_read() -> None:
    async with rude(b"HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n" + b"x" * 1000) as server:
        assert (await outcome(server)).kind == "broken-reply"


async def test_an_endless_error_is_an_error_still() -> None:
    head = b"HTTP/1.1 503 Busy\r\nConnection: close\r\n\r\n"
    async with rude(head, b"x" * 65536, times=160_000) as server:
        failure = await outcome(server)

    assert (failure.kind, failure.message) == ("unavailable", "HTTP 503")
    assert server.sent < 64 * 2**20


@pytest.mark.parametrize(
    "answer",
    [
        response("200 OK", GOOD, "X-Long: " + "x" * 1_000_000),
        response("200 OK", GOOD, *(f"X-{number}: 1" for number in range(10_000))),
        response("200 OK", GOOD, "Content-Encoding: gzip"),
        response("200 OK", GOOD)[:-20],
        response("204 No Content"),
        response("999 What", GOOD),
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nno\r\n",
    ],
)
async def test_an_answer_that_is_no_http_of_ours_is_a_broken_reply(answer: bytes) -> None:
    async with rude(answer) as server:
        failure = await outcome(server)

    assert failure.kind == "broken-reply"
    assert len(failure.message) < 200


async def test_a_connection_that_ends_without_an_answer_is_unreachable() -> None:
    async with rude(b"") as server:
        assert (await outcome(server)).kind == "unreachable"


async def test_redirects_are_not_followed() -> None:
    async with (
        rude(response("200 OK", GOOD)) as elsewhere,
        rude(response("307 Elsewhere", b"", f"Location: {elsewhere.url}/chat/completions")) as server,
    ):
        failure = await outcome(server)

    assert (failure.kind, failure.retryable) == ("refused", False)
    assert elsewhere.requests == []


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("-1", None),
        ("tomorrow", None),
        ("99999999", 3600.0),
        ("2", 2.0),
        (formatdate(NOW + 30, usegmt=True), 30.0),
        (formatdate(NOW - 30, usegmt=True), 0.0),
    ],
)
async def test_whatever_retry_after_says_is_bounded(header: str, seconds: float | None) -> None:
    async with rude(response("429 Slow Down", b"{}", f"Retry-After: {header}")) as server:
        failure = await outcome(server)

    assert (failure.kind, failure.after_seconds) == ("overloaded", seconds)


@pytest.mark.parametrize("reset", ["30s", "30", f"{NOW + 30:.0f}", "2027-01-15T08:00:30Z"])
async def test_what_an_endpoint_says_of_its_limits_is_kept_however_it_says_when(reset: str) -> None:
    headers = "x-ratelimit-remaining-tokens: 0", f"x-ratelimit-reset-tokens: {reset}"
    async with rude(response("429 Slow Down", b"{}", *headers)) as server:
        client = Client(options(server.url), lambda: NOW)
        await failure_of(client, ask(endpoint="stub"))
        await client.close()

    assert client.told["stub"] == Told(tokens_left=0, tokens_reset_seconds=30.0)


async def test_what_cannot_be_json_is_refused_before_it_is_sent() -> None:
    async with rude(response("200 OK", GOOD)) as server:
        client = Client(options(server.url), lambda: NOW)
        failure = await failure_of(client, a_call(endpoint="stub", request={"temperature": float("nan")}))
        await client.close()

    assert (failure.kind, failure.retryable, server.requests) == ("refused", False, [])


async def test_embeddings_and_moderations_are_calls_like_others(stub: RunningStub) -> None:
    async with stack(options(stub.url)) as model:
        near = await model(a_call(id="e-1", api="embeddings", request={"input": ["a blue mug", "a blue cup"]}))
        judged = await model(a_call(id="m-1", api="moderations", request={"input": ["a mug", "a bomb"]}))

    one, other = json.loads(near.text)["embeddings"]
    assert len(one) == len(other) > 8
    assert near.usage.tokens_in > 0
    assert [result["flagged"] for result in json.loads(judged.text)["results"]] == [False, True]
    assert json.loads(judged.text)["results"][1]["categories"] == ["violence"]
    assert (near.usage.calls, judged.usage.calls) == (1, 1)
