"""Cancelled tasks that wait for long: held ones are given to the review desk once more, those that the timer has are
sent to where they end.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

from callstream.agents.aside import Job
from callstream.agents.control.commands import Subject
from callstream.agents.control.controls import subject_in
from callstream.agents.lot import Parked
from callstream.agents.timer import Releaser
from callstream.streams import strict_json
from callstream.streams.topics import REVIEW, topic_of
from callstream.streams.wire import STRUCTURED_TYPE
from callstream.tables.rows import Rows

SCANNED_IN_A_ROW = 200


async def cancelled_holds(rows: Rows, wanted: Callable[[Subject | None], bool]) -> AsyncIterator[list[Job]]:
    """The held events whose tasks are wanted, as jobs without a place in any topic."""
    for partition in rows.open_partitions():
        after = b""
        while partition in rows.open_partitions():
            scanned = list(rows.scan(partition, after, SCANNED_IN_A_ROW))
            found = [
                Job(_delivery(rows, partition, key, row["held"]), None)
                for key, value in scanned
                if (row := strict_json.unpack(value))["state"] == "held"
                and wanted(Subject(row["tenant"], row["task"], row["chain"], row["since"], "held"))
            ]
            if found:
                yield found
            if len(scanned) < SCANNED_IN_A_ROW:
                break
            after = scanned[-1][0]
            await asyncio.sleep(0)


async def cancelled_timers(releaser: Releaser, wanted: Callable[[Subject | None], bool]) -> AsyncIterator[list[Job]]:
    """Have the timer send what is wanted to its step, which ends it: no job of the timer's own."""
    await releaser.release_early(lambda record: wanted(subject_in(record.headers)))
    yield []


def _delivery(rows: Rows, partition: int, key: bytes, held: object) -> Parked:
    headers: list[tuple[str, bytes | None]] = [("content-type", STRUCTURED_TYPE.encode())]
    return Parked(topic_of(REVIEW), partition, 0, key, strict_json.dumps(held), headers, rows.claim(partition))
