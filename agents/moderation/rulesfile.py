"""The rules in force: those that ship, a model, or a file that is read again when it changes."""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from callstream.agents.moderation.judge import Judge
from callstream.agents.moderation.matcher import matcher_of
from callstream.agents.moderation.rules import BadRules, ModerationRules, default_rules, load_rules

LOOK_SECONDS = 2.0
"""How often it is asked whether the file has changed."""

log = logging.getLogger(__name__)


class RulesInForce:
    """Gives the judge of the moment. `rules` are a model or a `.toml` or `.json` file; None: those that ship.

    A changed file is read beside the work, and takes effect as a whole; one that cannot be read changes nothing, and is
    logged once.
    """

    def __init__(self, rules: ModerationRules | Path | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._rules = rules
        self._clock = clock
        self._judge: Judge | None = None
        self._mark: tuple[int, ...] = ()
        self._next_look = 0.0

    async def open(self) -> None:
        """Read the rules. Raises BadRules."""
        self._mark = await asyncio.to_thread(self._state)
        self._judge = await asyncio.to_thread(self._read)
        self._next_look = self._clock() + LOOK_SECONDS

    async def judge(self) -> Judge:
        """The judge by the rules in force. Raises RuntimeError before `open`."""
        if self._judge is None:
            raise RuntimeError("the rules were not opened")
        if isinstance(self._rules, Path) and self._clock() >= self._next_look:
            # Whoever comes meanwhile is judged by the rules of before.
            self._next_look = self._clock() + LOOK_SECONDS
            await self._look(self._judge)
        return self._judge

    async def _look(self, before: Judge) -> None:
        mark = await asyncio.to_thread(self._state)
        if mark == self._mark:
            return
        self._mark = mark
        try:
            self._judge = judge = await asyncio.to_thread(self._read)
        except BadRules as error:
            log.warning("moderation rules stay at version %d: %s", before.rules.version, error)
            return
        same = " though the file has changed: give it another" if judge.rules.version == before.rules.version else ""
        log.info("moderation rules %s: version %d is in force%s", self._rules, judge.rules.version, same)

    def _state(self) -> tuple[int, ...]:
        if not isinstance(self._rules, Path):
            return ()
        try:
            found = self._rules.stat()
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> Judge:
        match self._rules:
            case None:
                return _shipped()
            case Path():
                return judge_of(load_rules(self._rules))
        return judge_of(self._rules)


def judge_of(rules: ModerationRules) -> Judge:
    """The rules made ready."""
    return Judge(matcher_of(rules))


@lru_cache(maxsize=1)
def _shipped() -> Judge:
    return judge_of(default_rules())
