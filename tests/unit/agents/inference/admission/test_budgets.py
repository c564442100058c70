"""Budgets of money: who is told, who goes behind, who waits and until when, and a ceiling that always holds."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from callstream.agents.inference.admission import purse
from callstream.agents.inference.admission.calendar import end_of
from callstream.agents.inference.admission.fakes import MemorySpending
from callstream.agents.inference.admission.gates import Gates
from callstream.agents.inference.admission.permit import Permit
from callstream.agents.inference.call import Call, CallFailed, Reply
from callstream.agents.inference.failures import Kind, failed
from callstream.agents.inference.fakes import a_call
from callstream.agents.inference.options import InferenceOptions
from callstream.streams.event import Json, Priority, Usage
from tests.unit.agents.inference.admission import test_whole as whole

ALL = frozenset(range(4))
START = 1_764_590_400.0
"""Noon of the first day of December 2025."""
HALF_A_DAY = 43_200.0


@pytest.fixture(autouse=True)
def _written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purse, "SETTLED_SECONDS", 0.0)


def options(budgets: Json, **more: Any) -> InferenceOptions:
    """One endpoint where each token costs one."""
    endpoint = {
        "name": "a",
        "base_url": "http://h/v1",
        "model": "m",
        "price_in_per_million": "1000000",
        "price_out_per_million": "1000000",
        "concurrency": 100,
        "start_concurrency": 100,
    }
    return InferenceOptions.model_validate(
        {"currency": "EUR", "pools": {"copywriter": {"endpoints": [endpoint]}}, "budgets": budgets, **more}
    )


def tenant(**limits: Any) -> Json:
    return {"tenants": {"acme": {"day": limits}}}


class Bench:
    """The gate of one pool over a table in memory, and clocks that are set by hand."""

    def __init__(self, given_: InferenceOptions, rows: MemorySpending | None = None) -> None:
        self.now = 1_000.0
        self.gates = Gates(given_, (lambda: self.now, lambda: self.now - 1_000.0 + START))
        self.gates.share(rows or MemorySpending(owned=ALL), 4)
        self.gate = self.gates["copywriter"]
        self.number = 0

    def ask(self, out: int = 100, **changes: Any) -> "asyncio.Task[Permit]":
        self.number += 1
        request = {"messages": [], "max_tokens": out}
        fields = {"id": f"call-{self.number}", "task": f"task-{self.number}", "request": request, "chain": "shop"}
        return asyncio.create_task(self.go(a_call(**{**fields, **changes})))

    async def go(self, call: Call) -> Permit:
        permit = await self.gate.admit(call)
        await permit.place()
        permit.sent = True
        return permit

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.gates.pump()

    def budget(self, number: int = 0) -> Json:
        found: Json = self.gates.report()["budgets"][number]
        return found


async def gone(*tasks: "asyncio.Task[Permit]") -> list[bool]:
    """Which of them may go, once everything has run."""
    for _ in range(30):
        await asyncio.sleep(0)
    return [task.done() for task in tasks]


def took(tokens: int) -> Reply:
    return Reply("A mug.", usage=Usage(tokens_in=tokens, tokens_out=0))


async def test_a_call_that_may_cost_more_than_is_left_waits_for_the_next_day() -> None:
    bench = Bench(options(tenant(ceiling=1_000)))
    asks = [bench.ask(out=400) for _ in range(3)]
    assert await gone(*asks) == [True, True, False]
    told = bench.gate.waiting(10)["acme/task-3"]
    assert (told["reason"], told["waits_for"]) == ("budget", "budget of tenant acme: 1000 EUR a day")
    assert told["resets"] == START + HALF_A_DAY
    for ask in asks[:2]:
        ask.result().answered(took(450))
    assert await gone(asks[2]) == [False]
    bench.later(HALF_A_DAY - 1)
    assert await gone(asks[2]) == [False]
    bench.later(2)
    assert await gone(asks[2]) == [True]


async def test_what_was_reserved_and_not_spent_is_there_for_the_next() -> None:
    bench = Bench(options(tenant(ceiling=1_000)))
    first, second = bench.ask(out=900), bench.ask(out=900)
    assert await gone(first, second) == [True, False]
    first.result().answered(took(20))
    assert await gone(second) == [True]


@pytest.mark.parametrize(
    ("kind", "sent", "goes"),
    [
        (Kind.UNAVAILABLE, True, True),
        (Kind.OVERLOADED, True, True),
        (Kind.UNREACHABLE, False, True),
        (Kind.TIMEOUT, True, False),
        (Kind.UNREACHABLE, True, False),
    ],
)
async def test_a_failed_request_is_spent_if_it_may_have_been_paid(kind: Kind, sent: bool, goes: bool) -> None:
    bench = Bench(options(tenant(ceiling=1_000)))
    first, second = bench.ask(out=900), bench.ask(out=900)
    await gone(first)
    first.result().sent = sent
    first.result().refused(failed(kind, "no"), None)
    bench.later(20)
    assert await gone(second) == [goes]


async def test_nobody_waits_behind_a_tenant_whose_budget_is_used_up() -> None:
    bench = Bench(options(tenant(ceiling=0)))
    stopped = [bench.ask(priority=Priority.HIGH) for _ in range(5)]
    other = bench.ask(tenant="bold", priority=Priority.LOW)
    assert await gone(*stopped, other) == [False] * 5 + [True]
    assert (len(bench.gate), bench.budget()["waiting"], bench.budget()["state"]) == (5, 5, "stopped")
    for ask in stopped:
        ask.cancel()
    await gone(*stopped)
    assert bench.budget()["waiting"] == 0


async def test_a_chain_has_a_budget_of_its_own_beside_its_tenants() -> None:
    both = tenant(ceiling=10_000) | {"chains": {"shop": {"month": {"ceiling": 500}}}}
    bench = Bench(options(both))
    first, second, other = bench.ask(out=300), bench.ask(out=300), bench.ask(out=300, chain="news")
    assert await gone(first, second, other) == [True, False, True]
    told = bench.gate.waiting(10)["acme/task-2"]
    assert (told["waits_for"], told["resets"]) == ("budget of chain shop: 500 EUR a month", end_of("month", START))
    bench.later(40 * 86_400)
    assert await gone(second) == [True]


async def test_of_two_periods_that_is_used_up_which_has_the_least_left() -> None:
    both = {"tenants": {"acme": {"day": {"ceiling": 100}, "month": {"ceiling": 5_000}}}}
    bench = Bench(options(both))
    ask = bench.ask(out=300)
    assert await gone(ask) == [False]
    assert [(one["period"], one["state"], one["waiting"]) for one in bench.gates.report()["budgets"]] == [
        ("day", "stopped", 1),
        ("month", "within", 0),
    ]
    ask.cancel()


async def test_a_deadline_ends_the_wait_for_a_budget() -> None:
    bench = Bench(options(tenant(ceiling=0)))
    ask = bench.ask(deadline=START + 10)
    assert await gone(ask) == [False]
    bench.later(11)
    await gone(ask)
    with pytest.raises(CallFailed, match="deadline"):
        ask.result()


async def test_other_settings_let_go_who_waits() -> None:
    bench = Bench(options(tenant(ceiling=0)))
    ask = bench.ask()
    assert await gone(ask) == [False]
    bench.gates.reconfigured(options(tenant(ceiling=5_000)))
    assert await gone(ask) == [True]
    later = bench.ask(out=4_990)
    assert await gone(later) == [False]
    bench.gates.reconfigured(options({}))
    assert await gone(later) == [True]
    later.result().answered(took(5))


async def test_it_warns_then_slows_down_then_stops() -> None:
    bench = Bench(options(tenant(warn_at=100, slow_at=300, ceiling=500), lanes={"high": 9, "normal": 3, "low": 1}))
    states = [bench.budget()["state"]]
    lanes = []
    for tokens in (150, 200, 150):
        ask = bench.ask(out=100, priority=Priority.HIGH)
        await gone(ask)
        lanes.append(bench.gate._under_way[ask.result()].priority)
        ask.result().answered(took(tokens))
        states.append(bench.budget()["state"])
    assert states == ["within", "warn", "slow", "stopped"]
    # nothing of the task says so: it is the lane at the gate that is another
    assert set(lanes) == {Priority.HIGH}
    told = bench.budget()
    assert (told["budget"], told["period"], told["spent"], told["ceiling"]) == ("tenant acme", "day", "500", "500")


async def test_who_is_slowed_goes_in_the_low_lane() -> None:
    given_ = options(tenant(slow_at=0), lanes={"high": 9, "normal": 3, "low": 1})
    bench = Bench(given_)
    bench.gates.paused = lambda _pool: True
    asks = [bench.ask(priority=Priority.HIGH), bench.ask(tenant="bold", priority=Priority.HIGH)]
    await gone(*asks)
    waiting = {(one["lane"], one["tenant"]) for one in bench.gate.snapshot()["waiting"]}
    assert waiting == {("low", "acme"), ("high", "bold")}
    for ask in asks:
        ask.cancel()


async def test_without_a_ceiling_nothing_stops() -> None:
    bench = Bench(options(tenant(warn_at=1)))
    asks = [bench.ask(out=10_000) for _ in range(20)]
    assert all(await gone(*asks))
    assert (bench.budget()["state"], bench.budget()["share"], bench.budget()["ceiling"]) == ("warn", None, None)


async def test_the_next_owner_of_a_partition_goes_on_with_what_was_spent() -> None:
    log: dict[tuple[int, bytes], bytes] = {}
    given_ = options(tenant(ceiling=1_000))
    first = Bench(given_, MemorySpending(log, ALL))
    ask = first.ask(out=900)
    assert await gone(ask) == [True]
    # the process is killed here, and its call may have been paid
    second = Bench(given_, MemorySpending(log, ALL))
    again = second.ask(out=900)
    assert await gone(again) == [False]
    assert Decimal(second.budget()["spent"]) >= 900
    second.later(HALF_A_DAY + 5)
    assert await gone(again) == [True]


async def test_each_replica_has_its_partitions_part() -> None:
    bench = Bench(options(tenant(ceiling=1_000, warn_at=400)), MemorySpending(owned=frozenset([0, 1])))
    assert bench.budget()["share"] == "500"
    first, second, third = bench.ask(out=200), bench.ask(out=200), bench.ask(out=200)
    assert await gone(first, second, third) == [True, True, False]
    assert bench.budget()["state"] == "stopped"


async def test_a_service_without_shares_refuses_what_has_a_budget() -> None:
    gates = Gates(options(tenant(ceiling=1_000)), (lambda: 1.0, lambda: START))
    with pytest.raises(CallFailed, match="service infer"):
        await gates["copywriter"].admit(a_call())


def test_days_and_months_end_by_the_calendar() -> None:
    assert end_of("day", START) == START + HALF_A_DAY
    assert end_of("month", START) == 1_767_225_600.0
    assert end_of("month", end_of("month", START)) == 1_769_904_000.0


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"budgets": tenant(ceiling=-1)}, "ceiling"),
        ({"budgets": tenant(ceiling=True)}, "ceiling"),
        ({"budgets": tenant(ceiling="nan")}, "ceiling"),
        ({"budgets": tenant()}, "none of warn_at, slow_at and ceiling"),
        ({"budgets": tenant(warn_at=5, ceiling=2)}, "warn_at \\(5\\) is more than ceiling \\(2\\)"),
        ({"budgets": tenant(slow_at=3, warn_at=5)}, "warn_at \\(5\\) is more than slow_at \\(3\\)"),
        ({"budgets": {"tenants": {"acme": {"week": {"ceiling": 1}}}}}, "week"),
        (
            {"budgets": {"chains": {"shop": {"currency": "CNY", "day": {"ceiling": 1}}}}},
            "budgets.chains.shop is in CNY",
        ),
        ({"currency": "euro"}, "currency"),
        (
            {
                "pools": {
                    "p": {"endpoints": [{"name": "a", "base_url": "http://h/v1", "model": "m", "currency": "CNY"}]}
                }
            },
            "endpoint a has its prices in CNY, and inference.currency is USD",
        ),
    ],
)
def test_budgets_that_make_no_sense_are_refused(given_: Json, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        InferenceOptions.model_validate(given_)


CEILING = 600
WAYS = st.builds(
    whole.Way,
    st.just("a"),
    st.sampled_from([*Priority]),
    st.sampled_from([1, 30, 100]),
    st.sampled_from([1.0, 1.0, 0.1]),
    st.sampled_from([0.0, 0.0, 0.3, 5.0]),
    st.just(0.0),
    st.sampled_from([False, False, True]),
)
STEPS = st.one_of(
    st.tuples(st.just("arrive"), whole.WHO, st.sampled_from([1, 6, 12]), WAYS),
    st.tuples(st.just("arrive"), whole.WHO, st.sampled_from([1, 6, 12]), WAYS),
    st.tuples(st.just("rebalance"), whole.PAUSES, whole.OWNERS),
    st.tuples(st.just("stop"), whole.WHO, whole.PAUSES, whole.OWNERS),
    st.tuples(st.just("go on"), whole.WHO),
    st.tuples(st.just("kill"), whole.WHO, whole.PAUSES, whole.OWNERS),
)


def a_world() -> "whole.World":
    budget = {"tenants": {"a": {"month": {"ceiling": CEILING}}}}
    return whole.World(options(budget, window_margin_seconds=whole.MARGIN), (0.0, 0.0, 0.0))


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, min_size=3, max_size=25))
def test_a_ceiling_holds_over_replicas_kills_and_rebalances(steps: list[tuple[Any, ...]]) -> None:
    """No call takes more than its reservation here, so what reached the endpoint is never above the ceiling."""

    async def live() -> None:
        world = a_world()
        for step in steps:
            await world.do(step)
        await world.quiet(120.0)
        assert sum(one.tokens for one in world.judge.seen) <= CEILING
        await world.close()

    whole.run(live())


def test_where_nothing_goes_wrong_a_budget_is_spent_to_less_than_a_call_of_each_replica() -> None:
    async def live() -> None:
        world = a_world()
        for _ in range(20):
            for who in range(3):
                await world.do(("arrive", who, 1, whole.Way("a", out=30)))
            await asyncio.sleep(1.0)
        spent = sum(one.tokens for one in world.judge.seen)
        assert CEILING - 3 * (30 + whole.MOST_PROMPT) - 30 <= spent <= CEILING
        await world.close()

    whole.run(live())
