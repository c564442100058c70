"""What a sub-task knows of the tasks above it: so that a command for one of them is a command for it. Pure."""

from callstream.agents.control.commands import Subject
from callstream.streams.event import Event
from callstream.streams.wire import epoch, timestamp

ANCESTRY = "ancestry"
"""The attribute of a sub-task: when each task above it was accepted, its id and its chain, the nearest one last."""


def ancestry_for(event: Event) -> str:
    """What the sub-tasks of an event's task have there.

    >>> ancestry_for(Event("acme", "mug-1", "shop", 1, 2, body, time=10.0))
    '1970-01-01T00:00:10.000000Z/mug-1/shop'
    """
    own = f"{timestamp(event.time)}/{event.task}/{event.chain}"
    return f"{event.extensions[ANCESTRY]},{own}" if ANCESTRY in event.extensions else own


def above(tenant: str, ancestry: str) -> tuple[Subject, ...]:
    """The tasks above one of that tenant, as commands see them; what cannot be read is none."""
    try:
        parts = [one.split("/") for one in ancestry.split(",") if one]
        return tuple(Subject(tenant, task, chain, epoch(moment)) for moment, task, chain in parts)
    except (ValueError, OverflowError):
        return ()
