"""Places, the queue before them, and replayed answers."""

import asyncio

from callstream.stub.replays import Replays
from callstream.stub.slots import Slots
from callstream.stub.work import Work


async def hold(slots: Slots, go: asyncio.Event, order: list[int], number: int) -> None:
    async with slots:
        order.append(number)
        await go.wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_places_are_given_first_come_first_served() -> None:
    slots, go, order = Slots(2, 2), asyncio.Event(), list[int]()

    tasks = [asyncio.create_task(hold(slots, go, order, number)) for number in range(4)]
    await settle()

    assert (order, slots.running, slots.waiting, slots.full) == ([0, 1], 2, 2, True)
    go.set()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3]
    assert (slots.running, slots.most_running, slots.most_waiting, slots.full) == (0, 2, 2, False)


async def test_more_places_wake_those_who_wait_and_fewer_turn_nobody_away() -> None:
    slots, go, order = Slots(1, 5), asyncio.Event(), list[int]()
    tasks = [asyncio.create_task(hold(slots, go, order, number)) for number in range(3)]
    await settle()

    slots.resize(3, 0)
    await settle()
    assert slots.running == 3
    slots.resize(1, 0)
    assert slots.full

    go.set()
    await asyncio.gather(*tasks)
    assert (slots.running, slots.full) == (0, False)


async def test_one_who_gives_up_waiting_takes_no_place() -> None:
    slots, go, order = Slots(1, 5), asyncio.Event(), list[int]()
    tasks = [asyncio.create_task(hold(slots, go, order, number)) for number in range(3)]
    await settle()

    tasks[1].cancel()
    go.set()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert order == [0, 2]
    assert (slots.running, slots.waiting) == (0, 0)


async def test_one_cancelled_just_as_its_turn_comes_gives_the_place_on() -> None:
    slots, go, order = Slots(1, 5), asyncio.Event(), list[int]()
    tasks = [asyncio.create_task(hold(slots, go, order, number)) for number in range(3)]
    await settle()

    slots.resize(2, 5)
    tasks[1].cancel()
    go.set()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert order == [0, 2]
    assert slots.running == 0


async def test_an_answer_is_replayed_also_to_one_who_came_while_it_was_made() -> None:
    replays, work = Replays(10), Work("t", "m", {"a": 1}, 5)
    assert await replays.earlier("k") is None
    replays.begin("k")
    waiting = asyncio.create_task(replays.earlier("k"))
    await settle()

    replays.end("k", work)
    replays.end("k", None)

    assert await waiting is work
    assert await replays.earlier("k") is work


async def test_a_call_that_failed_unpaid_is_not_replayed() -> None:
    replays = Replays(10)
    replays.begin("k")
    waiting = asyncio.create_task(replays.earlier("k"))
    await settle()

    replays.end("k", None)

    assert await waiting is None


async def test_kept_answers_are_bounded() -> None:
    replays, work = Replays(2), Work("t", "m", {}, 0)
    for key in "abc":
        replays.begin(key)
        replays.end(key, work)

    assert await replays.earlier("a") is None
    assert await replays.earlier("c") is work
