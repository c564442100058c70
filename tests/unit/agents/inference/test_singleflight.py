import asyncio

import pytest

from callstream.agents.inference.call import Call, CallFailed, Reply
from callstream.agents.inference.fakes import a_call
from callstream.agents.inference.options import FlightOptions
from callstream.agents.inference.singleflight import Flights, FlightsSnapshot
from callstream.streams.ownership import LostOwnership

REPLY = Reply("A mug.")


class Endpoint:
    """A model that answers when it is told to, and says how its calls ended."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.arrived = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def __call__(self, call: Call) -> Reply:
        self.calls.append(call)
        self.arrived.set()
        try:
            return await asyncio.shield(self.answer)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def flights(grace_seconds: float = 30.0, most_unclaimed: int = 10) -> Flights:
    return Flights(FlightOptions(grace_seconds=grace_seconds, most_unclaimed=most_unclaimed), run="run-a")


async def cancelled(task: "asyncio.Future[Reply]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_call_goes_through_and_leaves_nothing() -> None:
    layer, endpoint = flights(), Endpoint()
    endpoint.answer.set_result(REPLY)

    assert await layer(endpoint)(a_call()) == REPLY
    assert endpoint.calls[0].flight == "run-a.1"
    assert layer.snapshot() == FlightsSnapshot(0, 0)


async def test_a_redelivered_event_joins_the_call_that_its_first_delivery_began() -> None:
    layer, endpoint = flights(), Endpoint()
    model = layer(endpoint)
    first = asyncio.ensure_future(model(a_call()))
    await endpoint.arrived.wait()

    await cancelled(first)
    assert layer.snapshot() == FlightsSnapshot(claimed=0, unclaimed=1)
    second = asyncio.ensure_future(model(a_call()))
    await asyncio.sleep(0)
    assert layer.snapshot() == FlightsSnapshot(claimed=1, unclaimed=0)
    endpoint.answer.set_result(REPLY)

    assert await second == REPLY
    assert len(endpoint.calls) == 1
    assert layer.snapshot() == FlightsSnapshot(0, 0)


async def test_an_answer_that_came_meanwhile_is_found() -> None:
    layer, endpoint = flights(), Endpoint()
    model = layer(endpoint)
    first = asyncio.ensure_future(model(a_call()))
    await endpoint.arrived.wait()
    await cancelled(first)
    endpoint.answer.set_result(REPLY)
    await asyncio.sleep(0)

    assert await model(a_call()) == REPLY
    assert len(endpoint.calls) == 1


async def test_a_caller_cancelled_as_the_answer_comes_does_not_lose_it() -> None:
    layer, endpoint = flights(), Endpoint()
    model = layer(endpoint)
    first = asyncio.ensure_future(model(a_call()))
    await endpoint.arrived.wait()
    endpoint.answer.set_result(REPLY)

    await cancelled(first)

    assert await model(a_call()) == REPLY
    assert len(endpoint.calls) == 1


async def test_a_failure_that_came_meanwhile_is_not_kept() -> None:
    layer, endpoint = flights(), Endpoint()
    first = asyncio.ensure_future(layer(endpoint)(a_call()))
    await endpoint.arrived.wait()
    await cancelled(first)

    endpoint.answer.set_exception(CallFailed("unavailable", "no"))
    for _ in range(5):
        await asyncio.sleep(0)

    assert layer.snapshot() == FlightsSnapshot(0, 0)


async def test_what_nobody_claims_is_cancelled_after_the_grace() -> None:
    layer, endpoint = flights(grace_seconds=0.0), Endpoint()
    first = asyncio.ensure_future(layer(endpoint)(a_call()))
    await endpoint.arrived.wait()

    await cancelled(first)
    await asyncio.wait_for(endpoint.cancelled.wait(), 5)

    assert layer.snapshot() == FlightsSnapshot(0, 0)


async def test_unclaimed_calls_are_bounded_and_the_oldest_go_first() -> None:
    layer = flights(most_unclaimed=2)
    endpoints = [Endpoint() for _ in range(3)]
    for number, endpoint in enumerate(endpoints):
        task = asyncio.ensure_future(layer(endpoint)(a_call(id=str(number))))
        await endpoint.arrived.wait()
        await cancelled(task)
    await asyncio.wait_for(endpoints[0].cancelled.wait(), 5)

    assert layer.snapshot() == FlightsSnapshot(claimed=0, unclaimed=2)
    assert not endpoints[1].cancelled.is_set()
    await layer.close()


async def test_two_callers_share_a_call_and_one_may_leave() -> None:
    layer, endpoint = flights(), Endpoint()
    model = layer(endpoint)
    first, second = (asyncio.ensure_future(model(a_call())) for _ in range(2))
    await endpoint.arrived.wait()
    await asyncio.sleep(0)

    await cancelled(first)
    assert layer.snapshot() == FlightsSnapshot(claimed=1, unclaimed=0)
    endpoint.answer.set_result(REPLY)

    assert await second == REPLY
    assert len(endpoint.calls) == 1


async def test_a_failure_reaches_its_caller() -> None:
    layer, endpoint = flights(), Endpoint()
    endpoint.answer.set_exception(CallFailed("unavailable", "no"))

    with pytest.raises(CallFailed):
        await layer(endpoint)(a_call())

    assert layer.snapshot() == FlightsSnapshot(0, 0)


async def test_who_joins_a_call_that_lost_its_row_makes_a_call_of_its_own() -> None:
    layer, old, new = flights(), Endpoint(), Endpoint()
    endpoints = iter([old, new])
    model = layer(lambda call: next(endpoints)(call))
    new.answer.set_result(REPLY)
    first = asyncio.ensure_future(model(a_call()))
    await old.arrived.wait()
    await cancelled(first)
    second = asyncio.ensure_future(model(a_call()))
    await asyncio.sleep(0)

    old.answer.set_exception(LostOwnership("revoked"))

    assert await second == REPLY
    assert len(new.calls) == 1


async def test_closing_ends_every_call() -> None:
    layer, endpoint = flights(), Endpoint()
    waiting = asyncio.ensure_future(layer(endpoint)(a_call()))
    await endpoint.arrived.wait()

    await layer.close()

    with pytest.raises(CallFailed, match="stopped") as failure:
        await waiting
    assert failure.value.kind == "stopping"
    assert endpoint.cancelled.is_set()


async def test_calls_of_a_task_are_cut_without_a_grace_time_once_nobody_waits_for_them() -> None:
    layer, endpoint = flights(), Endpoint()
    first = asyncio.ensure_future(layer(endpoint)(a_call()))
    await endpoint.arrived.wait()
    owner = (a_call().tenant, a_call().task)
    assert layer.tasks()[owner] == 1

    layer.cut(*owner)
    assert layer.snapshot() == FlightsSnapshot(claimed=1, unclaimed=0)
    await cancelled(first)
    layer.cut("another", owner[1])
    assert layer.snapshot() == FlightsSnapshot(claimed=0, unclaimed=1)
    layer.cut(*owner)
    await endpoint.cancelled.wait()
    assert (layer.snapshot(), layer.tasks()[owner]) == (FlightsSnapshot(0, 0), 0)
