"""How a model call can fail, and which of the failures another try may mend."""

from enum import StrEnum

from callstream.agents.inference.call import CallFailed


class Kind(StrEnum):
    """The fixed set of `CallFailed.kind`."""

    OVERLOADED = "overloaded"
    """429, or our own queue for the endpoint is full."""
    UNAVAILABLE = "unavailable"
    """5xx: the endpoint is there and does not work."""
    UNREACHABLE = "unreachable"
    """No connection, or one that broke before the answer."""
    TIMEOUT = "timeout"
    """No answer in the time that the endpoint or the step allows."""
    BROKEN_REPLY = "broken-reply"
    """An answer that is no chat completion: not JSON, cut off, too large, without text."""
    STOPPING = "stopping"
    """The worker is being stopped."""
    REFUSED = "refused"
    """The endpoint will never take this request: bad request, bad key, unknown model, no credit."""
    REFUSED_BY_POLICY = "refused-by-policy"
    """The endpoint's content filter stopped the prompt or the answer."""
    CONTEXT_TOO_LONG = "context-too-long"
    """The prompt does not fit the model."""
    REPLY_TOO_LONG = "reply-too-long"
    """A text longer than a receipt may be."""
    DEADLINE = "deadline"
    """The task's deadline has passed."""
    UNKNOWN_POOL = "unknown-pool"
    """No pool of that name is configured."""


UNPAID = frozenset({Kind.OVERLOADED, Kind.UNAVAILABLE, Kind.REFUSED, Kind.CONTEXT_TOO_LONG})
"""What an endpoint answers with an error of its own, it does not charge for."""
RETRYABLE = frozenset(
    {Kind.OVERLOADED, Kind.UNAVAILABLE, Kind.UNREACHABLE, Kind.TIMEOUT, Kind.BROKEN_REPLY, Kind.STOPPING}
)


def failed(kind: Kind, message: str, after_seconds: float | None = None) -> CallFailed:
    """The failure of that kind, retryable if another try may mend it."""
    return CallFailed(str(kind), message, after_seconds, retryable=kind in RETRYABLE)
