"""Tells, for alarms, of the attempts that this process's budgets refused: each second, if there were any."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

from callstream.agents.actor import Actor
from callstream.streams import strict_json
from callstream.streams.event import Json
from callstream.streams.wire import LogUnavailable

log = logging.getLogger("callstream.alarms")

TELL_SECONDS = 1.0
REFUSED = "no-budget"
BUDGET = "retries"
"""The budget of what may be sent a second time."""


class Refusals:
    """What was refused since it was told last. `endpoints` counts refusals by pool and endpoint, as they add up."""

    def __init__(self, actors: Mapping[str, Actor], endpoints: Counter[tuple[str, str]]) -> None:
        self._actors = actors
        self._endpoints = endpoints
        self._told: Counter[tuple[str, ...]] = Counter()

    def new(self) -> Json | None:
        """The record that tells of what is new; None if nothing is."""
        now: Counter[tuple[str, ...]] = Counter()
        now.update({(pool, endpoint): count for (pool, endpoint), count in self._endpoints.items()})
        for service, actor in self._actors.items():
            for (_, decision), count in actor.trying.decisions.items():
                if decision == REFUSED:
                    now[(service,)] += count
        new, self._told = now - self._told, now
        if not new:
            return None
        return {"refused": [_entry(place, count) for place, count in sorted(new.items())]}

    async def run(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        """Tell until cancelled. What a broker that is away does not hear is not told again."""
        while True:
            await asyncio.sleep(TELL_SECONDS)
            if (told := self.new()) is not None:
                try:
                    await send(strict_json.dumps(told))
                except LogUnavailable as error:
                    log.info("that retries were refused is not told: %s", error)


def _entry(place: tuple[str, ...], count: int) -> Json:
    named = {"service": place[0]} if len(place) == 1 else {"pool": place[0], "endpoint": place[1]}
    return {"budget": BUDGET, **named, "count": count}
