"""A second request where the first one takes too long: when, how often, which answer counts, and what it leaves."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from callstream.agents.inference.call import Call, CallFailed, Model, Reply
from callstream.agents.inference.endpoint_budgets import EndpointBudgets
from callstream.agents.inference.failures import Kind, failed
from callstream.agents.inference.fakes import a_call
from callstream.agents.inference.hedge import LEAST_CALLS, MOST_CALLS, MOST_SAVED, Budget, Hedges, RecentSeconds
from callstream.agents.inference.options import PoolOptions, RetryOptions
from callstream.agents.inference.retry import Sources, retry
from callstream.agents.inference.stack import compose
from callstream.streams.event import Usage
from callstream.streams.ownership import LostOwnership
from callstream.streams.retry_budget import BudgetOptions

QUICK = Reply("quick", usage=Usage(calls=1))


def pool(most_hedged: float = 0.5, quantile: float | None = 0.95) -> PoolOptions:
    endpoints = [{"name": name, "base_url": "http://h/v1", "model": "m"} for name in ("a", "b")]
    return PoolOptions.model_validate(
        {"endpoints": endpoints, "hedge_after_quantile": quantile, "most_hedged": most_hedged}
    )


class Bench:
    """Hedging over an admission that sends each call to the first endpoint that was not tried, and a scripted model."""

    def __init__(self, given_pool: PoolOptions) -> None:
        self.registry = CollectorRegistry()
        self.hedging = Hedges({"copywriter": given_pool}, self.registry, lambda: 0.0)
        self.calls: list[Call] = []
        self.cancelled: list[int] = []
        self.answers: list[asyncio.Future[Reply]] = []
        self.model: Model = compose((self.hedging.race, self._admission, self.hedging.observe), self._send)
        self.held = False
        self.admitted = asyncio.Event()
        self.admitted.set()

    def below(self, how: str) -> Model:
        """What is below `race`; the second request ends by a time-out if that is asked for."""

        async def hasty(call: Call) -> Reply:
            try:
                async with asyncio.timeout(0.01 if how == "times out" and call.tried else None):
                    return await inner(call)
            except TimeoutError:
                raise failed(Kind.TIMEOUT, "no answer") from None

        inner = compose((self._admission, self.hedging.observe), self._send)
        return hasty

    def _admission(self, inner: Model) -> Model:
        async def admitted(call: Call) -> Reply:
            await self.admitted.wait()
            endpoint = next((name for name in ("a", "b") if name not in call.tried), "a")
            return await inner(replace(call, endpoint=endpoint))

        return admitted

    async def _send(self, call: Call) -> Reply:
        number = len(self.calls)
        self.calls.append(call)
        if not self.held:
            return QUICK
        self.answers.append(asyncio.get_running_loop().create_future())
        try:
            return await self.answers[-1]
        except asyncio.CancelledError:
            self.cancelled.append(number - LEAST_CALLS)
            raise

    def hedges(self, outcome: str) -> float:
        labels = {"pool": "copywriter", "outcome": outcome}
        return self.registry.get_sample_value("callstream_model_hedges_total", labels) or 0


async def warmed(given_pool: PoolOptions | None = None) -> Bench:
    """As many quick calls as it takes; from then on the model answers when it is told to."""
    bench = Bench(given_pool or pool())
    for _ in range(LEAST_CALLS):
        await bench.model(a_call())
    bench.held = True
    return bench


async def sent(bench: Bench, calls: int) -> None:
    async with asyncio.timeout(5):
        while len(bench.answers) < calls:  # noqa: ASYNC110  # a timer of no length has to fire
            await asyncio.sleep(0)


async def run() -> None:
    for _ in range(50):
        await asyncio.sleep(0.0001)


async def test_a_call_that_takes_longer_than_most_is_sent_to_another_endpoint_and_the_first_answer_counts() -> None:
    bench = await warmed()
    asked = asyncio.ensure_future(bench.model(a_call()))
    await sent(bench, 2)
    first, second = bench.calls[-2:]
    assert (first.endpoint, second.endpoint, first.id == second.id) == ("a", "b", True)

    bench.answers[1].set_result(Reply("from b", usage=Usage(calls=1, tokens_out=3)))
    reply = await asked

    assert (reply.text, reply.usage.calls, reply.usage.tokens_out) == ("from b", 2, 3)
    assert reply.notes == ("asked twice, since the first request took long: its answer was not waited for",)
    assert bench.cancelled == [0]
    assert (bench.hedges("started"), bench.hedges("won"), bench.hedges("lost")) == (1, 1, 0)


async def test_the_first_requests_answer_counts_if_it_comes_before() -> None:
    bench = await warmed()
    asked = asyncio.ensure_future(bench.model(a_call()))
    await sent(bench, 2)

    bench.answers[0].set_result(QUICK)
    reply = await asked

    assert (reply.text, reply.usage.calls) == ("quick", 2)
    assert reply.notes == ("asked twice, since the first request took long: the second answer was not waited for",)
    assert bench.cancelled == [1]
    assert (bench.hedges("started"), bench.hedges("won"), bench.hedges("lost")) == (1, 0, 1)


async def test_a_second_request_that_fails_changes_nothing() -> None:
    for error in (failed(Kind.REFUSED, "no such model"), failed(Kind.UNAVAILABLE, "503"), LostOwnership("gone")):
        bench = await warmed()
        asked = asyncio.ensure_future(bench.model(a_call()))
        await sent(bench, 2)
        bench.answers[1].set_exception(error)
        await run()
        assert not asked.done()
        bench.answers[0].set_result(QUICK)
        assert (await asked).usage.calls == 2


@pytest.mark.parametrize("how", ["fails", "times out"])
async def test_a_second_request_is_one_request_and_not_tried_again(how: str) -> None:
    bench = await warmed()
    sources = Sources(clock=lambda: 0.0, chance=lambda: 0.0, sleep=asyncio.sleep)
    budgets = EndpointBudgets(BudgetOptions(), {}, lambda: 0.0, CollectorRegistry())
    again = retry(RetryOptions(first_pause_seconds=0), sources, budgets)
    model = compose((bench.hedging.race, again), bench.below(how))
    asked = asyncio.ensure_future(model(a_call()))
    await sent(bench, 2)
    if how == "fails":
        bench.answers[1].set_exception(failed(Kind.UNAVAILABLE, "HTTP 503"))
    await asyncio.sleep(0.05)
    assert len(bench.answers) == 2
    bench.answers[0].set_result(QUICK)
    assert (await asked).usage.calls == 2


async def test_the_second_is_waited_for_when_the_first_fails_for_a_passing_reason() -> None:
    bench = await warmed()
    asked = asyncio.ensure_future(bench.model(a_call()))
    await sent(bench, 2)
    bench.answers[0].set_exception(failed(Kind.UNAVAILABLE, "HTTP 503"))
    await run()
    assert not asked.done()
    bench.answers[1].set_result(QUICK)
    assert ((await asked).usage.calls, bench.hedges("won")) == (2, 1)


async def test_what_the_first_is_refused_for_good_is_final() -> None:
    bench = await warmed()
    asked = asyncio.ensure_future(bench.model(a_call()))
    await sent(bench, 2)
    bench.answers[0].set_exception(failed(Kind.REFUSED_BY_POLICY, "no"))
    with pytest.raises(CallFailed) as failure:
        await asked
    assert (failure.value.kind, bench.cancelled) == ("refused-by-policy", [1])


async def test_two_failures_are_told_as_the_firsts() -> None:
    bench = await warmed()
    asked = asyncio.ensure_future(bench.model(a_call()))
    await sent(bench, 2)
    bench.answers[1].set_exception(failed(Kind.REFUSED, "second"))
    bench.answers[0].set_exception(failed(Kind.UNAVAILABLE, "first"))
    with pytest.raises(CallFailed, match="first"):
        await asked


async def test_whoever_is_cancelled_takes_both_along() -> None:
    bench = await warmed()
    asked = asyncio.ensure_future(bench.model(a_call()))
    await sent(bench, 2)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    assert sorted(bench.cancelled) == [0, 1]
    assert bench.hedges("lost") == 1


async def test_the_wait_for_admission_is_no_reason_to_ask_twice() -> None:
    bench = await warmed()
    bench.admitted.clear()
    asked = asyncio.ensure_future(bench.model(a_call()))
    await run()
    assert bench.answers == []
    bench.admitted.set()
    await sent(bench, 2)
    bench.answers[0].set_result(QUICK)
    await asked


async def test_a_second_request_that_was_never_sent_is_none() -> None:
    bench = await warmed()
    asked = asyncio.ensure_future(bench.model(a_call()))
    await sent(bench, 1)
    bench.admitted.clear()
    await run()
    bench.answers[0].set_result(QUICK)
    reply = await asked

    assert (reply.usage.calls, reply.notes) == (1, ())
    assert bench.hedges("started") == 0


@pytest.mark.parametrize("given_pool", [pool(quantile=None), pool(most_hedged=0.0)])
async def test_nothing_is_asked_twice_where_the_settings_do_not_say_so(given_pool: PoolOptions) -> None:
    bench = await warmed(given_pool)
    asked = asyncio.ensure_future(bench.model(a_call()))
    await run()
    assert len(bench.answers) == 1
    bench.answers[0].set_result(QUICK)
    assert (await asked).usage.calls == 1


async def test_no_more_calls_are_asked_twice_than_the_settings_allow() -> None:
    bench = await warmed(pool(most_hedged=0.1))
    asked = [asyncio.ensure_future(bench.model(a_call(id=f"c{number}"))) for number in range(30)]
    await sent(bench, 30)
    await run()
    assert bench.hedges("started") == (LEAST_CALLS + 30) // 10
    for answer in bench.answers:
        answer.set_result(QUICK)
    await asyncio.gather(*asked)


async def test_before_enough_is_known_of_a_pool_nothing_is_asked_twice() -> None:
    bench = Bench(pool())
    for _ in range(LEAST_CALLS - 1):
        await bench.model(a_call())
    bench.held = True
    asked = asyncio.ensure_future(bench.model(a_call()))
    await run()
    assert len(bench.answers) == 1
    bench.answers[0].set_result(QUICK)
    await asked


@given(st.lists(st.floats(0, 1e6), max_size=3 * MOST_CALLS), st.floats(0.5, 0.999))
def test_the_quantile_is_that_of_the_latest_calls(seconds: list[float], quantile: float) -> None:
    recent = RecentSeconds()
    for one in seconds:
        recent.add(one)

    found, latest = recent.quantile(quantile), sorted(seconds[-MOST_CALLS:])

    if len(latest) < LEAST_CALLS:
        assert found is None
    else:
        assert found in latest
        assert sum(one <= found for one in latest) >= quantile * len(latest) - 1e-6
        assert sum(one < found for one in latest) < quantile * len(latest) + 1e-6


@given(st.lists(st.sampled_from(["earn", "spend", "refund"]), max_size=500), st.floats(0, 0.5))
def test_a_budget_never_gives_more_than_its_share(steps: list[str], share: float) -> None:
    budget, earned, spent = Budget(), 0, 0
    for step in steps:
        if step == "earn":
            budget.earn(share)
            earned += 1
        elif step == "spend":
            spent += budget.spend()
        elif spent:
            budget.refund()
            spent -= 1
        assert spent <= earned * share + 1e-6


def test_what_a_budget_saves_is_bounded() -> None:
    budget = Budget()
    for _ in range(10_000):
        budget.earn(0.5)

    assert sum(budget.spend() for _ in range(1_000)) == MOST_SAVED
