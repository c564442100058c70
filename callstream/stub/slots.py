"""A hard limit on calls at the same time, with a bounded queue before it."""

import asyncio
from collections import deque
from contextlib import suppress
from types import TracebackType


class Slots:
    """`async with slots:` holds one place, first come, first served. Ask `full` before: it would queue all."""

    def __init__(self, size: int, queue: int) -> None:
        self.size = size
        self.queue = queue
        self.running = 0
        self.most_running = 0
        self.most_waiting = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """True if neither a place nor the queue is free."""
        return self.running >= self.size and len(self._waiting) >= self.queue

    def resize(self, size: int, queue: int) -> None:
        """Change both bounds; calls that run or wait already are not turned away."""
        self.size, self.queue = size, queue
        self._wake()

    def forget(self) -> None:
        """Begin to measure the maxima anew."""
        self.most_running, self.most_waiting = self.running, self.waiting

    async def __aenter__(self) -> None:
        if self.running < self.size and not self._waiting:
            self._take()
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self.most_waiting = max(self.most_waiting, len(self._waiting))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with suppress(ValueError):
                    self._waiting.remove(turn)
            else:
                self._leave()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _take(self) -> None:
        self.running += 1
        self.most_running = max(self.most_running, self.running)

    def _leave(self) -> None:
        self.running -= 1
        self._wake()

    def _wake(self) -> None:
        """The place is taken here, not by the woken task, so that no newcomer slips in between."""
        while self._waiting and self.running < self.size:
            turn = self._waiting.popleft()
            if not turn.done():
                self._take()
                turn.set_result(None)
