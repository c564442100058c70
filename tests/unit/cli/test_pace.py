"""Many at once, never more than allowed."""

import asyncio

import pytest

from callstream.cli.pace import for_each


async def test_all_are_done_and_never_more_at_once_than_allowed() -> None:
    running = most = 0
    done: list[int] = []

    async def work(item: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        done.append(item)

    await for_each(range(20), work, at_once=3)
    assert sorted(done) == list(range(20))
    assert most == 3


async def test_the_first_error_ends_it_as_itself() -> None:
    async def work(item: int) -> None:
        if item == 2:
            raise KeyError(item)
        await asyncio.sleep(0)

    with pytest.raises(KeyError):
        await for_each(range(1_000_000), work, at_once=2)


async def test_a_rate_spaces_the_beginnings() -> None:
    loop = asyncio.get_running_loop()
    begins: list[float] = []

    async def work(_: int) -> None:
        begins.append(loop.time())

    # The first one may begin late and the others on time.
    began = loop.time()
    await for_each(range(4), work, at_once=4, rate=200)
    assert begins[-1] - began >= 0.0149
