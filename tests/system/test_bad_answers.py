"""What a bad model server answers, through all layers and real HTTP: what becomes of the call and of the limits."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from callstream.agents.inference.admission.fakes import MemorySpending
from callstream.agents.inference.answer import MOST_TOKENS
from callstream.agents.inference.call import CallFailed
from callstream.agents.inference.fakes import a_call
from callstream.agents.inference.options import InferenceOptions
from callstream.agents.inference.receipt import FROM_RECEIPT
from callstream.agents.inference.retry_after import MOST_SECONDS
from callstream.agents.inference.stack import ModelStack, build_model
from callstream.streams.fakes import MemoryCell
from tests.support.rude import GOOD, response, rude

PARTITIONS = 4
RESERVED_OUT = 100
REQUEST = {"messages": [{"role": "user", "content": "Brand: Kilnrow"}], "max_tokens": RESERVED_OUT}


@asynccontextmanager
async def stack(url: str) -> AsyncIterator[ModelStack]:
    """A pool of one endpoint with a limit of tokens, all of it this replica's; a failed call is not sent again."""
    endpoint = {"name": "rude", "base_url": url, "model": "writer", "limits": {"tokens_per_minute": 10_000}}
    built = build_model(
        InferenceOptions.model_validate({"pools": {"copywriter": {"endpoints": [endpoint]}}, "retry": {"attempts": 1}})
    )
    built.share(MemorySpending(owned=frozenset(range(PARTITIONS))), PARTITIONS)
    try:
        yield built
    finally:
        await built.close()


def shown(model: ModelStack) -> dict[str, Any]:
    """The endpoint as `GET /v1/pools` shows it."""
    endpoint: dict[str, Any] = model.gates["copywriter"].snapshot()["endpoints"][0]
    return endpoint


def spent(model: ModelStack) -> int:
    (limit,) = shown(model)["limits"]
    return int(limit["spent"])


def completion(**changes: Any) -> bytes:
    return json.dumps({**json.loads(GOOD), **changes}).encode()


@pytest.mark.parametrize(
    ("usage", "noted"),
    [
        (None, "no usage"),
        ({"prompt_tokens": 7}, "no completion_tokens"),
        ({"prompt_tokens": 7, "completion_tokens": -3}, "completion_tokens = -3"),
        ({"prompt_tokens": -7, "completion_tokens": 3}, "prompt_tokens = -7"),
        ({"prompt_tokens": 7, "completion_tokens": 10**18}, "completion_tokens = 1000000000000000000"),
        ({"prompt_tokens": 7, "completion_tokens": 1e18}, "completion_tokens = 1e+18"),
        ({"prompt_tokens": MOST_TOKENS + 1, "completion_tokens": 3}, f"prompt_tokens = {MOST_TOKENS + 1}"),
    ],
)
async def test_a_usage_that_cannot_be_leaves_the_reservation_spent(usage: Any, noted: str) -> None:
    # given a call that is answered with such a usage
    cell = MemoryCell()
    async with rude(response("200 OK", completion(usage=usage))) as server, stack(server.url) as model:
        reply = await model(a_call(request=REQUEST, cell=cell))
        # then it is an answer, the usage counts for nothing, and the limit keeps what was reserved
        assert (reply.text, reply.usage.tokens_in, reply.usage.tokens_out) == ("ok", 0, 0)
        assert noted in "; ".join(reply.notes)
        assert RESERVED_OUT < spent(model) < 2 * RESERVED_OUT
        # and the receipt of it can be read again
        again = await model(a_call(request=REQUEST, cell=MemoryCell(cell.value)))
    assert again.notes == (*reply.notes, FROM_RECEIPT)
    assert len(server.requests) == 1


async def test_an_integer_without_end_is_a_broken_reply() -> None:
    body = GOOD.replace(b'"completion_tokens":1', b'"completion_tokens":1' + b"0" * 100_000)
    async with rude(response("200 OK", body)) as server, stack(server.url) as model:
        with pytest.raises(CallFailed, match="an integer of 100,001 digits") as failure:
            await model(a_call(request=REQUEST))
    assert failure.value.kind == "broken-reply"


async def test_the_answer_of_another_model_is_taken_and_noted() -> None:
    body = completion(model="cheap\x1b[31m" + "x" * 5_000)
    async with rude(response("200 OK", body)) as server, stack(server.url) as model:
        reply = await model(a_call(request=REQUEST))
        assert reply.usage.model == "writer"
        (note,) = reply.notes
        assert note.startswith("asked for model 'writer', answered as 'cheap")
        assert len(note) < 200
        assert note.isprintable()
        assert spent(model) == 2


@pytest.mark.parametrize(
    "answer",
    [
        response("200 OK", b"<html>502 Bad Gateway</html>"),
        response("200 OK", b"\x00\xff" * 1000),
        response("200 OK", b'{"choices": []}'),
        response("200 OK", b"[" * 100_000),
        response("200 OK", GOOD, "X-Long: " + "x" * 1_000_000),
        b"HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n" + b"x" * 1000,
    ],
    ids=["html", "bytes", "no choices", "nested", "1 MB of headers", "10 GB of body"],
)
async def test_what_is_no_answer_fails_the_call_and_stays_spent(answer: bytes) -> None:
    async with rude(answer) as server, stack(server.url) as model:
        with pytest.raises(CallFailed) as failure:
            await model(a_call(request=REQUEST))
        # It may have been paid for all the same.
        assert (failure.value.kind, failure.value.retryable) == ("broken-reply", True)
        assert len(failure.value.message) < 200
        assert RESERVED_OUT < spent(model) < 2 * RESERVED_OUT
        assert shown(model)["in_flight"] == 0


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("-1", 0.0, 1.0),
        ("tomorrow", 0.0, 1.0),
        ("nan", 0.0, 1.0),
        ("x" * 4_000, 0.0, 1.0),
        ("99999999", MOST_SECONDS - 60, MOST_SECONDS),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MOST_SECONDS - 60, MOST_SECONDS),
    ],
)
async def test_an_endpoint_is_left_alone_for_an_hour_at_most_whatever_retry_after_says(
    header: str, least: float, most: float
) -> None:
    refusal = response("429 Slow Down", b"{}", f"Retry-After: {header}")
    async with rude(refusal) as server, stack(server.url) as model:
        waiting = asyncio.ensure_future(model(a_call(request=REQUEST)))
        closed = await until_closed(model)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert least < closed <= most
        # What was turned away was not paid.
        assert spent(model) == 0


async def test_a_call_that_would_wait_past_its_deadline_for_retry_after_is_told_so() -> None:
    refusal = response("429 Slow Down", b"{}", "Retry-After: 99999999")
    async with rude(refusal) as server, stack(server.url) as model:
        with pytest.raises(CallFailed, match=r"wait .* s more for retry-after of rude, past the task's deadline"):
            await model(a_call(request=REQUEST, deadline=time.time() + 600))


async def until_closed(model: ModelStack) -> float:
    """Wait for the endpoint's refusal; gives for how many seconds it is closed."""
    async with asyncio.timeout(10):
        while not (closed := float(shown(model)["closed_seconds"])):  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.005)
    return closed
