"""An outage of an endpoint as a whole: steps, which try again, over a model, which sends again."""

import asyncio
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from callstream.agents.actor import Actor
from callstream.agents.fakes import FakePorts, deliver, stream
from callstream.agents.inference.call import Call, CallFailed, Reply
from callstream.agents.inference.endpoint_budgets import EndpointBudgets
from callstream.agents.inference.options import EndpointOptions, PoolOptions, RetryOptions
from callstream.agents.inference.retry import Sources, retry
from callstream.agents.inference.step import Infer
from callstream.agents.retry_collector import RetryCollector
from callstream.agents.steps import StepRole
from callstream.streams.chain import Attempts, Chain, Chains
from callstream.streams.retry_budget import BudgetOptions, Budgets
from tests.support.events import Input, an_event

ENDPOINT = EndpointOptions(name="a", base_url="http://h/v1", model="m")
TASKS = 100
OURS = BudgetOptions(share=0.2, a_second=1.0)
NONE = BudgetOptions(share=10, a_second=10_000)


class Down:
    """An endpoint that is not there; counts who asks."""

    asked = 0

    async def __call__(self, call: Call) -> Reply:
        """Fail."""
        self.asked += 1
        failure = CallFailed("unreachable", "nobody there")
        failure.endpoint = "a"
        raise failure


async def outage(budget: BudgetOptions) -> tuple[Down, Actor, FakePorts]:
    """A hundred tasks while the endpoint is down, without a pause between attempts."""
    down, ports = Down(), FakePorts()
    options = RetryOptions(first_pause_seconds=0, longest_pause_seconds=0, budget=budget)
    budgets = EndpointBudgets(
        options.budget, {"p": PoolOptions(endpoints=(ENDPOINT,))}, lambda: 0.0, CollectorRegistry()
    )
    sources = Sources(clock=lambda: 0.0, chance=lambda: 0.5, sleep=asyncio.sleep)
    step = Infer(
        name="copy",
        pool="p",
        attempts=Attempts(5, 0.0, 0.0),
        request=lambda event: {"messages": [{"role": "user", "content": "a mug"}]},
    )
    await step.open(SimpleNamespace(model=retry(options, sources, budgets)(down)))  # type: ignore[arg-type]
    chains = Chains([Chain("shop", Input, (step,))])
    actor = Actor(StepRole("infer", chains, stateful=False), ports, chains, TASKS, TASKS)
    actor.trying.budgets = Budgets(lambda: budget)
    await actor.run(stream(deliver([an_event(task=f"t-{number}") for number in range(TASKS)], "infer")))
    assert await actor.drain(20.0)
    return down, actor, ports


@pytest.mark.parametrize(("budget", "least", "most"), [(OURS, 100, 1.2 * TASKS + 10), (NONE, 1_500, 1_500)])
async def test_an_outage_is_not_met_with_a_multiple_of_its_load(budget: BudgetOptions, least: int, most: float) -> None:
    down, _, ports = await outage(budget)
    assert least <= down.asked <= most
    # and every task has ended, with a letter that says why
    assert ports.topics().count("dead") == ports.topics().count("finished") == TASKS


async def test_what_followed_is_counted_by_service_and_class() -> None:
    _, actor, _ = await outage(OURS)
    registry = CollectorRegistry()
    registry.register(RetryCollector({"infer": actor}))
    shown = generate_latest(registry).decode()
    assert 'callstream_step_retries_total{class="overloaded",decision="no-budget",service="infer"}' in shown
    assert 'callstream_step_retries_total{class="transient",decision="again",service="infer"}' in shown
    assert "acme" not in shown
