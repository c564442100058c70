"""A step's time-out stands still while it waits for what keeps a time of its own."""

import asyncio

import pytest

from callstream.agents.patience import patience, uncounted


async def test_a_step_that_takes_too_long_is_ended() -> None:
    with pytest.raises(TimeoutError):
        async with patience(0.01):
            await asyncio.Event().wait()


async def test_what_is_uncounted_takes_none_of_the_time() -> None:
    async with patience(0.02) as limit:
        with uncounted():
            assert limit.when() is None
            await asyncio.sleep(0.05)
        assert limit.when() is not None


async def test_the_time_goes_on_after_it() -> None:
    async def step() -> None:
        async with patience(0.02):
            with uncounted():
                await asyncio.sleep(0)
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await step()


async def test_two_waits_at_once_hold_it_until_both_are_over() -> None:
    ends = [asyncio.Event(), asyncio.Event()]

    async def wait(end: asyncio.Event) -> None:
        with uncounted():
            await end.wait()

    async with patience(60) as limit:
        waits = [asyncio.create_task(wait(end)) for end in ends]
        await asyncio.sleep(0)
        ends[0].set()
        await waits[0]
        assert limit.when() is None
        ends[1].set()
        await waits[1]
        assert limit.when() is not None


async def test_outside_of_a_step_nothing_is_held() -> None:
    with uncounted():
        await asyncio.sleep(0)
