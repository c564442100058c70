"""The one call type that every layer of inference takes and gives back.

`Model` is a function from a Call to a Reply. A layer is a function from a Model to a Model; `stack.py` composes them
and says why in that order.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from callstream.streams.chain import Cell
from callstream.streams.event import Json, Priority, Usage


class Leave(Protocol):
    """Leave to send a call, as long as it is good. `sent` is set once its last byte leaves."""

    sent: bool

    async def place(self) -> None:
        """Take a place at the endpoint. Raises when the call must not be sent any more."""

    def require(self) -> None:
        """Raises when the call must not be sent any more. Asked when its last byte is about to leave."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a model. `id` is the same whenever the same step of the same task calls again.

    `request` is the body of an OpenAI chat completion without `model`; `deadline` is epoch seconds.
    `cell` is where the receipt is kept; `traceparent` the span that the call belongs to. `timeout_seconds` bounds each
    request, and no wait for leave to send it. `again`: its step was tried before, so that its first request is a retry.
    `first`: it goes before others of its tenant and lane whose deadline is later. `needs_seconds` is what is left to do
    for the task from here on: with less time it is not sent. The others are set by layers on the way in: the number of
    the request, the endpoint's name, which flight of which worker process carries it, the endpoints that have failed
    it, those that must not have it, the leave to send it, and whether it is asked a second time because it takes long.
    """

    id: str
    tenant: str
    task: str
    pool: str
    request: Json
    cell: Cell
    deadline: float | None = None
    traceparent: str | None = None
    timeout_seconds: float = 60.0
    priority: Priority = Priority.NORMAL
    again: bool = False
    first: bool = False
    needs_seconds: float = 0.0
    attempt: int = 1
    endpoint: str | None = None
    flight: str = ""
    tried: frozenset[str] = frozenset()
    avoid: frozenset[str] = frozenset()
    permit: Leave | None = None
    second: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's answer: the text of its first choice, the reason why it stopped, what it took, remarks for people."""

    text: str
    finish_reason: str = "stop"
    usage: Usage = field(default_factory=Usage)
    notes: tuple[str, ...] = ()


class CallFailed(Exception):
    """A call that got no answer. `kind` is one of a fixed set; `after_seconds` is what the endpoint asked to wait.

    `endpoint` is the one that failed it, if it came so far.
    """

    endpoint: str = ""

    def __init__(self, kind: str, message: str, after_seconds: float | None = None, retryable: bool = True) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.after_seconds = after_seconds
        self.retryable = retryable


def times(count: int) -> str:
    """How often, in words for people.

    >>> times(1), times(3)
    ('once', '3 times')
    """
    return "once" if count == 1 else f"{count} times"


Model = Callable[[Call], Awaitable[Reply]]
Layer = Callable[[Model], Model]
