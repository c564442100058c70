"""Which tasks a replay takes: a rule in CEL over what their recorded events say. Pure."""

from callstream.streams.event import Event, Json
from callstream.streams.expressions import Expression, Limits

VARIABLES = ("chain", "tenant", "task", "priority", "version", "time", "input", "outputs", "state")
LIMITS = Limits(characters=2_000, loops=3)


def where(text: str) -> Expression:
    """The rule of a text over `VARIABLES`. Raises BadExpression.

    where('chain == "copy" && outputs.copy.text.contains("lawyer")')
    """
    return Expression(text, VARIABLES, LIMITS)


def values_of(event: Event, state: str) -> Json:
    """What a rule may ask about an event."""
    return {
        "chain": event.chain,
        "tenant": event.tenant,
        "task": event.task,
        "priority": str(event.priority),
        "version": event.version,
        "time": event.time,
        "input": event.input,
        "outputs": event.body.outputs,
        "state": state,
    }
