"""What a step may know of the time that is left to it, without a clock of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Haste:
    """`needs_seconds` is what the step and the rest of its chain take, as far as is known; `short`: less is left."""

    needs_seconds: float = 0.0
    short: bool = False


_NONE = Haste()
_current: ContextVar[Haste] = ContextVar("haste", default=_NONE)


def haste() -> Haste:
    """That of the step that this runs for."""
    return _current.get()


@contextmanager
def hasten(given: Haste) -> Iterator[None]:
    """What runs in here is in such haste."""
    token = _current.set(given)
    try:
        yield
    finally:
        _current.reset(token)
