"""The one call type that every layer of inference takes and gives back.

`Model` is a function from a Call to a Reply. A layer is a function from a Model to a Model; `stack.py` composes them
and says why in that order.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from callstream.agents.inference.choice import Choice
from callstream.streams.chain import Cell
from callstream.streams.event import Json, Priority, Usage
from callstream.streams.spend import Spend, SpendKind, Spends, summed

Api = Literal["chat/completions", "embeddings", "moderations"]
"""What an endpoint is asked for: the path behind its base URL."""
CHAT: Api = "chat/completions"


class Leave(Protocol):
    """Leave to send a call, as long as it is good. `sent` is set once its last byte leaves."""

    sent: bool

    @property
    def reserved_tokens(self) -> tuple[int, int]:
        """What it was reserved: tokens of the request and of its answer."""

    async def place(self) -> None:
        """Take a place at the endpoint. Raises when the call must not be sent any more."""

    def require(self) -> None:
        """Raises when the call must not be sent any more. Asked when its last byte is about to leave."""


@dataclass(eq=False, slots=True)
class Waits:
    """How many seconds a call has waited at gates until now, whatever came of it in between."""

    seconds: float = 0.0


LOSERS = {SpendKind.ANSWER, SpendKind.CANCELLED}


@dataclass(eq=False, slots=True)
class Bill:
    """What the requests of one call have cost until now, each with whether it was the second of two."""

    entries: list[tuple[Spend, bool]] = field(default_factory=list)

    def add(self, spend: Spend, second: bool) -> None:
        """One more request is over."""
        self.entries.append((spend, second))

    def lose(self, second: bool) -> None:
        """Of two that were sent, the second, or else the first, was not waited for."""
        self._rename(lambda one, its: SpendKind.HEDGE_LOSER if its is second and one.kind in LOSERS else one.kind)

    def close(self, repair: bool) -> Spends:
        """The whole, once the call has its answer or its failure: what was cut before that took too long."""
        kinds = {SpendKind.CANCELLED: SpendKind.FAILED} | ({SpendKind.ANSWER: SpendKind.REPAIR} if repair else {})
        self._rename(lambda one, _: kinds.get(one.kind, one.kind))
        return self.whole

    @property
    def whole(self) -> Spends:
        """All of it."""
        return summed(spend for spend, _ in self.entries)

    def _rename(self, kind: Callable[[Spend, bool], SpendKind]) -> None:
        self.entries[:] = [(one.as_kind(kind(one, second)), second) for one, second in self.entries]


class Draft:
    """What has come of an answer until now. `version` grows with each change.

    `begun` is how much of it the latest request goes on from, `dropped` how much was given up: in characters.
    `in_vain` counts requests that went on from it and brought nothing.
    """

    __slots__ = ("_before", "_is_old", "_pieces", "begun", "dropped", "in_vain", "version")

    def __init__(self, text: str = "") -> None:
        self._pieces = [text]
        self._is_old = False
        self._before = self.version = self.begun = self.dropped = self.in_vain = 0

    @property
    def text(self) -> str:
        """All of it, of an earlier request's answer as long as nothing has taken its place."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0]

    @property
    def answer(self) -> str:
        """What there is of the answer to the latest request."""
        return "" if self._is_old else self.text

    def begin(self, goes_on: bool) -> str:
        """A request is sent: what it goes on from, if it can; else what there was stays until more has come."""
        self._is_old = not goes_on and self.text != ""
        self.begun, self._before = len(self.answer), self.version
        return self.answer

    def failed(self) -> None:
        """The latest request got no whole answer."""
        self.in_vain = self.in_vain + 1 if self.begun and self.version == self._before else 0

    def give_up(self) -> None:
        """What there was is of no use any more."""
        self.dropped += len(self.text)
        self._pieces, self._is_old, self.begun, self.version = [""], False, 0, self.version + 1

    def add(self, text: str) -> None:
        """More has come."""
        if self._is_old:
            self.give_up()
        self._pieces.append(text)
        self.version += 1


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a model. `id` is the same whenever the same step of the same task calls again.

    `request` is the body of an OpenAI request without `model`, of a chat completion unless `api` says otherwise;
    `deadline` is epoch seconds.
    `cell` is where the receipt is kept; `traceparent` the span that the call belongs to. `timeout_seconds` bounds each
    request, and no wait for leave to send it. `again`: its step was tried before, so that its first request is a retry.
    `first`: it goes before others of its tenant and lane whose deadline is later. `needs_seconds` is what is left to do
    for the task from here on: with less time it is not sent. `about` is what rules may look at (`choice.about`):
    without it, the tenant, the task and the request's length. The others are set by layers on the way in: the number of
    the request, the endpoint's name, which flight of which worker process carries it, the endpoints that have failed
    it, those that must not have it, what rules chose for it, the leave to send it, and whether it is asked a second
    time because it takes long.
    `waits` goes with the call through all of them, and counts on, as does `bill`. `repair`: it is asked since an
    earlier answer could not be used. `chain` and `round` are those of the task's event: who pays, and which taking of
    a step tells of it.
    `stream`: the answer is asked for piece by piece, and kept in its `draft` as it comes; `shown`: those who follow the
    task are told of it, too.
    """

    id: str
    tenant: str
    task: str
    pool: str
    request: Json
    cell: Cell
    api: Api = CHAT
    deadline: float | None = None
    traceparent: str | None = None
    timeout_seconds: float = 60.0
    priority: Priority = Priority.NORMAL
    again: bool = False
    first: bool = False
    needs_seconds: float = 0.0
    about: Callable[[], Json] | None = field(default=None, repr=False, compare=False)
    attempt: int = 1
    endpoint: str | None = None
    flight: str = ""
    tried: frozenset[str] = frozenset()
    avoid: frozenset[str] = frozenset()
    choice: Choice | None = None
    permit: Leave | None = None
    second: bool = False
    waits: Waits = field(default_factory=Waits, compare=False)
    bill: Bill = field(default_factory=Bill, compare=False)
    repair: bool = False
    chain: str = ""
    round: str = ""
    stream: bool = False
    shown: bool = False
    draft: Draft = field(default_factory=Draft, compare=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's answer: the text of its first choice, the reason why it stopped, what it took, remarks for people.

    `spends` is what all requests of this call cost, if it was paid for now and not answered from its receipt.

    Of embeddings and moderations the text is JSON: `{"embeddings": [[…], …]}`, or `{"results": [{"flagged",
    "categories", "scores"}, …]}`, one for each input in its order.
    """

    text: str
    finish_reason: str = "stop"
    usage: Usage = field(default_factory=Usage)
    notes: tuple[str, ...] = ()
    spends: Spends = ()


class CallFailed(Exception):
    """A call that got no answer. `kind` is one of a fixed set; `after_seconds` is what the endpoint asked to wait.

    `endpoint` is the one that failed it, if it came so far; `spends` what its requests cost, None if nobody can tell.
    """

    endpoint: str = ""
    spends: Spends | None = None

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
