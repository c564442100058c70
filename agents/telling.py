"""How a step tells of what it has before it is done: set by who runs the step, so that no step has to say it."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar

from callstream.streams.within import Within

Tell = Callable[[int, str], Awaitable[None]]
"""Tells the `number`-th part, of which `text` is all until now. Raises LostOwnership, LogUnavailable."""

_current: ContextVar[Tell | None] = ContextVar("tell", default=None)


def teller() -> Tell | None:
    """That of the step that this runs for; None where nobody would hear."""
    return _current.get()


def telling(tell: Tell) -> Within[Tell | None]:
    """What runs in here may tell."""
    return Within(_current, tell)
