"""A table in memory, for tests of the folds of this layer."""

import asyncio
from collections.abc import Iterator

from callstream.streams.ownership import Claim, LostOwnership
from callstream.streams.wire import LogUnavailable


class MemoryRows:
    """Rows that keep the order of writes in `written`.

    As in a real table a written row is there at once and on the log later: `hold()` lets writes wait until `release()`,
    `refuse()` makes the log take no more. `revoke()` voids every claim and gives the partitions anew.
    """

    def __init__(self, partitions: int = 1) -> None:
        self.written: list[tuple[bytes, bytes | None]] = []
        self.epoch = 0
        self._rows: list[dict[bytes, bytes]] = [{} for _ in range(partitions)]
        self._refused = False
        self._open = asyncio.Event()
        self._open.set()

    def read(self, partition: int, key: bytes) -> bytes | None:
        """The row, or None."""
        return self._rows[partition].get(key)

    async def write(self, claim: Claim, key: bytes, value: bytes | None) -> None:
        """Keep the row, and wait until writes are not held. Raises LostOwnership, LogUnavailable."""
        if claim.epoch != self.epoch:
            raise LostOwnership(f"partition {claim.partition} was revoked")
        if value is None:
            self._rows[claim.partition].pop(key, None)
        else:
            self._rows[claim.partition][key] = value
        await self._open.wait()
        if self._refused:
            raise LogUnavailable("the broker did not take a change")
        self.written.append((key, value))

    def scan(self, partition: int, after: bytes = b"", most: int = 100) -> Iterator[tuple[bytes, bytes]]:
        """Up to `most` rows in key order, behind `after`."""
        yield from sorted(row for row in self._rows[partition].items() if row[0] > after)[:most]

    def open_partitions(self) -> list[int]:
        """All of them."""
        return list(range(len(self._rows)))

    def claim(self, partition: int) -> Claim:
        """A claim that stands until the next `revoke`."""
        return Claim(partition, self.epoch)

    def hold(self) -> None:
        """Let writes wait for the log from now on."""
        self._open.clear()

    def release(self) -> None:
        """Let the log take what waits, and what comes."""
        self._open.set()

    def refuse(self) -> None:
        """The log takes no more."""
        self._refused = True

    def revoke(self) -> None:
        """Void what was claimed."""
        self.epoch += 1
