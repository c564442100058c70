"""The table `spending` of the service that calls models, as admission sees it."""

from callstream.streams.ownership import LostOwnership
from callstream.tables.durable import DurableTable


class TableSpending:
    """What was spent, by partition and account: `SpendingRows` on a Faust table."""

    def __init__(self, table: DurableTable) -> None:
        self._table = table

    @property
    def epoch(self) -> int:
        """Another number after each rebalance."""
        return self._table.app.ownership.epoch

    def owned(self) -> frozenset[int]:
        """Partitions whose rows are recovered and whose lease stands."""
        partitions = self._table.open_partitions()
        try:
            for partition in partitions[:1]:
                self._table.app.ownership.require(self._table.claim(partition))
        except LostOwnership:
            return frozenset()
        return frozenset(partitions)

    def read(self, partition: int, key: bytes) -> bytes | None:
        """A row, or None."""
        return self._table.read(partition, key)

    async def write(self, partition: int, key: bytes, value: bytes) -> None:
        """Set a row and wait until the log has it. Raises LostOwnership, LogUnavailable."""
        await self._table.write(self._table.claim(partition), key, value)
