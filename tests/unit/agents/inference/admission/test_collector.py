"""What a scrape shows of the gates."""

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from callstream.agents.inference.admission.collector import GatesCollector
from callstream.agents.inference.admission.fakes import MemorySpending
from callstream.agents.inference.admission.gates import Gates
from callstream.agents.inference.failures import Kind, failed
from callstream.agents.inference.fakes import a_call
from callstream.agents.inference.options import InferenceOptions
from callstream.agents.inference.stack import build_model
from callstream.streams.event import Priority

POOL = {"pool": "copywriter"}
A = {**POOL, "endpoint": "a"}


def endpoint(name: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, "base_url": "http://h/v1", "model": "m", "start_concurrency": 2, "concurrency": 2, **changes}


def options(*endpoints: dict[str, Any], **more: Any) -> InferenceOptions:
    return InferenceOptions.model_validate({"pools": {"copywriter": {"endpoints": endpoints}}, **more})


class Bench:
    """Gates over a table in memory that owns 1 of 4 partitions, with a registry that shows them."""

    def __init__(self, given: InferenceOptions) -> None:
        self.now = 1_000.0
        self.gates = Gates(given, (lambda: self.now, lambda: self.now))
        self.gates.share(MemorySpending(owned=frozenset({0})), 4)
        self.registry = CollectorRegistry()
        self.registry.register(GatesCollector(self.gates))

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"callstream_{name}", labels)

    def ask(self, number: int, **changes: Any) -> "asyncio.Task[Any]":
        request = {"messages": [], "max_tokens": 100}
        asked = a_call(id=f"c{number}", task=f"t{number}", request=request, **changes)
        return asyncio.create_task(self.gates["copywriter"].admit(asked))

    async def sent(self, number: int) -> Any:
        permit = await self.ask(number)
        await permit.place()
        return permit


async def run() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_each_endpoint_shows_what_is_in_flight_its_window_and_whether_it_is_closed() -> None:
    bench = Bench(options(endpoint("a")))
    permits = [await bench.sent(number) for number in range(2)]

    assert bench.value("endpoint_in_flight", **A) == 2
    assert bench.value("endpoint_window", **A) == 2
    assert bench.value("endpoint_closed", **A) == 0

    permits[0].abandoned()
    permits[1].refused(failed(Kind.OVERLOADED, "HTTP 429", 30.0), None)
    assert bench.value("endpoint_in_flight", **A) == 0
    assert bench.value("endpoint_closed", **A) == 1


async def test_a_breaker_is_in_one_of_its_states() -> None:
    bench = Bench(options(endpoint("a"), endpoint("b", weight=0)))
    while (permit := await bench.sent(1)).endpoint == "a":
        permit.refused(failed(Kind.UNREACHABLE, "no connection"), None)

    states = {state: bench.value("endpoint_breaker", **A, state=state) for state in ("closed", "open", "half-open")}
    assert states == {"closed": 0, "open": 1, "half-open": 0}


@pytest.mark.parametrize("tenants", [3, 150])
async def test_what_waits_is_shown_by_lane_and_what_for_by_reason(tenants: int) -> None:
    bench = Bench(options(endpoint("a")))
    for number in range(2):
        await bench.sent(number)
    waiting = [bench.ask(10 + number, tenant=f"tenant-{number % tenants}") for number in range(150)]
    waiting.append(bench.ask(99, priority=Priority.HIGH))
    await run()

    assert bench.value("waiting_calls", **POOL, lane="normal") == 150
    assert bench.value("waiting_calls", **POOL, lane="high") == 1
    assert bench.value("waiting_calls", **POOL, lane="low") == 0
    assert (bench.value("waiting_tokens", **POOL, lane="normal") or 0) >= 15_000
    assert bench.value("waiting_for", **POOL, reason="concurrency") == 1
    assert bench.value("waiting_for", **POOL, reason="tokens") == 0
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert bench.value("waiting_calls", **POOL, lane="normal") == 0


async def test_each_limit_shows_once_what_this_replica_may_spend_and_has_spent() -> None:
    given = options(
        endpoint("a", account="acme", limits={"requests_per_minute": 40}),
        endpoint("b", account="acme", weight=0),
        accounts={"acme": {"tokens_per_minute": 8_000}},
    )
    bench = Bench(given)
    await bench.sent(1)

    of_account = {"account": "acme", "limit": "tokens/minute"}
    assert bench.value("limit_share", **of_account) == 2_000
    assert 100 <= (bench.value("limit_spent", **of_account) or 0) < 200
    own = {"account": "@a", "limit": "requests/minute"}
    assert (bench.value("limit_share", **own), bench.value("limit_spent", **own)) == (10, 1)
    assert bench.value("partitions_share") == 0.25


async def test_no_label_is_a_tenants_or_a_tasks() -> None:
    bench = Bench(options(endpoint("a", limits={"tokens_per_minute": 100})))
    waiting = [bench.ask(number, tenant=f"tenant-{number}") for number in range(20)]
    await run()

    labels = {name for family in bench.registry.collect() for sample in family.samples for name in sample.labels}
    assert labels == {"pool", "endpoint", "state", "lane", "reason", "decision", "account", "limit"}
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_pools_that_come_with_new_settings_are_shown() -> None:
    bench = Bench(options(endpoint("a")))
    bench.gates.reconfigured(options(endpoint("z")))

    assert bench.value("endpoint_window", **A) is None
    assert bench.value("endpoint_window", **POOL, endpoint="z") == 2


async def test_a_models_registry_has_its_gates() -> None:
    registry = CollectorRegistry()
    model = build_model(options(endpoint("a")), registry=registry)

    assert registry.get_sample_value("callstream_endpoint_window", A) == 2
    await model.close()


async def test_decisions_are_counted_by_what_they_were() -> None:
    # given an endpoint of two places, two calls that have them and two that wait
    bench = Bench(options(endpoint("a")))
    permits = [await bench.sent(number) for number in range(2)]
    waiting = [bench.ask(number) for number in (2, 3)]
    await run()
    # then looking once more counts no decision twice, and the second of them has not been decided upon
    bench.gates.pump()
    shown = {name: bench.value("decisions_total", decision=name, **POOL) for name in ("go", "concurrency", "never")}
    assert shown == {"go": 2, "concurrency": 1, "never": 0}
    # and when the first may go, the next one is the one that waits
    permits[0].abandoned()
    await run()
    shown = {name: bench.value("decisions_total", decision=name, **POOL) for name in ("go", "concurrency", "never")}
    assert shown == {"go": 3, "concurrency": 2, "never": 0}
    for one in waiting:
        one.cancel()
    await run()
