"""The unfinished offsets of the partitions that an actor reads, and what may be acknowledged of them.

Words: a *ticket* stands for one event taken from a partition; it is *finished* when everything the event caused is on
the log; it is *released* (may be acknowledged) when it and all before it in its partition are finished; it is *void*
once its partition was revoked: finishing it then releases nothing, because the next owner will do the work again.
"""

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

Token = TypeVar("Token")


@dataclass(slots=True, eq=False)
class Ticket(Generic[Token]):
    """One event taken: its partition, its offset there, and the caller's own token (the event to acknowledge)."""

    partition: Hashable
    offset: int
    token: Token
    finished: bool = False
    void: bool = False


@dataclass(frozen=True, slots=True)
class LedgerSnapshot:
    """Unfinished tickets and the lowest unfinished offset of each partition."""

    taken: int
    lowest: dict[Hashable, int]


class Ledger(Generic[Token]):
    """Takes events in the order of their offsets, lets them finish in any order, releases them in offset order.

    Offsets may have gaps (compaction, transaction markers). A reader that goes back without a revocation brings again
    what was taken before: those tickets stand, and no second one is made. If it goes back behind where it began, it
    began too late: the partition's tickets become void and it starts anew.
    """

    def __init__(self) -> None:
        self._open: dict[Hashable, deque[Ticket[Token]]] = {}
        self._range: dict[Hashable, tuple[int, int]] = {}
        self._taken = 0

    def __len__(self) -> int:
        """Tickets taken and neither released nor void: what the actor answers for at this moment."""
        return self._taken

    def take(self, partition: Hashable, offset: int, token: Token) -> Ticket[Token] | None:
        """Enter an event; None if it was taken before. Raises ValueError for a negative offset."""
        if offset < 0:
            raise ValueError(f"offset {offset} of {partition} is negative")
        first, latest = self._range.get(partition, (offset, -1))
        if offset < first:
            self.revoke([partition])
            first = offset
        elif offset <= latest:
            return None
        self._range[partition] = (first, offset)
        ticket = Ticket(partition, offset, token)
        self._open.setdefault(partition, deque()).append(ticket)
        self._taken += 1
        return ticket

    def finish(self, ticket: Ticket[Token]) -> list[Token]:
        """Mark a ticket finished and give the tokens that this releases, in offset order."""
        if ticket.void or ticket.finished:
            return []
        ticket.finished = True
        waiting = self._open[ticket.partition]
        released = []
        while waiting and waiting[0].finished:
            released.append(waiting.popleft().token)
        self._taken -= len(released)
        return released

    def revoke(self, partitions: Iterable[Hashable] | None = None) -> list[Token]:
        """Forget partitions (all, by default): their tickets are void. Gives the tokens that were unfinished."""
        gone = list(self._open if partitions is None else partitions)
        unfinished = []
        if partitions is None:
            self._range.clear()
        for partition in gone:
            self._range.pop(partition, None)
            for ticket in self._open.pop(partition, ()):
                ticket.void = True
                self._taken -= 1
                if not ticket.finished:
                    unfinished.append(ticket.token)
        return unfinished

    def snapshot(self) -> LedgerSnapshot:
        """What is open, for the console and for tests."""
        return LedgerSnapshot(self._taken, {name: waiting[0].offset for name, waiting in self._open.items() if waiting})
