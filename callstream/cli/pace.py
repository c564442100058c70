"""Sending at a rate, by many at once, and never more than that."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")


async def for_each(
    items: Iterable[Item], work: Callable[[Item], Awaitable[None]], at_once: int, rate: float | None = None
) -> None:
    """Do the work for each item: at most `at_once` at a time, beginning at most `rate` a second.

    The first exception ends the rest and is raised.
    """
    loop = asyncio.get_running_loop()
    begin = loop.time()
    remaining = enumerate(items)

    async def worker() -> None:
        for number, item in remaining:
            if rate:
                await asyncio.sleep(begin + number / rate - loop.time())
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(worker())
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
