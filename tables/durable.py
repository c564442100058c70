"""A Faust table whose writes can be awaited and refused: the only kind of table that callstream keeps.

Faust writes RocksDB first and the changelog some time later, and a write that comes after a revocation opens the
partition's database again. Here a write names its claim, is refused when the claim no longer stands, and is done only
when the changelog has it.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import faust
from faust.stores.rocksdb import Store
from faust.types import TP, CollectionT, StoreT

from callstream.streams import strict_json
from callstream.streams.disk import DiskUnusable, unusable
from callstream.streams.engine import ServiceApp
from callstream.streams.event import Json
from callstream.streams.ownership import Claim
from callstream.tables.copies import STAMP_KEY
from callstream.tables.rows import Rows

OFFSET_KEY = b"__faust\0offset__"
MOST_COUNTED = 2_000


def store_options(block_cache_bytes: int = 1 << 20, write_buffer_bytes: int = 1 << 20) -> dict[str, Any]:
    """RocksDB settings of one partition's database. Faust's own defaults are 2 GiB and 3 x 64 MiB for each."""
    return {
        "driver": "rocksdict",
        "block_cache_size": block_cache_bytes,
        "write_buffer_size": write_buffer_bytes,
        "max_write_buffer_number": 2,
        "max_open_files": 64,
    }


def broken(app: ServiceApp, table: str, error: Exception) -> DiskUnusable:
    """End the worker, since a table's database on this disk cannot be used any more; gives the failure."""
    failure = unusable(f"table {table}", app.conf.tabledir, error)
    app.fail(failure)
    return failure


class Readable:
    """A Faust table's rows as this worker has them, by partition."""

    data: Any

    def read(self, partition: int, key: bytes) -> bytes | None:
        """The row as this worker has it, or None. Raises DiskUnusable."""
        try:
            value: bytes | None = self._database(partition).get(key)
        except Exception as error:
            raise self._failed(error) from None
        return value

    def scan(self, partition: int, after: bytes = b"", most: int = 100) -> Iterator[tuple[bytes, bytes]]:
        """Up to `most` rows of one partition in key order, beginning behind `after`."""
        rows = self._database(partition).items(from_key=after or None)
        for key, value in rows:
            if key in (OFFSET_KEY, STAMP_KEY, after):
                continue
            if most <= 0:
                return
            most -= 1
            yield key, value

    def open_partitions(self) -> list[int]:
        """Partitions whose rows this worker holds."""
        raise NotImplementedError

    def size(self, partition: int) -> tuple[int, int, int | None]:
        """Rows of a partition, its bytes on disk and in memory, the last changelog offset applied.

        Rows are counted up to `MOST_COUNTED`; beyond, RocksDB's estimate is given, which counts overwrites too.
        """
        database = self._database(partition)
        keys = sum(1 for _ in self.scan(partition, most=MOST_COUNTED))
        if keys == MOST_COUNTED:
            keys = max(keys, int(database.property_value("rocksdb.estimate-num-keys") or 0))
        disk = int(database.property_value("rocksdb.live-sst-files-size") or 0)
        memory = int(database.property_value("rocksdb.cur-size-all-mem-tables") or 0)
        raw = database.get(OFFSET_KEY)
        return keys, disk + memory, None if raw is None else int(raw)

    def _failed(self, error: Exception) -> DiskUnusable:
        """What to raise when the database on this disk has raised that."""
        raise NotImplementedError

    def _database(self, partition: int) -> Any:
        return cast(Store, self.data)._db_for_partition(partition)


class DurableStore(Store):
    """A table's databases on this disk, one a partition."""

    def revoke_partitions(self, table: CollectionT, tps: set[TP]) -> None:
        """Close what is open of these.

        Faust collects garbage at each rebalance of each table, to have databases closed, also where none is open: that
        was a quarter of a worker's start.
        """
        if any(tp.topic in table.changelog_topic.topics and tp.partition in self._dbs for tp in tps):
            super().revoke_partitions(table, tps)


class DurableTable(Readable, faust.Table[bytes, bytes]):
    """Bytes to bytes, by partition."""

    app: ServiceApp
    _broken: DiskUnusable | None = None

    def _new_store_by_url(self, url: Any) -> StoreT[bytes, bytes]:
        return DurableStore(
            url,
            self.app,
            self,
            table_name=self.name,
            key_type=self.key_type,
            key_serializer=self.key_serializer,
            value_serializer=self.value_serializer,
            value_type=self.value_type,
            loop=self.loop,
            options=self.options,
        )

    async def write(self, claim: Claim, key: bytes, value: bytes | None) -> None:
        """Set a row (None deletes it) and wait until the changelog has it.

        Raises LostOwnership when the claim no longer stands, LogUnavailable when the broker does not take the change,
        DiskUnusable when this disk does not, or did not take an earlier one.
        """
        self.app.ownership.require(claim)
        if self._broken is not None:
            raise self._broken
        topic, partition = self.changelog_topic_name, claim.partition
        change = await self.app.enqueue(topic, partition, key, value)
        # From here to the database nothing waits: what is on the changelog before an offset is also in the database.
        self.app.ownership.require(claim)
        try:
            database = self._database(partition)
            if value is None:
                database.delete(key)
            else:
                database.put(key, value)
        except Exception as error:
            raise self._failed(error) from None
        offset = await self.app.delivered(change, f"table {self.name}")
        self._has_up_to(topic, claim, offset)

    def _has_up_to(self, topic: str, claim: Claim, offset: int) -> None:
        """Where the next recovery on this disk begins.

        Not behind a change that is on the changelog and not in the database, as after a write that failed or was
        refused: then it stays where it was.
        """
        ownership = self.app.ownership
        if self._broken is not None or claim.epoch != ownership.epoch or claim.partition not in ownership.owned:
            return
        try:
            self.data.set_persisted_offset(TP(topic, claim.partition), offset)
        except Exception as error:
            raise self._failed(error) from None

    def _failed(self, error: Exception) -> DiskUnusable:
        if self._broken is None:
            self._broken = broken(self.app, self.name, error)
        return self._broken

    def open_partitions(self) -> list[int]:
        """Partitions whose rows this worker holds: none before they are recovered.

        A change that was written meanwhile would let the next recovery begin behind it.
        """
        if self.app.rebalancing or self.app.in_recovery:
            return []
        return sorted(self.app.ownership.owned)

    def claim(self, partition: int) -> Claim:
        """A claim on a partition as it is owned now."""
        return self.app.ownership.claim(partition)


@dataclass(slots=True)
class TableCell:
    """One task's row, as JSON, under the claim of the event that is worked on.

    A saved row carries `at`, the moment it was saved (epoch seconds): rows are swept by it.
    """

    table: Rows
    claim: Claim
    key: bytes
    _value: Json | None = None
    _loaded: bool = False

    @property
    def value(self) -> Json | None:
        """The row as it stands, or None."""
        if not self._loaded:
            raw = self.table.read(self.claim.partition, self.key)
            self._value = None if raw is None else strict_json.unpack(raw)
            self._loaded = True
        return self._value

    async def save(self, value: Json) -> None:
        """Write the row and wait until the log has it. Raises LostOwnership, LogUnavailable."""
        row = {**value, "at": time.time()}
        await self.table.write(self.claim, self.key, strict_json.dumps(row))
        self._value, self._loaded = row, True


@dataclass(slots=True)
class NoCell:
    """The memory of a service that keeps none."""

    @property
    def value(self) -> Json | None:
        """Always None."""
        return None

    async def save(self, value: Json) -> None:
        """Raises TypeError: a step that needs memory runs on a service that has a table."""
        raise TypeError("this service keeps no table, so a step on it has no state to save")
