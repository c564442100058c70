"""A store in memory, which tests stop and start."""

from collections.abc import Sequence

from callstream.agents.delivery.sink import Away, Entry, Refused
from callstream.agents.delivery.versions import Versions, put, standing, without, wrote
from callstream.streams.event import Json


class MemorySink:
    """Keeps what is written. While it is `away` everything raises Away; `calls` counts what it was asked."""

    def __init__(self) -> None:
        self.away: Away | None = None
        self.calls = 0
        self.batches: list[list[str]] = []
        self._kept: dict[tuple[str, str], Versions] = {}

    def value(self, tenant: str, key: str) -> Json | None:
        """What stands under a key."""
        stands = standing(self._kept.get((tenant, key), ()))
        return None if stands is None else stands.value

    async def open(self) -> None:
        """Nothing."""

    async def close(self) -> None:
        """Nothing."""

    async def write(self, entries: Sequence[Entry]) -> list[Refused | Away | None]:
        """Keep them, but for values that are no JSON. Raises Away."""
        self._asked()
        self.batches.append([entry.key for entry in entries])
        return [self._put(entry) for entry in entries]

    async def has(self, entry: Entry) -> bool:
        """Whether it is kept. Raises Away."""
        self._asked()
        return wrote(self._of(entry), entry.task, entry.step)

    async def undo(self, entry: Entry) -> bool:
        """Forget it. Raises Away."""
        self._asked()
        before = self._of(entry)
        self._kept[entry.tenant, entry.key] = without(before, entry.task, entry.step)
        return self._of(entry) != before

    def _put(self, entry: Entry) -> Refused | None:
        try:
            entry.raw()
        except Refused as error:
            return error
        self._kept[entry.tenant, entry.key] = put(self._of(entry), entry.version)
        return None

    def _of(self, entry: Entry) -> Versions:
        return self._kept.get((entry.tenant, entry.key), ())

    def _asked(self) -> None:
        self.calls += 1
        if self.away is not None:
            raise self.away
