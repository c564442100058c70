"""Group commit: writes that arrive together go into one batch, and one bad row fails alone.

While one batch is being written the next one gathers, so under load the batches grow by themselves; the pause only
lets the first few join.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")


class BatchWriter(Generic[Item]):
    """Gathers items for `write`, which says what became of each, or raises for all of a batch."""

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Awaitable[Sequence[Exception | None]]],
        most: int = 64,
        pause_seconds: float = 0.003,
    ) -> None:
        self._write = write
        self._most = most
        self._pause_seconds = pause_seconds
        self._waiting: deque[tuple[Item, asyncio.Future[None]]] = deque()
        self._room = asyncio.Semaphore(most * 16)
        self._runner: asyncio.Task[None] | None = None
        self._closed = False

    async def put(self, item: Item) -> None:
        """Wait until the item is written. Raises what became of it, if that is an error."""
        if self._closed:
            raise RuntimeError("the writer is closed")
        async with self._room:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((item, done))
            if self._runner is None or self._runner.done():
                self._runner = asyncio.create_task(self._run())
            await done

    async def close(self) -> None:
        """Take no more and write what waits."""
        self._closed = True
        if self._runner is not None:
            await self._runner

    async def _run(self) -> None:
        while self._waiting:
            if len(self._waiting) < self._most:
                await asyncio.sleep(self._pause_seconds)
            batch: list[tuple[Item, asyncio.Future[None]]] = []
            while self._waiting and len(batch) < self._most:
                item, done = self._waiting.popleft()
                if not done.done():
                    batch.append((item, done))
            if batch:
                await self._flush(batch)

    async def _flush(self, batch: list[tuple[Item, asyncio.Future[None]]]) -> None:
        try:
            results = await self._write([item for item, _ in batch])
        except Exception as error:
            results = [error] * len(batch)
        for (_, done), result in zip(batch, results, strict=True):
            _settle(done, result)


def _settle(done: asyncio.Future[None], error: Exception | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
