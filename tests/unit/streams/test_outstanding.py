"""Records on their way: each comes to an end, whoever waits for it."""

import asyncio

import pytest

from callstream.streams.outstanding import Outstanding, Overdue
from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_what_the_broker_says_is_passed_on(clock: Clock) -> None:
    outstanding, sent = Outstanding(0.01, clock), [asyncio.Future[int]() for _ in range(3)]
    good, bad, dropped = map(outstanding.follow, sent)
    sent[0].set_result(7)
    sent[1].set_exception(OSError("gone"))
    sent[2].cancel()
    assert await good == 7
    with pytest.raises(OSError, match="gone"):
        await bad
    with pytest.raises(asyncio.CancelledError):
        await dropped


async def test_what_is_not_taken_in_time_is_given_up_and_the_younger_is_not(clock: Clock) -> None:
    outstanding = Outstanding(0.01, clock)
    old = outstanding.follow(asyncio.Future[int]())
    clock.now += 0.011
    sent = asyncio.Future[int]()
    young = outstanding.follow(sent)
    with pytest.raises(Overdue, match=r"0\.01 s"):
        await old
    assert not young.done()
    assert len(outstanding) == 1
    sent.set_result(1)
    assert await young == 1


async def test_who_is_cancelled_leaves_the_record_with_the_producer(clock: Clock) -> None:
    outstanding, sent = Outstanding(0.01, clock), asyncio.Future[int]()
    waiting = asyncio.ensure_future(_wait(outstanding.follow(sent)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not sent.cancelled()
    sent.set_exception(OSError("too late for anyone"))


async def test_nothing_is_kept_of_what_has_ended(clock: Clock) -> None:
    outstanding = Outstanding(0.001, clock)
    for number in range(1_000):
        sent = asyncio.Future[int]()
        waiter = outstanding.follow(sent)
        sent.set_result(number)
        assert await waiter == number
    last = outstanding.follow(asyncio.Future[int]())
    clock.now += 1
    with pytest.raises(Overdue):
        await last
    assert len(outstanding) == 0


async def _wait(waiter: "asyncio.Future[int]") -> int:
    return await waiter


async def test_the_oldest_that_is_not_confirmed_is_told_also_if_nobody_waits(clock: Clock) -> None:
    outstanding, sent = Outstanding(100.0, clock), [asyncio.Future[int]() for _ in range(2)]
    assert outstanding.oldest_seconds() == 0
    first = outstanding.follow(sent[0])
    clock.now += 3
    outstanding.follow(sent[1])
    clock.now += 4
    first.cancel()
    assert outstanding.oldest_seconds() == 7
    sent[0].set_result(1)
    assert outstanding.oldest_seconds() == 4
    sent[1].set_result(2)
    assert outstanding.oldest_seconds() == 0
