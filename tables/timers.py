"""Records that wait for their time: rows in the order of when they are due, so that the next ones are the first ones.

A row's key begins with its due time and names what it sends: the same timer that is set again, because its record was
read again, is the same row. Nothing is kept in memory for a row. Of each partition the table remembers the *front*,
up to which every row was given out: RocksDB goes over what was deleted at the beginning of a scan, row by row.
"""

import base64
import math
from dataclasses import dataclass

from callstream.streams import strict_json
from callstream.streams.event import Json
from callstream.streams.ownership import Claim
from callstream.streams.timing import Timed
from callstream.streams.wire import Record
from callstream.tables.rows import Rows

MOST_AT_ONCE = 512
MOST_BYTES_AT_ONCE = 8 * 1024 * 1024
MOST_TEXT_BYTES = 1024 * 1024
"""Of a value that stands in its row as text: escaped, a longer one might be more than a change of the table may be."""


@dataclass(frozen=True, slots=True)
class Due:
    """A row whose time has come."""

    key: bytes
    timed: Timed


@dataclass(slots=True)
class _Front:
    """Of one partition: the key behind which the next row is looked for, and when that is due (epoch microseconds)."""

    after: bytes = b""
    due: float = 0.0


class Timers:
    """The timers of one service on this worker, over its table `timers`."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._fronts: dict[Claim, _Front] = {}

    def claims(self) -> list[Claim]:
        """Claims on the partitions whose rows are here."""
        return [self._rows.claim(partition) for partition in self._rows.open_partitions()]

    async def put(self, claim: Claim, timed: Timed) -> None:
        """Keep a record until it is due; done when the log has it. Raises LostOwnership, LogUnavailable."""
        key = key_of(timed)
        await self._rows.write(claim, key, strict_json.pack(_row(timed)))
        # Now, and not before: a look at the table meanwhile would go past a row that is not there yet.
        front = self._fronts.get(claim)
        if front is not None:
            front.after = min(front.after, _before(timed.due))
            front.due = min(front.due, timed.due)

    def due(self, claim: Claim, now: float) -> list[Due]:
        """The next rows of a partition that are due at `now` (epoch seconds), earliest first, each given out once.

        Rows that were given out come again only after `forget`, or if they are set again.
        """
        front = self._fronts.setdefault(claim, _Front())
        if front.due > now * 1_000_000:
            return []
        found: list[Due] = []
        size, front.due = 0, math.inf
        for key, raw in self._rows.scan(claim.partition, front.after, MOST_AT_ONCE + 1):
            due = _due_of(key)
            if due > now * 1_000_000 or len(found) == MOST_AT_ONCE or size >= MOST_BYTES_AT_ONCE:
                front.due = due
                break
            found.append(Due(key, Timed(due, _record(strict_json.unpack(raw)))))
            size += len(raw)
            front.after = key
        return found

    def page(self, claim: Claim, after: bytes) -> list[Due]:
        """Up to `MOST_AT_ONCE` rows of a partition behind a key, whenever they are due."""
        rows = self._rows.scan(claim.partition, after, MOST_AT_ONCE)
        return [Due(key, Timed(_due_of(key), _record(strict_json.unpack(raw)))) for key, raw in rows]

    async def remove(self, claim: Claim, due: Due) -> None:
        """Its record is on the log. Raises LostOwnership, LogUnavailable."""
        await self._rows.write(claim, due.key, None)

    def forget(self) -> None:
        """The partitions go to other owners."""
        self._fronts.clear()


def key_of(timed: Timed) -> bytes:
    """Due time in hexadecimal digits, which sort as numbers do; topic and event id."""
    return f"{timed.due:016x}/{timed.id}".encode()


def _before(due: int) -> bytes:
    """What sorts before every key of that due time, and behind those of an earlier one."""
    return f"{due:016x}".encode()


def _due_of(key: bytes) -> int:
    return int(key[:16], 16)


def _row(timed: Timed) -> Json:
    """Key and value were read as an event's and are UTF-8; headers may be any bytes, of which Latin-1 keeps each."""
    record = timed.record
    is_text = len(record.value) <= MOST_TEXT_BYTES
    value = {"value": record.value.decode()} if is_text else {"base64": base64.b64encode(record.value).decode()}
    headers = [[name, raw.decode("latin-1")] for name, raw in record.headers]
    return {"topic": record.topic, "key": record.key.decode(), "headers": headers, **value}


def _record(row: Json) -> Record:
    headers = [(name, text.encode("latin-1")) for name, text in row["headers"]]
    value = row["value"].encode() if "value" in row else base64.b64decode(row["base64"])
    return Record(row["topic"], row["key"].encode(), value, headers)
