"""Submissions of the last minutes, bounded in number and time: two that race are told apart before the table can."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from callstream.streams.event import Json
from callstream.web.port import Unavailable

_MOST_LOOKED_AT = 64
"""Entries looked at to make room for one: enough to shrink after a burst, too few to be felt."""


@dataclass(eq=False)
class Entry:
    """One submission: what it says (`digest`), the row that its caller sees until the table has one."""

    digest: str
    row: Json
    until: float
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    logged: bool = False


class Recent:
    """The latest submissions by task key."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float]) -> None:
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> Entry | None:
        """What is remembered under a key."""
        entry = self._entries.get(key)
        return entry if entry is not None and (entry.until > self._clock() or not entry.settled.is_set()) else None

    def row(self, key: bytes) -> Json | None:
        """The row of a submission that is on the log."""
        entry = self.get(key)
        return entry.row if entry is not None and entry.logged else None

    @contextmanager
    def submitting(self, key: bytes, digest: str, row: Json) -> Iterator[Entry]:
        """Remember a submission while it is handed in, and afterwards if `logged` was set; else forget it.

        Raises Unavailable when too many are unfinished to make room.
        """
        self._make_room()
        entry = Entry(digest, row, self._clock() + self._seconds)
        self._entries[key] = entry
        self._entries.move_to_end(key)
        try:
            yield entry
        finally:
            if not entry.logged and self._entries.get(key) is entry:
                del self._entries[key]
            entry.settled.set()

    def _make_room(self) -> None:
        now = self._clock()
        for _ in range(_MOST_LOOKED_AT):
            key, oldest = next(iter(self._entries.items()), (b"", None))
            if oldest is None or (oldest.until > now and len(self._entries) < self._most):
                return
            if oldest.settled.is_set():
                del self._entries[key]
            else:
                self._entries.move_to_end(key)
        if len(self._entries) >= self._most:
            raise Unavailable(f"{self._most:,} submissions are under way")
