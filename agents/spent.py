"""Where the time of a step goes: how much of it was a wait for capacity, and how much went into what was repeated.

Whatever waits or repeats below a step adds to the step's account; a step that does two things at once may so have
waited longer than it took.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from callstream.streams.within import Within

Mark = tuple[float, float, float]


@dataclass(slots=True)
class Spent:
    """Seconds that a step has waited, and that went into tries that failed and the pauses after them."""

    waited: float = 0.0
    retried: float = 0.0

    def mark(self, now: float) -> Mark:
        """A try begins."""
        return now, self.waited, self.retried

    def repeat(self, mark: Mark, now: float) -> None:
        """It failed and the next one begins: what was spent since then, and is not accounted for yet, was for it."""
        began, waited, retried = mark
        self.retried += max(0.0, now - began - (self.waited - waited) - (self.retried - retried))

    def worked(self, seconds: float) -> float:
        """What is left of the seconds that a step took."""
        return max(0.0, seconds - self.waited - self.retried)


_current: ContextVar[Spent | None] = ContextVar("spent", default=None)


def tracked(mine: Spent) -> Within[Spent | None]:
    """The account for what happens in here, and in tasks that are started here."""
    return Within(_current, mine)


def spent() -> Spent:
    """The account of the step that this runs for; one that nobody looks at if it runs for none."""
    return _current.get() or Spent()


@contextmanager
def waiting() -> Iterator[None]:
    """What happens in here is a wait."""
    clock, mine = asyncio.get_running_loop().time, spent()
    began = clock()
    try:
        yield
    finally:
        mine.waited += clock() - began
