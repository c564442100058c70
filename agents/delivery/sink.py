"""Where results are written: the port that every store stands behind, and what is handed through it.

One contract holds for all (`tests/system/test_sinks.py`): a write is there once however often it arrives, an older one
never replaces a newer one, and what a step wrote can be taken back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

from pydantic import StringConstraints

from callstream.agents.delivery.rows import accepted_at
from callstream.agents.delivery.versions import Version
from callstream.streams import strict_json
from callstream.streams.event import Event, Json, Strict

MOST_BYTES = 1024 * 1024
"""Of one value, as JSON."""


class Refused(ValueError):
    """One entry cannot be written, and no later try will do better."""


class Away(Exception):
    """The store cannot be used just now; it may have said after how many seconds to ask again."""

    def __init__(self, message: str, after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.after_seconds = after_seconds


class SinkRow(Strict):
    """What a task writes: a JSON object under a key that is unique within its tenant."""

    key: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    value: Json


@dataclass(frozen=True, slots=True)
class Entry:
    """What one step of a task writes, or has written.

    `keeps`: what it replaces is kept, so that it can be taken back. `began`: when the step did, epoch seconds.
    """

    event: Event
    step: str
    key: str
    value: Json
    keeps: bool = False
    began: float = 0.0

    @property
    def tenant(self) -> str:
        """Whose it is."""
        return self.event.tenant

    @property
    def task(self) -> str:
        """The task that writes it."""
        return self.event.task

    @property
    def order(self) -> str:
        """Compared as text: of two writes, which is newer, by when the task was accepted, then task, run and step."""
        return f"{accepted_at(self.event):020.6f}|{self.task}|{self.event.run:06d}|{self.event.sequence:05d}"

    @property
    def write(self) -> str:
        """Names the write of a step of a task, whichever attempt makes it."""
        return f"{self.event.key.decode()}/{self.step}"

    @property
    def id(self) -> str:
        """Names this content of it: a step that is taken in another round or run writes another one."""
        run = f"/run-{self.event.run}" if self.event.run else ""
        return f"{self.write}/{self.event.sequence}{run}"

    @property
    def version(self) -> Version:
        """As what is kept of a key has it."""
        return Version(self.order, self.task, self.step, self.keeps, self.value)

    def raw(self) -> bytes:
        """The value as JSON. Raises Refused."""
        try:
            raw = strict_json.dumps(self.value)
        except ValueError as error:
            raise Refused(f"value: {error}"[:500]) from None
        if len(raw) > MOST_BYTES:
            raise Refused(f"value: {len(raw):,} bytes; at most {MOST_BYTES:,} are written")
        return raw


class Sink(Protocol):
    """A store. What cannot be reached raises Away; all that it leaves to its caller is when to ask again."""

    async def open(self) -> None:
        """Make ready, before the first of the others. Raises Away; then it may be called again."""

    async def close(self) -> None:
        """Give back what it took."""

    async def write(self, entries: Sequence[Entry]) -> Sequence[Refused | Away | None]:
        """Write them, several of one key too; what became of each, None: it is there, or one newer is.

        Raises Away where nothing became of any.
        """

    async def has(self, entry: Entry) -> bool:
        """Whether the write of this step is there, or may stand there again. Raises Away."""

    async def undo(self, entry: Entry) -> bool:
        """Take back what the step wrote under that key, whatever the entry's value is.

        The newest that is left stands then. False: there was nothing to take back. Raises Away, and Refused where it
        can never be.
        """
