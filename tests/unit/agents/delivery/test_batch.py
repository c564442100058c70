import asyncio
from collections.abc import Sequence

import pytest

from callstream.agents.delivery import BatchWriter


class Sink:
    """Takes batches; refuses items below zero, and everything while it is down."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.tries = 0
        self.asked = asyncio.Event()
        self.down = False
        self.free = asyncio.Event()
        self.free.set()

    async def write(self, items: Sequence[int]) -> Sequence[Exception | None]:
        self.tries += 1
        self.asked.set()
        await self.free.wait()
        if self.down:
            raise ConnectionError("down")
        self.batches.append([item for item in items if item >= 0])
        return [ValueError("below zero") if item < 0 else None for item in items]


def writer(sink: Sink) -> BatchWriter[int]:
    return BatchWriter(sink.write, most=4, pause_seconds=0)


async def test_writes_that_arrive_together_share_a_batch_of_bounded_size() -> None:
    sink = Sink()
    put = writer(sink).put
    await asyncio.gather(*(put(item) for item in range(10)))
    assert sink.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


async def test_one_bad_item_fails_alone() -> None:
    sink = Sink()
    put = writer(sink).put
    results = await asyncio.gather(put(1), put(-1), put(2), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), ValueError, type(None)]
    assert sink.batches == [[1, 2]]


async def test_a_sink_that_is_down_is_asked_once_for_a_batch_and_works_again_later() -> None:
    sink = Sink()
    put = writer(sink).put
    sink.down = True
    results = await asyncio.gather(put(1), put(2), put(3), return_exceptions=True)
    assert {type(result) for result in results} == {ConnectionError}
    assert sink.tries == 1
    sink.down = False
    await put(4)
    assert sink.batches == [[4]]


async def test_what_was_given_up_is_not_written() -> None:
    sink = Sink()
    put = writer(sink).put
    sink.free.clear()
    first = asyncio.create_task(put(1))
    await sink.asked.wait()
    second, third = asyncio.create_task(put(2)), asyncio.create_task(put(3))
    await asyncio.sleep(0)
    second.cancel()
    sink.free.set()
    await asyncio.gather(first, third)
    assert sink.batches == [[1], [3]]


async def test_closing_writes_what_waits_and_takes_no_more() -> None:
    sink = Sink()
    batches = writer(sink)
    waiting = asyncio.create_task(batches.put(1))
    await asyncio.sleep(0)
    await batches.close()
    assert sink.batches == [[1]]
    await waiting
    with pytest.raises(RuntimeError, match="closed"):
        await batches.put(2)


async def test_more_than_the_queue_holds_wait_their_turn() -> None:
    sink = Sink()
    put = writer(sink).put
    sink.free.clear()
    waiting = [asyncio.create_task(put(item)) for item in range(200)]
    await sink.asked.wait()
    sink.free.set()
    await asyncio.gather(*waiting)
    assert sorted(item for batch in sink.batches for item in batch) == list(range(200))
