"""For whom a step's calls are paid: set by who runs the step, so that no step has to say it."""

from contextvars import ContextVar
from dataclasses import dataclass

from callstream.agents.inference.receipts_state import spent_by
from callstream.streams.event import Event, Json
from callstream.streams.spend import Spends
from callstream.streams.within import Within


@dataclass(frozen=True, slots=True)
class Payer:
    """The chain of the task, and which round of it tells of what was paid."""

    chain: str = ""
    round: str = ""


_NOBODY = Payer()
_current: ContextVar[Payer] = ContextVar("payer", default=_NOBODY)


def round_of(event: Event) -> str:
    """Run, generation and number of the step: whenever a step is taken anew, it tells of what it paid then."""
    return f"{event.run}.{event.body.generation}.{event.sequence}"


def spends_of(event: Event, row: Json | None) -> Spends:
    """What an event's step has paid for it until now, by its receipts in the task's row; an undo pays nothing."""
    if event.body.undoing is not None:
        return ()
    return spent_by(row, round_of(event))


def payer() -> Payer:
    """That of the step that this runs for."""
    return _current.get()


def paid_for(event: Event) -> Within[Payer]:
    """Calls in here are paid for this event's task."""
    return Within(_current, Payer(event.chain, round_of(event)))
