"""What a fetch brought, read so that no record can stop its partition.

Kafka takes any bytes as the name of a header, and aiokafka raises UnicodeDecodeError for those that are not UTF-8: the
reader would never get past such a record, whoever put it there.
"""

import struct
from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint_py

_BEFORE_LENGTH = struct.calcsize(">q")
_LENGTH = struct.Struct(">i")


class EscapingText(bytearray):
    """Bytes whose parts become text always: what is not UTF-8 stands there as `\\xff`."""

    def __getitem__(self, at: Any) -> Any:
        """A part of them is of the same kind."""
        found = super().__getitem__(at)
        return EscapingText(found) if isinstance(found, bytearray) else found

    def decode(self, encoding: str = "utf-8", _errors: str = "strict") -> str:
        """The text, escaped where it is none."""
        return super().decode(encoding, "backslashreplace")


class EscapingBatch(_DefaultRecordBatchPy):  # type: ignore[misc]  # final only for its authors' type checker
    """aiokafka's reader in Python, over such bytes."""

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer: bytearray = EscapingText(self._buffer)

    def _read_msg(self, _decode_varint: Any = None) -> Any:
        return super()._read_msg(decode_varint_py)


class Batch:
    """One batch, read by aiokafka's fast reader for as long as that can, then by the one that escapes."""

    def __init__(self, batch: Any, raw: memoryview) -> None:
        self._batch = batch
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        """Everything else about it is as aiokafka says."""
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        """Each record once, in order."""
        latest = -1
        try:
            for record in self._batch:
                latest = record.offset
                yield record
        except UnicodeDecodeError:
            yield from (record for record in EscapingBatch(self._raw) if record.offset > latest)


class Records:
    """The batches of one partition's part of a fetch: takes the place of aiokafka's `MemoryRecords`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._records: Any = MemoryRecords(data)
        self._at = 0

    def size_in_bytes(self) -> int:
        """Of all that came, the beginning of a batch that was cut off at the end included."""
        return int(self._records.size_in_bytes())

    def has_next(self) -> bool:
        """Whether another whole batch is there."""
        return bool(self._records.has_next())

    def next_batch(self) -> Any:
        """The next batch, None after the last."""
        batch = self._records.next_batch()
        start = self._at
        if batch is not None:
            length: int = _LENGTH.unpack_from(self._data, start + _BEFORE_LENGTH)[0]
            self._at += _BEFORE_LENGTH + _LENGTH.size + length
        if not isinstance(batch, DefaultRecordBatch):
            # Batches of the older formats have no headers.
            return batch
        return Batch(batch, memoryview(self._data)[start : self._at])


def read_any_header() -> None:
    """Have every aiokafka consumer of this process read records in this way."""
    fetcher.MemoryRecords = Records
