"""What a step may know of the time that is left to it, without a clock of its own."""

from contextvars import ContextVar
from dataclasses import dataclass

from callstream.streams.within import Within


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


def hasten(given: Haste) -> Within[Haste]:
    """What runs in here is in such haste."""
    return Within(_current, given)
