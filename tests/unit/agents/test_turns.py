import asyncio

import pytest

from callstream.agents.turns import Turns


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def take(turns: Turns, key: bytes, order: list[str], name: str, gate: asyncio.Event) -> None:
    """Take a turn, say so, and keep it until the gate opens."""
    async with turns.turn(key):
        order.append(name)
        await gate.wait()


async def test_one_key_is_held_by_one_at_a_time_in_the_order_of_asking() -> None:
    turns, gate, order = Turns(), asyncio.Event(), list[str]()
    tasks = [asyncio.create_task(take(turns, b"k", order, str(number), gate)) for number in range(4)]
    await settled()
    assert order == ["0"]
    gate.set()
    await asyncio.gather(*tasks)
    assert order == ["0", "1", "2", "3"]
    assert len(turns) == 0


async def test_other_keys_do_not_wait() -> None:
    turns, gate, order = Turns(), asyncio.Event(), list[str]()
    tasks = [asyncio.create_task(take(turns, key, order, key.decode(), gate)) for key in (b"a", b"b")]
    await settled()
    assert (order, len(turns)) == (["a", "b"], 2)
    gate.set()
    await asyncio.gather(*tasks)


async def test_whoever_gives_up_waiting_holds_up_nobody_and_leaves_nothing_behind() -> None:
    turns, gate, order = Turns(), asyncio.Event(), list[str]()
    tasks = [asyncio.create_task(take(turns, b"k", order, str(number), gate)) for number in range(3)]
    await settled()
    tasks[1].cancel()
    await settled()
    gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (order, len(turns)) == (["0", "2"], 0)


async def test_an_error_ends_the_turn() -> None:
    turns = Turns()
    with pytest.raises(KeyError):
        async with turns.turn(b"k"):
            raise KeyError
    async with asyncio.timeout(5), turns.turn(b"k"):
        assert len(turns) == 1
