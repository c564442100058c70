"""The table `spending` in memory, for tests of admission."""

import asyncio

from callstream.streams.ownership import LostOwnership
from callstream.streams.wire import LogUnavailable


class MemorySpending:
    """Rows that several replicas share, and what each of them owns: `SpendingRows` without a log.

    `hold()` lets writes wait until `release()`, `refuse()` makes the log take no more.
    """

    def __init__(self, log: dict[tuple[int, bytes], bytes] | None = None, owned: frozenset[int] = frozenset()) -> None:
        self.log = {} if log is None else log
        self.writes = 0
        self._owned = owned
        self._epoch = 0
        self._refused = False
        self._open = asyncio.Event()
        self._open.set()

    @property
    def epoch(self) -> int:
        """Grows with each rebalance."""
        return self._epoch

    def owned(self) -> frozenset[int]:
        """What this replica owns."""
        return self._owned

    def rebalance(self, owned: frozenset[int]) -> None:
        """Own these from now on."""
        self._owned = owned
        self._epoch += 1

    def read(self, partition: int, key: bytes) -> bytes | None:
        """A row, or None."""
        return self.log.get((partition, key))

    async def write(self, partition: int, key: bytes, value: bytes) -> None:
        """Set a row. Raises LostOwnership, LogUnavailable."""
        self._require(partition)
        await self._open.wait()
        self._require(partition)
        if self._refused:
            raise LogUnavailable("the broker did not take a change")
        self.log[partition, key] = value
        self.writes += 1

    def hold(self) -> None:
        """Let writes wait."""
        self._open.clear()

    def release(self) -> None:
        """Let the log take what waits, and what comes."""
        self._open.set()

    def refuse(self) -> None:
        """The log takes no more."""
        self._refused = True

    def _require(self, partition: int) -> None:
        if partition not in self._owned:
            raise LostOwnership(f"partition {partition} was revoked")
