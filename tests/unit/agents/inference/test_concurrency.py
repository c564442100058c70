import asyncio

import pytest

from callstream.agents.inference.call import Call, CallFailed, Reply
from callstream.agents.inference.concurrency import concurrency
from callstream.agents.inference.fakes import a_call
from callstream.agents.inference.options import EndpointOptions


class Endpoint:
    """Keeps its calls until they are let go; remembers the order and how many were in at once."""

    def __init__(self) -> None:
        self.inside: dict[str, asyncio.Event] = {}
        self.order: list[str] = []
        self.most = 0

    async def __call__(self, call: Call) -> Reply:
        self.order.append(call.id)
        self.inside[call.id] = asyncio.Event()
        self.most = max(self.most, len(self.inside))
        try:
            await self.inside[call.id].wait()
        finally:
            del self.inside[call.id]
        return Reply(call.id)


def local(concurrency: int = 1, most_waiting: int = 100) -> EndpointOptions:
    return EndpointOptions(
        name="local", base_url="http://h/v1", model="m", concurrency=concurrency, most_waiting=most_waiting
    )


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_calls_enter_first_come_first_served_up_to_the_limit() -> None:
    endpoint = Endpoint()
    model = concurrency([local(concurrency=2)])(endpoint)
    tasks = [asyncio.ensure_future(model(a_call(id=str(n), endpoint="local"))) for n in range(6)]
    while not all(task.done() for task in tasks):
        await settle()
        for event in endpoint.inside.values():
            event.set()

    assert endpoint.order == ["0", "1", "2", "3", "4", "5"]
    assert endpoint.most == 2


async def test_beyond_the_waiters_a_call_is_told_to_come_later() -> None:
    endpoint = Endpoint()
    model = concurrency([local(most_waiting=1)])(endpoint)
    running, waiting = (asyncio.ensure_future(model(a_call(id=str(n), endpoint="local"))) for n in range(2))
    await settle()

    with pytest.raises(CallFailed) as failure:
        await model(a_call(id="2", endpoint="local"))

    assert (failure.value.kind, failure.value.after_seconds) == ("overloaded", 1.0)
    running.cancel()
    waiting.cancel()


async def test_places_survive_cancellation_of_who_waits_and_of_who_runs() -> None:
    endpoint = Endpoint()
    model = concurrency([local()])(endpoint)
    running, waiting, last = (asyncio.ensure_future(model(a_call(id=str(n), endpoint="local"))) for n in range(3))
    await settle()

    waiting.cancel()
    running.cancel()
    await settle()
    endpoint.inside["2"].set()

    assert (await last).text == "2"
    assert endpoint.order == ["0", "2"]


async def test_a_waiter_cancelled_as_its_place_comes_free_hands_it_on() -> None:
    endpoint = Endpoint()
    model = concurrency([local()])(endpoint)
    running, waiting, last = (asyncio.ensure_future(model(a_call(id=str(n), endpoint="local"))) for n in range(3))
    await settle()

    endpoint.inside["0"].set()
    await asyncio.sleep(0)
    waiting.cancel()
    await settle()
    if "1" in endpoint.inside:
        endpoint.inside["1"].set()
        await settle()
    endpoint.inside["2"].set()

    assert (await last).text == "2"
    assert running.done()


async def test_a_failed_call_gives_its_place_back() -> None:
    async def broken(call: Call) -> Reply:
        raise CallFailed("unavailable", "no")

    model = concurrency([local()])(broken)
    for _ in range(3):
        with pytest.raises(CallFailed, match="no"):
            await asyncio.wait_for(model(a_call(endpoint="local")), 5)
