"""The time-out of a step, which stands still while the step waits for what keeps a time of its own.

A call may wait for its turn for as long as the task's deadline allows; that is no reason to give up the step.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from callstream.streams.within import Within


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


class patience:
    """As `asyncio.timeout`, but for the time that is spent within `uncounted`."""

    def __init__(self, seconds: float) -> None:
        self._limit = asyncio.timeout(seconds)
        self._within = Within(_current, Patience(self._limit))

    async def __aenter__(self) -> asyncio.Timeout:
        await self._limit.__aenter__()
        self._within.__enter__()
        return self._limit

    async def __aexit__(self, *raised: Any) -> None:
        self._within.__exit__(*raised)
        await self._limit.__aexit__(*raised)


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
