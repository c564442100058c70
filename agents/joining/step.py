"""`Join`: the step behind a fan-out. Which sub-tasks it takes, how long it waits, and what it makes of them."""

from collections.abc import Callable
from enum import StrEnum
from typing import ClassVar

from callstream.streams.chain import Step
from callstream.streams.event import Event, Json
from callstream.streams.topics import JOIN

LONGEST_WAIT_SECONDS = 7 * 24 * 3600.0
DAY = 24 * 3600.0

Pick = Callable[[list[Json], Event], Json]
"""From the sub-tasks that were taken, `{"number", "id", "result"}` each, and the task, to the step's output."""


class Take(StrEnum):
    """Which sub-tasks a join waits for."""

    ALL = "all"
    FIRST = "first"


class Join(Step):
    """Waits for the sub-tasks of the step before, holding no worker. Output: what `pick` makes of those taken, else
    `{"taken": [{"number", "id", "result"}]}` in the order of their numbers.

    `take` is "all", or "first": the first that finishes. The task fails as soon as fewer than `least` can still finish
    (by default every one of all, or one), and when fewer have after `within_seconds`; with enough, those that are there
    by then are taken. What comes later is left out.
    """

    service: ClassVar[str] = JOIN
    joins: ClassVar[bool] = True

    def __init__(
        self,
        name: str = "join",
        take: str = Take.ALL,
        least: int | None = None,
        within_seconds: float = DAY,
        pick: Pick | None = None,
    ) -> None:
        if take not in tuple(Take):
            raise ValueError(f"step {name}: take is {take!r}; it takes {' or '.join(map(repr, map(str, Take)))}")
        if least is not None and least < 1:
            raise ValueError(f"step {name}: least is {least}; at least one sub-task has to finish")
        if not 0 < within_seconds <= LONGEST_WAIT_SECONDS:
            raise ValueError(f"step {name}: within_seconds is {within_seconds}; above 0, at most 7 days")
        self.name = name
        self.take = Take(take)
        self.within_seconds = within_seconds
        self.pick = pick
        self._least = least

    def least_of(self, subtasks: int) -> int:
        """How many of so many sub-tasks have to finish."""
        if self._least is not None:
            return min(self._least, subtasks)
        return subtasks if self.take is Take.ALL else 1
