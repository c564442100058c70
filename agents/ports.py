"""What an actor needs from the engine and what a role gives the actor: the seams of the loop.

The engine (`callstream.agents.engine`) stands behind `Delivery` and `Ports` with Faust and Kafka;
`callstream.agents.fakes` with lists, for tests.
"""

from asyncio import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from callstream.streams.chain import Attempts, Cell
from callstream.streams.event import Event
from callstream.streams.outcome import Outcome
from callstream.streams.wire import Record


class Delivery(Protocol):
    """One record as the engine hands it over."""

    @property
    def topic(self) -> str:
        """The topic it was read from."""

    @property
    def partition(self) -> int:
        """The partition it was read from."""

    @property
    def offset(self) -> int:
        """Its offset there."""

    @property
    def key(self) -> bytes | None:
        """Its key as it came."""

    @property
    def value(self) -> bytes | None:
        """Its value as it came; None is a tombstone."""

    @property
    def headers(self) -> list[tuple[str, bytes | None]]:
        """Its headers as they came."""

    def ack(self) -> None:
        """Let the offset be committed. Called in offset order only."""


class Span(Protocol):
    """One piece of work in a trace."""

    traceparent: str

    def tag(self, name: str, value: str | int | float | bool | None) -> None:
        """Say something about it: no payloads, no secrets."""

    def error(self, error: BaseException) -> None:
        """Mark it as failed."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""


class Ports(Protocol):
    """What the engine does for an actor."""

    def partition_of(self, key: bytes) -> int:
        """The partition that every topic keeps this key in."""

    def cell(self, key: bytes, delivery: Delivery) -> Cell:
        """The service's memory of one task, valid while the worker owns the delivery's partition."""

    async def load(self, delivery: Delivery) -> bytes | None:
        """The delivery's body, fetched from the blob store where it is a claim check. Raises BadEvent."""

    async def send(self, record: Record, delivery: Delivery) -> None:
        """Produce a record to the partition of its key and wait until the broker has it.

        Raises LostOwnership when the delivery's partition is no longer ours, LogUnavailable when it can't be sent.
        """

    def span(self, name: str, event: Event) -> "Span":
        """Begin the span of one step, child of the event's own; it is a context manager."""

    def crashed(self, error: BaseException) -> None:
        """End this worker loudly, so that a supervisor starts it again."""

    def now(self) -> float:
        """Epoch seconds."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Which step an event is about to take, how often it is tried and how long one try may last.

    `keeps_deadline`: past the task's deadline it does not start; what only records or tells an end always does.
    `ends_task`: what can't be done ends the task; a failure to record it does not.
    `traced`: it is work on the task, which has its span; a look at what others did is none.
    `held_pause_seconds`: for a longer pause between tries the event goes to the timer; None: no pause does. From there
    it `comes_back_to` a topic, by default to the one that it was read from.
    `needs_seconds`: what it usually takes; 0: not known. `pays`: its row has receipts of what it paid.
    """

    step: str
    attempts: Attempts = field(default_factory=Attempts)
    timeout_seconds: float = 60.0
    keeps_deadline: bool = False
    ends_task: bool = True
    traced: bool = True
    held_pause_seconds: float | None = None
    comes_back_to: str | None = None
    needs_seconds: float = 0.0
    pays: bool = False


class Role(Protocol):
    """What makes one service differ from another."""

    @property
    def service(self) -> str:
        """Its name, as in its topic and group."""

    @property
    def stateful(self) -> bool:
        """Whether it keeps a row for each task: then events of one task take turns."""

    def policy(self, event: Event) -> Policy:
        """How this event is to be tried. Raises UnknownChain."""

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Decide. It may save its state; it can neither send nor acknowledge."""


@runtime_checkable
class Observer(Role, Protocol):
    """A role that only looks: at seven events for each task, so a look has to cost less than a step."""

    def observe(self, event: Event, state: Cell) -> Future[None]:
        """Take the event in at once; done when it may be acknowledged. What it raises, `act` raises again."""
