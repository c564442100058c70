"""What the folds of this layer need of a table: the seam between them and Faust's tables."""

from collections.abc import Iterator
from typing import Protocol

from callstream.streams.ownership import Claim


class Rows(Protocol):
    """Bytes to bytes, by partition: `durable.DurableTable` on Faust and Kafka, `fakes.MemoryRows` in memory."""

    def read(self, partition: int, key: bytes) -> bytes | None:
        """The row as this worker has it, or None."""

    async def write(self, claim: Claim, key: bytes, value: bytes | None) -> None:
        """Set a row (None deletes it) and wait until the log has it. Raises LostOwnership, LogUnavailable."""

    def scan(self, partition: int, after: bytes = b"", most: int = 100) -> Iterator[tuple[bytes, bytes]]:
        """Up to `most` rows of one partition in key order, beginning behind `after`."""

    def open_partitions(self) -> list[int]:
        """Partitions whose rows this worker holds."""

    def claim(self, partition: int) -> Claim:
        """A claim on a partition as it is owned now."""
