"""Records that are on their way to the broker: one look a second at all of them, since a timer for each costs more.

The time is kept here because an idempotent producer itself tries for ever.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any

LOOK_SECONDS = 1.0


class Overdue(Exception):
    """The broker has not taken a record in time."""


class Outstanding:
    """What was sent and not yet confirmed, oldest first; what is older than `seconds` is given up."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._waiting: list[tuple[float, asyncio.Future[Any], asyncio.Future[Any]]] = []
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """How many were under way at the last look, and have begun since."""
        return len(self._waiting)

    def oldest_seconds(self) -> float:
        """For how long the oldest record has been under way that is not confirmed, also if nobody waits for it."""
        begun = next((due - self._seconds for due, _, sent in self._waiting if not sent.done()), None)
        return 0.0 if begun is None else self._clock() - begun

    def follow(self, sent: "asyncio.Future[Any]") -> "asyncio.Future[Any]":
        """A future of its own for whoever waits: cancelling it leaves the record with the producer.

        It gives what `sent` gives, or raises Overdue.
        """
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Any] = loop.create_future()
        sent.add_done_callback(partial(_pass_on, waiter))
        self._waiting.append((self._clock() + self._seconds, waiter, sent))
        if self._timer is None:
            self._timer = loop.call_later(min(LOOK_SECONDS, self._seconds), self._look)
        return waiter

    def _look(self) -> None:
        now = self._clock()
        for due, waiter, _ in self._waiting:
            if due > now:
                break
            if not waiter.done():
                waiter.set_exception(Overdue(f"not within {self._seconds:g} s"))
        self._waiting = [each for each in self._waiting if each[0] > now and not each[2].done()]
        self._timer = None
        if self._waiting:
            pause = min(LOOK_SECONDS, self._seconds)
            self._timer = self._waiting[0][1].get_loop().call_later(pause, self._look)


def _pass_on(waiter: "asyncio.Future[Any]", sent: "asyncio.Future[Any]") -> None:
    if sent.cancelled():
        waiter.cancel()
        return
    error = sent.exception()
    if waiter.done():
        return
    if error is not None:
        waiter.set_exception(error)
    else:
        waiter.set_result(sent.result())
