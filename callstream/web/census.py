"""How many tasks of each version of each chain have not ended: counted from the table of tasks, within bounds."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from callstream.streams import strict_json
from callstream.streams.event import Json
from callstream.tables.rows import Rows

MOST_COUNTED = 1_000_000
"""Rows of one gateway that are looked at for one answer; with more the answer says that it is not all."""
ROWS_AT_ONCE = 500
UNFINISHED = ("accepted", "running", "held")
_MARKS = tuple(f'"state":"{state}"'.encode() for state in UNFINISHED)
"""How such a row has it: rows are written compactly."""

Version = tuple[str, int]


async def count_unfinished(
    rows: Rows,
    partitions: Callable[[], Iterable[int]],
    prefix: bytes,
    unwritten: Mapping[tuple[int, bytes], Json],
    most: int = MOST_COUNTED,
) -> tuple[Counter[Version], bool]:
    """Tasks that have not ended by chain and version, of those whose keys begin with `prefix`; whether those are all.

    `partitions` gives those that are here now; `unwritten` has rows that are newer than the table's.
    """
    counted: Counter[Version] = Counter()
    left = most
    for partition in sorted(partitions()):
        after = prefix
        while partition in partitions():
            page = list(rows.scan(partition, after, ROWS_AT_ONCE))
            for key, raw in page:
                if not key.startswith(prefix):
                    break
                if (partition, key) not in unwritten and any(mark in raw for mark in _MARKS):
                    _count(counted, strict_json.unpack(raw))
            left -= len(page)
            if len(page) < ROWS_AT_ONCE or not page[-1][0].startswith(prefix):
                break
            if left <= 0:
                return counted, False
            after = page[-1][0]
            await asyncio.sleep(0)
    for (_, key), row in unwritten.items():
        if key.startswith(prefix):
            _count(counted, row)
    return counted, True


def _count(counted: Counter[Version], row: Json) -> None:
    if row["state"] in UNFINISHED:
        counted[row["chain"], row["version"]] += 1
