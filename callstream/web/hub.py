"""Changes of tasks, handed to everyone who listens, with bounds: nobody's slowness costs memory or holds up others.

The port calls `Hub.publish` whenever a task's row changed. A listener has one bounded queue (`Listener`), however many
filters it follows; when it overflows, the listener is told that it lagged and has to come again with its last cursor.
"""

import asyncio
from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

from callstream.streams import strict_json
from callstream.streams.event import Json


class Lagged(Exception):
    """The listener did not read as fast as updates came: its queue is full and it gets no more."""


class Closed(Exception):
    """The gateway stops; no more updates come from it."""


@dataclass(frozen=True, slots=True)
class Update:
    """A task's row changed. `sequence` counts the steps of its chain done; `row` is the row of table `tasks` now."""

    tenant: str
    task: str
    chain: str
    state: str
    sequence: int
    row: Json


@dataclass(frozen=True, slots=True)
class Message:
    """An update with its place among all: `data` is what a client gets, JSON with every member and the cursor."""

    number: int
    cursor: str
    update: Update
    data: bytes


@dataclass(frozen=True, slots=True)
class Filter:
    """One task of a tenant, or all tasks of one chain: of one tenant, or of all if `tenant` is None."""

    tenant: str | None
    task: str | None = None
    chain: str | None = None

    @property
    def place(self) -> Hashable:
        """Where the hub files it."""
        return (self.tenant, self.task) if self.task is not None else self.chain

    def takes(self, update: Update) -> bool:
        """Whether the update is one of those asked for."""
        if self.tenant is not None and self.tenant != update.tenant:
            return False
        return self.task == update.task if self.task is not None else self.chain == update.chain


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a queue, and the memory of recent updates, may hold."""

    messages: int
    size_bytes: int


def encode(update: Update, cursor: str) -> bytes:
    """What a client gets: JSON with every member of the update and its cursor."""
    members = {
        "cursor": cursor,
        "tenant": update.tenant,
        "task": update.task,
        "chain": update.chain,
        "state": update.state,
        "sequence": update.sequence,
        "row": update.row,
    }
    return strict_json.pack(members)


RECENT_CURSOR = "recent"
"""Stands for the cursor of the oldest update that is still remembered."""

RECENT = Bounds(2_000, 16 * 1024 * 1024)


class Listener:
    """One client's queue of updates. Close it, or use it as a context manager."""

    def __init__(self, hub: "Hub", bounds: Bounds) -> None:
        self._hub = hub
        self._bounds = bounds
        self._queue: deque[Message] = deque()
        self._size = 0
        self._lagged = False
        self._stopped = False
        self._ready = asyncio.Event()
        self.filters: set[Filter] = set()

    @property
    def waiting(self) -> int:
        """How many updates are queued."""
        return len(self._queue)

    def follow(self, wanted: Filter, after: str | None = None) -> bool:
        """Take updates that fit, first those since the cursor `after`. False if some of them can't be told any more.

        They are too many if they fill half of the queue's room: then the latest come, since the next overflow it.
        """
        since = self._hub.since(after)
        self.filters.add(wanted)
        self._hub.file(wanted, self)
        missed = [message for message in since or () if wanted.takes(message.update)]
        told = self._latest(missed)
        for message in told:
            self.offer(message)
        return since is not None and len(told) == len(missed) and after != RECENT_CURSOR

    def leave(self, wanted: Filter) -> None:
        """Take no more updates of that filter."""
        self.filters.discard(wanted)
        self._hub.unfile(wanted, self)

    def offer(self, message: Message) -> None:
        """Queue a message; with the queue full, drop them all and say so at the next `next`."""
        if self._lagged:
            return
        full = len(self._queue) >= self._bounds.messages
        if full or (self._queue and self._size + len(message.data) > self._bounds.size_bytes):
            self._lagged = True
            self._queue.clear()
        else:
            self._queue.append(message)
            self._size += len(message.data)
        self._ready.set()

    async def next(self, timeout_seconds: float) -> Message | None:
        """The next update, or None if none came in that time. Raises Lagged or Closed."""
        if not (self._queue or self._lagged or self._stopped):
            self._ready.clear()
            try:
                async with asyncio.timeout(timeout_seconds):
                    await self._ready.wait()
            except TimeoutError:
                return None
        if self._lagged:
            raise Lagged(f"more than {self._bounds.messages} updates were waiting to be read")
        if not self._queue:
            raise Closed("the gateway stops")
        message = self._queue.popleft()
        self._size -= len(message.data)
        return message

    def stop(self) -> None:
        """Let `next` give what is queued and then raise Closed."""
        self._stopped = True
        self._ready.set()

    def _latest(self, messages: list[Message]) -> list[Message]:
        """The last of them that fit into half of the room that the queue has left."""
        count = (self._bounds.messages - len(self._queue)) // 2
        size = (self._bounds.size_bytes - self._size) // 2
        told: list[Message] = []
        for message in reversed(messages[-count:] if count > 0 else []):
            size -= len(message.data)
            if size < 0:
                break
            told.append(message)
        return told[::-1]

    def close(self) -> None:
        """Leave the hub and forget what is queued."""
        for wanted in tuple(self.filters):
            self.leave(wanted)
        self._queue.clear()

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Hub:
    """All listeners of this gateway and the latest updates, for those who come back with a cursor."""

    def __init__(self, epoch: str, recent: Bounds = RECENT) -> None:
        """`epoch` names this run of the gateway: a cursor of another run cannot be resumed from."""
        self._epoch = epoch
        self._bounds = recent
        self._recent: deque[Message] = deque()
        self._size = 0
        self._number = 0
        self._places: dict[Hashable, dict[Listener, Filter]] = {}

    @property
    def position(self) -> str:
        """The cursor of the latest update."""
        return f"{self._epoch}-{self._number}"

    @property
    def followed(self) -> int:
        """How many tasks and chains somebody follows."""
        return len(self._places)

    def publish(self, update: Update) -> None:
        """Hand an update to everyone who asked for it."""
        self._number += 1
        cursor = self.position
        message = Message(self._number, cursor, update, encode(update, cursor))
        self._remember(message)
        for listener in tuple(self._listeners(update)):
            listener.offer(message)

    def listener(self, bounds: Bounds) -> Listener:
        """A new client's queue, which follows nothing yet."""
        return Listener(self, bounds)

    def since(self, cursor: str | None) -> list[Message] | None:
        """Every update after that cursor (none if there is no cursor); None if that is too long ago to know."""
        if cursor is None:
            return []
        if cursor == RECENT_CURSOR:
            return list(self._recent)
        epoch, _, digits = cursor.rpartition("-")
        if epoch != self._epoch or not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
            return None
        number = int(digits)
        oldest = self._recent[0].number if self._recent else self._number + 1
        if not oldest - 1 <= number <= self._number:
            return None
        return [message for message in self._recent if message.number > number]

    def file(self, wanted: Filter, listener: Listener) -> None:
        """Note who wants what (called by Listener)."""
        self._places.setdefault((wanted.place, wanted.tenant), {})[listener] = wanted

    def unfile(self, wanted: Filter, listener: Listener) -> None:
        """Forget who wanted what (called by Listener)."""
        place = (wanted.place, wanted.tenant)
        listeners = self._places.get(place, {})
        listeners.pop(listener, None)
        if not listeners:
            self._places.pop(place, None)

    def _listeners(self, update: Update) -> Iterator[Listener]:
        seen: set[Listener] = set()
        for place in (
            ((update.tenant, update.task), update.tenant),
            (update.chain, update.tenant),
            (update.chain, None),
        ):
            for listener in self._places.get(place, {}):
                if listener not in seen:
                    seen.add(listener)
                    yield listener

    def _remember(self, message: Message) -> None:
        self._recent.append(message)
        self._size += len(message.data)
        while len(self._recent) > self._bounds.messages or (
            len(self._recent) > 1 and self._size > self._bounds.size_bytes
        ):
            self._size -= len(self._recent.popleft().data)
