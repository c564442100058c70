"""A slow request is asked a second time, over real HTTP: what the witness sees, what the task counts, what is spent."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from callstream.agents.inference.admission.fakes import MemorySpending
from callstream.agents.inference.call import Call
from callstream.agents.inference.fakes import a_call
from callstream.agents.inference.hedge import LEAST_CALLS
from callstream.agents.inference.options import InferenceOptions
from callstream.agents.inference.receipts_state import CALLS
from callstream.agents.inference.stack import ModelStack, build_model
from callstream.streams.fakes import MemoryCell
from callstream.stub.process import running_stub

OUT = 300
POOL = "copywriter"


@asynccontextmanager
async def stack(registry: CollectorRegistry, *endpoints: dict[str, Any], **more: Any) -> AsyncIterator[ModelStack]:
    limits = {"tokens_per_minute": 1_000_000}
    made = [{"model": "stub-writer", "api_key": "sk-1", "limits": limits, **endpoint} for endpoint in endpoints]
    pool = {"endpoints": made, "hedge_after_quantile": 0.95, "most_hedged": 0.5, **more}
    built = build_model(InferenceOptions.model_validate({"pools": {POOL: pool}}), registry=registry)
    built.share(MemorySpending(owned=frozenset({0})), 1)
    try:
        yield built
    finally:
        await built.close()


def ask(number: int, text: str = "", **changes: Any) -> Call:
    request = {"messages": [{"role": "user", "content": f"{text}\nBrand: Kilnrow"}], "max_tokens": OUT}
    return a_call(**{"id": f"c{number}", "task": f"t{number}", "request": request, "cell": MemoryCell(), **changes})


def spent(model: ModelStack) -> dict[str, int]:
    """What is spent of each endpoint's limit."""
    endpoints = model.gates[POOL].snapshot()["endpoints"]
    return {one["endpoint"]: one["limits"][0]["spent"] for one in endpoints}


def hedges(registry: CollectorRegistry, outcome: str) -> float:
    found = registry.get_sample_value("callstream_model_hedges_total", {"pool": POOL, "outcome": outcome})
    return found or 0


def all_hedges(registry: CollectorRegistry) -> list[float]:
    """How many were started, won and lost."""
    return [hedges(registry, outcome) for outcome in ("started", "won", "lost")]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


async def warm(model: ModelStack) -> None:
    """As many quick calls as it takes to know what is slow."""
    for number in range(LEAST_CALLS + 1):
        await model(ask(number))


async def test_a_call_that_hangs_is_answered_by_the_other_endpoint(registry: CollectorRegistry) -> None:
    async with running_stub(sigma=0, median_ms=20, key="sk-1") as stuck, running_stub(sigma=0, median_ms=20) as other:
        endpoints = {"name": "stuck", "base_url": stuck.url}, {"name": "other", "base_url": other.url, "weight": 0}
        async with stack(registry, *endpoints) as model:
            # given a pool that is known to answer quickly
            await warm(model)
            before, hedged = spent(model), all_hedges(registry)
            # when its endpoint hangs in a call
            cell = MemoryCell()
            await stuck.control(median_ms=30_000)
            reply = await model(ask(99, cell=cell))
            # then the other one has answered it, with the same key, and the task counts both
            assert (reply.usage.endpoint, reply.usage.calls, reply.usage.repeated) == ("other", 2, 0)
            assert "asked twice" in reply.notes[-1]
            assert cell.value is not None
            assert cell.value[CALLS]["c99"]["usage"]["calls"] == 2
            assert [(await stub.task("acme", "t99"))["calls"] for stub in (stuck, other)] == [1, 1]
            assert (await other.calls())["calls"][-1]["call_id"] == "c99"
            # and what was reserved for the one that hangs stays spent, and nothing is in flight
            assert spent(model)["stuck"] - before["stuck"] > OUT
            assert [one["in_flight"] for one in model.gates[POOL].snapshot()["endpoints"]] == [0, 0]
    more = [now - then for now, then in zip(all_hedges(registry), hedged, strict=True)]
    assert more == [1, 1, 0]


async def test_a_pool_of_one_endpoint_asks_it_again(registry: CollectorRegistry) -> None:
    async with (
        running_stub(sigma=0, median_ms=20, key="sk-1") as stub,
        stack(registry, {"name": "only", "base_url": stub.url}) as model,
    ):
        await warm(model)
        reply = await model(ask(99, "stub-fail: hang*1"))

        assert (reply.usage.endpoint, reply.usage.calls) == ("only", 2)
        assert (await stub.task("acme", "t99"))["calls"] == 2
        assert hedges(registry, "won") == 1


async def test_without_a_budget_the_call_waits(registry: CollectorRegistry) -> None:
    async with (
        running_stub(sigma=0, median_ms=20, key="sk-1") as stub,
        stack(registry, {"name": "only", "base_url": stub.url, "timeout_seconds": 1}, most_hedged=0.01) as model,
    ):
        await warm(model)
        reply = await model(ask(99, "stub-fail: hang*1"))

        # Its time-out ended the first request, and it was tried again.
        assert reply.usage.calls == 2
        assert "asked twice" not in "".join(reply.notes)
        assert hedges(registry, "started") == 0
