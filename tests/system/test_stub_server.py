"""The stub model server over real HTTP: each fault, each limit, and what its witness says of them."""

import asyncio
import json
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from callstream.stub import RunningStub, StubFailedError, running_stub
from callstream.stub.options import Behaviour

pytestmark = pytest.mark.asyncio(loop_scope="module")

FAST = {**Behaviour().model_dump(mode="json"), "median_ms": 1.0}
DEADLINE_SECONDS = 20.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[RunningStub]:
    async with running_stub(seed=7, median_ms=1) as stub:
        yield stub


@pytest_asyncio.fixture(loop_scope="module")
async def stub(shared: RunningStub) -> RunningStub:
    await shared.control(**FAST)
    await shared.reset()
    return shared


@pytest_asyncio.fixture(loop_scope="module")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE_SECONDS)) as session:
        yield session


def ask(text: str = "brand: Kilnrow\ncategory: mug", **more: object) -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


def headers(task: str, attempt: int = 0, tenant: str = "acme") -> dict[str, str]:
    return {"Idempotency-Key": f"{task}/{attempt}", "X-Callstream-Task": task, "X-Callstream-Tenant": tenant}


async def call(
    http: aiohttp.ClientSession, stub: RunningStub, task: str, text: str = "brand: Kilnrow", **more: object
) -> tuple[int, Any]:
    async with http.post(f"{stub.url}/chat/completions", json=ask(text, **more), headers=headers(task)) as answer:
        return answer.status, await answer.json()


async def until(stub: RunningStub, **wanted: int) -> dict[str, Any]:
    """The report as soon as it says what is wanted."""
    end = time.monotonic() + DEADLINE_SECONDS
    while True:
        report = await stub.report()
        if all(report[name] == value for name, value in wanted.items()) or time.monotonic() > end:
            assert {name: report[name] for name in wanted} == wanted
            return report
        await asyncio.sleep(0.02)


async def test_a_completion_is_answered_and_witnessed(stub: RunningStub, http: aiohttp.ClientSession) -> None:
    status, body = await call(http, stub, "t1", "brand: Kilnrow\ncategory: mug\nlanguage: zh")

    assert status == 200
    assert "Kilnrow" in body["choices"][0]["message"]["content"]
    report = await stub.report()
    assert (report["answered"], report["paid_tokens"]) == (1, body["usage"]["total_tokens"])
    assert report["tenants"]["acme"]["tokens"] == body["usage"]["total_tokens"]
    assert (await stub.task("acme", "t1"))["paid"] == 1
    (seen,) = (await stub.calls())["calls"]
    assert (seen["call_id"], seen["task"], seen["tenant"], seen["status"]) == ("t1/0", "t1", "acme", 200)
    assert [row["admitted"] for row in await stub.seconds()] == [1]


async def test_a_stream_comes_in_chunks_with_usage(stub: RunningStub, http: aiohttp.ClientSession) -> None:
    body = ask("stub-say: one two three", stream=True, stream_options={"include_usage": True})

    async with http.post(f"{stub.url}/chat/completions", json=body) as answer:
        assert answer.content_type == "text/event-stream"
        events = [line.removeprefix("data: ") for line in (await answer.text()).split("\n\n") if line]

    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    said = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"])
    assert said == "one two three"
    assert chunks[-1]["usage"]["completion_tokens"] == 4


async def test_models_embeddings_and_moderations(stub: RunningStub, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{stub.url}/models") as answer:
        assert (await answer.json())["object"] == "list"
    async with http.post(f"{stub.url}/embeddings", json={"input": "a mug"}) as answer:
        assert len((await answer.json())["data"][0]["embedding"]) == 256
    async with http.post(f"{stub.url}/moderations", json={"input": "cocaine"}) as answer:
        assert (await answer.json())["results"][0]["flagged"]
    assert (await stub.report())["answered"] == 2


async def test_a_repeated_call_id_is_reported(stub: RunningStub, http: aiohttp.ClientSession) -> None:
    for _ in range(2):
        await call(http, stub, "t1")
    await call(http, stub, "t2")

    report = await stub.report()
    assert (report["duplicates"], report["duplicate_examples"], report["paid_again"]) == (1, ["t1/0"], 1)


async def test_requests_a_minute_are_held(stub: RunningStub, http: aiohttp.ClientSession) -> None:
    await stub.control(rpm=3)

    answers = await asyncio.gather(*(call(http, stub, f"t{n}") for n in range(8)))

    assert sorted(status for status, _ in answers) == [200] * 3 + [429] * 5
    refused = next(body for status, body in answers if status == 429)
    assert refused["error"]["code"] == "rate_limit_exceeded"
    report = await stub.report()
    assert (report["refused"], report["window"]["most_requests"]) == (5, 3)


async def test_tokens_a_minute_are_held_and_told(stub: RunningStub, http: aiohttp.ClientSession) -> None:
    _, body = await call(http, stub, "first")
    tokens = body["usage"]["total_tokens"]
    await stub.control(tpm=2 * tokens)
    await call(http, stub, "second")

    async with http.post(
        f"{stub.url}/chat/completions", json=ask("brand: Kilnrow"), headers=headers("third")
    ) as answer:
        assert answer.status == 429
        assert 55 <= int(answer.headers["Retry-After"]) <= 60
        assert answer.headers["x-ratelimit-limit-tokens"] == str(2 * tokens)
        assert answer.headers["x-ratelimit-remaining-tokens"] == "0"
        assert "per minute" in (await answer.json())["error"]["message"]
    assert (await stub.report())["window"]["most_tokens"] == 2 * tokens


async def test_retry_after_as_a_date(stub: RunningStub, http: aiohttp.ClientSession) -> None:
    await stub.control(retry_after_style="date", retry_after_seconds=30)

    async with http.post(f"{stub.url}/chat/completions", json=ask("stub-fail: 429")) as answer:
        assert answer.status == 429
        when = parsedate_to_datetime(answer.headers["Retry-After"]).timestamp()

    assert 25 < when - time.time() < 32


async def test_concurrency_is_hard_and_the_queue_bounded(stub: RunningStub, http: aiohttp.ClientSession) -> None:
    await stub.control(concurrency=2, queue=1, median_ms=300, sigma=0)

    answers = await asyncio.gather(*(call(http, stub, f"t{n}") for n in range(6)))

    assert sorted(status for status, _ in answers) == [200] * 3 + [429] * 3
    report = await stub.report()
    assert (report["max_concurrency"], report["max_waiting"]) == (2, 1)


async def test_a_failure_can_be_asked_for_the_first_attempts_only(
    stub: RunningStub, http: aiohttp.ClientSession
) -> None:
    statuses = [(await call(http, stub, "t1", "brand: Kilnrow\nstub-fail: 503*2"))[0] for _ in range(3)]

    assert statuses == [503, 503, 200]
    report = await stub.report()
    assert (report["failed"], report["paid"], report["duplicates"]) == ({"503": 2}, 1, 0)


@pytest.mark.parametrize(
    ("kind", "code"), [("context", "context_length_exceeded"), ("policy", "content_policy_violation")]
)
async def test_refusals_for_good(stub: RunningStub, http: aiohttp.ClientSession, kind: str, code: str) -> None:
    status, body = await call(http, stub, "t1", f"stub-fail: {kind}")

    assert (status, body["error"]["code"]) == (400, code)
    assert (await stub.report())["paid"] == 0


async def test_a_hanging_call_holds_its_place_until_the_client_goes(
    stub: RunningStub, http: aiohttp.ClientSession
) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await call(http, stub, "t1", "stub-fail: hang")

    report = await until(stub, abandoned=1, running=0)
    assert (report["paid"], report["failed"]) == (0, {"hang": 1})


async def test_a_reset_comes_in_the_middle_of_the_body_and_is_paid(
    stub: RunningStub, http: aiohttp.ClientSession
) -> None:
    with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientConnectionError)):
        await call(http, stub, "t1", "stub-fail: reset")

    report = await until(stub, paid=1, running=0)
    assert (report["answered"], report["failed"]) == (0, {"reset": 1})


@pytest.mark.parametrize("stream", [False, True])
async def test_garbage_is_no_json(stub: RunningStub, http: aiohttp.ClientSession, stream: bool) -> None:
    async with http.post(f"{stub.url}/chat/completions", json=ask("stub-fail: garbage", stream=stream)) as answer:
        assert answer.status == 200
        raw = await answer.read()

    with pytest.raises(ValueError):  # noqa: PT011  # UnicodeDecodeError or JSONDecodeError: both are what is wanted
        json.loads(raw.removeprefix(b"data: "))
    assert (await stub.report())["paid"] == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_can_drip(stub: RunningStub, http: aiohttp.ClientSession, stream: bool) -> None:
    await stub.control(drip_seconds=0.5)
    started = time.monotonic()

    async with http.post(f"{stub.url}/chat/completions", json=ask("stub-fail: drip", stream=stream)) as answer:
        text = await answer.text()

    assert time.monotonic() - started > 0.4
    assert "[DONE]" in text if stream else json.loads(text)["usage"]


async def test_usage_can_be_missing(stub: RunningStub, http: aiohttp.ClientSession) -> None:
    status, body = await call(http, stub, "t1", "stub-fail: no-usage")

    assert status == 200
    assert "usage" not in body


async def test_faults_come_by_chance_the_same_again(stub: RunningStub, http: aiohttp.ClientSession) -> None:
    await stub.control(fail={"503": 0.5})

    runs = []
    for _ in range(2):
        await stub.reset()
        runs.append([(await call(http, stub, f"t{n}"))[0] for n in range(20)])

    assert runs[0] == runs[1]
    assert set(runs[0]) == {200, 503}


async def test_a_call_goes_on_and_is_paid_after_the_client_has_gone(
    stub: RunningStub, http: aiohttp.ClientSession
) -> None:
    await stub.control(median_ms=500, sigma=0)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await call(http, stub, "t1")

    report = await until(stub, paid=1, running=0)
    assert (report["abandoned"], report["answered"]) == (1, 0)


async def test_a_wrong_control_changes_nothing(stub: RunningStub) -> None:
    with pytest.raises(StubFailedError, match=r"tpm = 0.*speed = 1"):
        await stub.control(tpm=0, speed=1, rpm=5)

    assert (await stub.report())["behaviour"] == FAST


@pytest.mark.parametrize(
    ("raw", "status"),
    [(b"", 400), (b"\xff", 400), (b'{"messages": NaN}', 400), (b"[" * 20_000, 400), (b"x" * (21 * 2**20), 413)],
)
async def test_bad_bodies_get_a_clear_error(
    stub: RunningStub, http: aiohttp.ClientSession, raw: bytes, status: int
) -> None:
    async with http.post(f"{stub.url}/chat/completions", data=raw) as answer:
        assert answer.status == status
        assert (await answer.json())["error"]["message"]
    assert (await call(http, stub, "next"))[0] == 200


async def test_unknown_paths_and_numbers(stub: RunningStub, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{stub.url}/nothing") as answer:
        assert answer.status == 404
    async with http.get(f"{stub.base}/stub/calls?offset=-1") as answer:
        assert answer.status == 400
    async with http.post(f"{stub.url}/chat/completions", json=ask("stub-fail: 504")) as answer:
        assert answer.status == 400
        assert "use one of" in (await answer.json())["error"]["message"]


async def test_a_key_is_asked_for_if_it_is_set(http: aiohttp.ClientSession) -> None:
    async with running_stub(key="secret", median_ms=1) as stub:
        statuses = []
        for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer secret"}):
            async with http.get(f"{stub.url}/models", headers=given) as answer:
                statuses.append(answer.status)

    assert statuses == [401, 401, 200]


async def test_an_idempotent_server_replays_without_paying(http: aiohttp.ClientSession) -> None:
    async with running_stub(idempotent=True, median_ms=100, sigma=0) as stub:
        answers = await asyncio.gather(*(call(http, stub, "t1") for _ in range(3)))
        report = await stub.report()

    assert answers[0] == answers[1] == answers[2]
    assert (report["paid"], report["replayed"], report["duplicates"]) == (1, 2, 0)


async def test_an_idempotent_server_does_not_replay_a_failure(http: aiohttp.ClientSession) -> None:
    async with running_stub(idempotent=True, median_ms=1) as stub:
        statuses = [(await call(http, stub, "t1", "stub-fail: 503*1"))[0] for _ in range(3)]
        report = await stub.report()

    assert statuses == [503, 200, 200]
    assert (report["paid"], report["replayed"]) == (1, 1)


async def test_a_stub_that_cannot_start_says_why(stub: RunningStub) -> None:
    with pytest.raises(StubFailedError, match="rpm"):
        async with running_stub(rpm=0):
            pass
    with pytest.raises(StubFailedError, match="cannot listen on"):
        async with running_stub(port=int(stub.base.rpartition(":")[2])):
            pass


async def test_it_ends_at_once_on_the_way_out_even_with_calls_running(http: aiohttp.ClientSession) -> None:
    async with running_stub(median_ms=60_000) as stub:
        waiting = asyncio.create_task(call(http, stub, "t1"))
        await until(stub, running=1)
        started = time.monotonic()

    assert time.monotonic() - started < 5
    assert not listens(stub.url)
    with pytest.raises(aiohttp.ClientConnectionError):
        await waiting


PARENT = """
import asyncio
from callstream.stub import running_stub

async def main():
    async with running_stub() as stub:
        print(stub.url, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_it_ends_with_its_parent() -> None:
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    url = (await parent.stdout.readline()).decode().strip()
    assert listens(url)

    parent.send_signal(signal.SIGKILL)
    await parent.wait()

    for _ in range(int(DEADLINE_SECONDS / 0.05)):
        if not listens(url):
            break
        await asyncio.sleep(0.05)
    assert not listens(url)


def listens(url: str) -> bool:
    """True if the stub of this URL takes connections."""
    port = int(url.removesuffix("/v1").rpartition(":")[2])
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return False
    return True
