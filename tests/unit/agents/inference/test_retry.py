from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from callstream.agents.inference.call import Call, CallFailed, Layer, Model, Reply
from callstream.agents.inference.endpoint_budgets import EndpointBudgets
from callstream.agents.inference.fakes import ScriptedModel, a_call
from callstream.agents.inference.options import EndpointOptions, PoolOptions, RetryOptions
from callstream.agents.inference.retry import Sources, pause_seconds, retry
from callstream.streams.event import Usage

LATER = CallFailed("overloaded", "later")
NEVER = CallFailed("refused", "never", retryable=False)
REPLY = Reply("A mug.", usage=Usage(calls=1))


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    @property
    def sources(self) -> Sources:
        return Sources(clock=lambda: self.now, chance=lambda: 0.5, sleep=self.sleep)


def options(**changes: Any) -> RetryOptions:
    return RetryOptions.model_validate({"attempts": 4, "first_pause_seconds": 1, "longest_pause_seconds": 3, **changes})


def a_retry(time: Time, pools: dict[str, PoolOptions] | None = None, **changes: Any) -> Layer:
    given_options = options(**changes)
    budgets = EndpointBudgets(given_options.budget, pools or {}, lambda: time.now, CollectorRegistry())
    return retry(given_options, time.sources, budgets)


async def test_a_passing_failure_is_tried_again_with_growing_pauses() -> None:
    time, model = Time(), ScriptedModel([LATER, LATER, LATER, REPLY])

    reply = await a_retry(time)(model)(a_call())

    assert time.slept == [0.5, 1.0, 1.5]
    assert [call.attempt for call in model.calls] == [1, 2, 3, 4]
    assert reply.usage.calls == 4


async def test_attempts_are_bounded() -> None:
    time, model = Time(), ScriptedModel([LATER])

    with pytest.raises(CallFailed):
        await a_retry(time, attempts=3)(model)(a_call())

    assert len(model.calls) == 3


async def test_a_lasting_failure_is_not_tried_again() -> None:
    time, model = Time(), ScriptedModel([NEVER])

    with pytest.raises(CallFailed):
        await a_retry(time)(model)(a_call())

    assert (len(model.calls), time.slept) == (1, [])


async def test_what_the_endpoint_asks_for_is_waited() -> None:
    time = Time()

    await a_retry(time)(ScriptedModel([CallFailed("overloaded", "", 20.0), REPLY]))(a_call())

    assert time.slept == [20.5]


async def test_a_longer_wait_is_left_to_the_step() -> None:
    time = Time()

    with pytest.raises(CallFailed) as failure:
        await a_retry(time)(ScriptedModel([CallFailed("overloaded", "", 600.0)]))(a_call())

    assert (failure.value.after_seconds, time.slept) == (600.0, [])


async def test_no_pause_goes_past_the_end_of_the_call() -> None:
    time = Time()

    with pytest.raises(CallFailed):
        await a_retry(time)(ScriptedModel([LATER]))(a_call(deadline=1001.2))

    assert time.slept == [0.5]


@given(
    st.integers(1, 10**9),
    st.none() | st.floats(0, 3600),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 60),
    st.floats(0, 600),
)
def test_a_pause_is_never_shorter_than_asked_and_never_longer_than_the_caps(
    attempt: int, asked: float | None, chance: float, first: float, longest: float
) -> None:
    given_options = options(attempts=20, first_pause_seconds=first, longest_pause_seconds=longest)

    pause = pause_seconds(given_options, attempt, CallFailed("overloaded", "", asked), chance)

    if pause is None:
        assert attempt >= 20 or (asked or 0) > 60
    else:
        assert (asked or 0) <= pause <= (asked or 0) + longest
        assert pause - (asked or 0) <= first * 2**attempt + 1e-6


def a_pool(*names: str) -> dict[str, PoolOptions]:
    endpoints = tuple(EndpointOptions(name=name, base_url="http://h/v1", model="m") for name in names)
    return {"copywriter": PoolOptions(endpoints=endpoints)}


class Endpoints:
    """Endpoints of which those that are named are down; a call goes to the first that it may go to. Counts requests."""

    def __init__(self, names: str, down: str) -> None:
        self.names, self.down = names, down
        self.asked: Counter[str] = Counter()

    async def __call__(self, call: Call) -> Reply:
        """Answer, or fail."""
        left = [name for name in self.names if name not in call.avoid]
        name = min(left, key=lambda one: one in call.tried)
        self.asked[name] += 1
        if name in self.down:
            failure = CallFailed("unreachable", "nobody there")
            failure.endpoint = name
            raise failure
        return Reply("A mug.", usage=Usage(endpoint=name, calls=1))


async def all_called(model: Model, count: int, **changes: Any) -> list[Reply | CallFailed]:
    found: list[Reply | CallFailed] = []
    for number in range(count):
        try:
            found.append(await model(a_call(id=f"call-{number}", **changes)))
        except CallFailed as failure:
            found.append(failure)
    return found


TIGHT = {"first_pause_seconds": 0, "budget": {"share": 0.2, "a_second": 0.5}}


async def test_an_endpoint_that_is_down_gets_a_fifth_more() -> None:
    endpoints = Endpoints("a", down="a")

    failures = await all_called(a_retry(Time(), a_pool("a"), **TIGHT)(endpoints), 100)

    assert endpoints.asked["a"] == 100 + 20 + 5
    last = failures[-1]
    assert isinstance(last, CallFailed)
    assert (last.kind, last.retryable, last.after_seconds, last.endpoint) == ("unreachable", True, 2.25, "a")
    assert "not sent again: the retries of pool copywriter are used up at present" in last.message


async def test_what_a_step_tries_anew_is_a_retry_too() -> None:
    endpoints, time = Endpoints("a", down="a"), Time()
    model = a_retry(time, a_pool("a"), **TIGHT)(endpoints)
    await all_called(model, 100)
    before = endpoints.asked["a"]

    failures = await all_called(model, 100, again=True)

    assert endpoints.asked["a"] == before
    assert {failure.kind for failure in failures if isinstance(failure, CallFailed)} == {"overloaded"}
    time.now += 11
    await all_called(model, 100, again=True)
    assert endpoints.asked["a"] == before + 5


async def test_without_a_budget_of_its_own_a_call_fails_over() -> None:
    # given two endpoints, of which one is down, and each has served half
    endpoints = Endpoints("ab", down="")
    model = a_retry(Time(), a_pool("a", "b"), first_pause_seconds=0, budget={"share": 0.2, "a_second": 0})(endpoints)
    await all_called(model, 50)
    await all_called(model, 50, avoid=frozenset("a"))
    endpoints.down = "a"

    replies = await all_called(model, 100)

    # then what it fails is paid for by its own calls, and then by those of the other, to which it goes
    answered = sum(isinstance(reply, Reply) for reply in replies)
    assert endpoints.asked["a"] + endpoints.asked["b"] <= 200 * 1.2 + answered
    assert answered == 100


async def test_once_it_is_up_again_what_waited_goes_on_at_once() -> None:
    endpoints, time = Endpoints("a", down="a"), Time()
    model = a_retry(time, a_pool("a"), **TIGHT)(endpoints)
    await all_called(model, 100)
    endpoints.down, time.now = "", time.now + 11

    replies = await all_called(model, 100, again=True)

    assert all(isinstance(reply, Reply) for reply in replies)


async def test_a_pool_that_is_not_configured_is_told_so_also_the_second_time() -> None:
    unknown = CallFailed("unknown-pool", "no pool is called x", retryable=False)

    [failure] = await all_called(a_retry(Time(), a_pool("a"))(ScriptedModel([unknown])), 1, pool="x", again=True)

    assert failure is unknown


async def test_what_becomes_of_failures_is_counted_under_names_of_the_settings() -> None:
    registry = CollectorRegistry()
    given_options = options(**TIGHT)
    budgets = EndpointBudgets(given_options.budget, a_pool("a"), lambda: 0.0, registry)
    model = retry(given_options, Time().sources, budgets)(Endpoints("a", down="a"))

    await all_called(model, 100)

    def counted(decision: str) -> float:
        labels = {"pool": "copywriter", "endpoint": "a", "decision": decision}
        return registry.get_sample_value("callstream_model_retries_total", labels) or 0

    assert counted("again") == 25
    assert counted("no-budget") + counted("given-up") == 100
