"""The time-out of a step, which stands still while the step waits for what keeps a time of its own.

A call may wait for its turn for as long as the task's deadline allows; that is no reason to give up the step.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar


class Patience:
    """One time-out and how many waits hold it still: a step may wait for two calls at once."""

    def __init__(self, limit: asyncio.Timeout) -> None:
        self._limit = limit
        self._waits = 0
        self._left = 0.0

    def begin(self) -> None:
        """A wait begins."""
        when = self._limit.when()
        self._waits += 1
        if self._waits == 1 and when is not None:
            self._left = when - asyncio.get_running_loop().time()
            self._limit.reschedule(None)

    def end(self) -> None:
        """A wait ends."""
        self._waits -= 1
        if self._waits == 0:
            self._limit.reschedule(asyncio.get_running_loop().time() + self._left)


_current: ContextVar[Patience | None] = ContextVar("patience", default=None)


@asynccontextmanager
async def patience(seconds: float) -> AsyncIterator[asyncio.Timeout]:
    """As `asyncio.timeout`, but for the time that is spent within `uncounted`."""
    async with asyncio.timeout(seconds) as limit:
        token = _current.set(Patience(limit))
        try:
            yield limit
        finally:
            _current.reset(token)


@contextmanager
def uncounted() -> Iterator[None]:
    """What happens in here takes none of the step's time."""
    found = _current.get()
    if found is None:
        yield
        return
    found.begin()
    try:
        yield
    finally:
        found.end()
