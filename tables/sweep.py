"""Rows that have outlived their use are deleted, a few at a time, also those that were recovered from the changelog."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from callstream.streams import strict_json
from callstream.streams.event import Json
from callstream.streams.ownership import LostOwnership
from callstream.tables.latency import decode_key
from callstream.tables.rows import Rows
from callstream.tables.tasks import ENDED
from callstream.tables.usage import expired

log = logging.getLogger("callstream.sweep")

Expired = Callable[[bytes, Json, float], bool]
ROWS_A_STEP = 200
SECONDS_BETWEEN_STEPS = 0.5


def older_than(member: str, seconds: float) -> Expired:
    """Rows whose `member` (epoch seconds) is longer ago than that; rows without it are kept."""

    def expired(_: bytes, row: Json, now: float) -> bool:
        moment = row.get(member)
        return isinstance(moment, int | float) and moment + seconds < now

    return expired


def seen_before(seconds: float) -> Expired:
    """Submissions that were seen longer ago than that; of one that is to start later, that have started."""

    def expired(_: bytes, row: Json, now: float) -> bool:
        return bool(max(row["at"], row.get("run_at") or 0.0) + seconds < now)

    return expired


def ended_before(seconds: float) -> Expired:
    """Tasks that ended longer ago than that; tasks that still run are kept however old they are."""

    def expired(_: bytes, row: Json, now: float) -> bool:
        return row["state"] in ENDED and row["updated"] + seconds < now

    return expired


def letter_over(seconds: float) -> Expired:
    """Dead letters, and their events, that died longer ago than that; jobs over letters that long after their end."""

    def expired(_: bytes, row: Json, now: float) -> bool:
        if row.get("state") in ("running", "paused"):
            return False
        moment: float = row["died"] if "died" in row else row["changed"]
        return moment + seconds < now

    return expired


def window_over(key: bytes, _: Json, now: float) -> bool:
    """Latency windows past what is kept of their size."""
    return decode_key(key).expired(now)


def usage_before(days: int) -> Expired:
    """Sums of what calls cost on days longer ago than that."""

    def over(key: bytes, _: Json, now: float) -> bool:
        return expired(key, days, now)

    return over


@dataclass(slots=True)
class Sweeper:
    """Goes round one table's partitions for ever, `ROWS_A_STEP` rows at a time."""

    table: Rows
    expired: Expired
    clock: Callable[[], float]

    async def run(self) -> None:
        """Sweep until cancelled."""
        after: dict[int, bytes] = {}
        while True:
            for partition in self.table.open_partitions():
                try:
                    after[partition] = await self.step(partition, after.get(partition, b""))
                except LostOwnership:
                    after.pop(partition, None)
                await asyncio.sleep(SECONDS_BETWEEN_STEPS)
            await asyncio.sleep(SECONDS_BETWEEN_STEPS)

    async def step(self, partition: int, after: bytes) -> bytes:
        """Look at the next rows behind `after` and delete what has expired; gives where to go on (b"" at the end)."""
        claim = self.table.claim(partition)
        now = self.clock()
        rows = list(self.table.scan(partition, after, ROWS_A_STEP))
        for key, value in rows:
            # While an earlier row was deleted, this one may have been written anew.
            if self.expired(key, strict_json.unpack(value), now) and self.table.read(partition, key) == value:
                await self.table.write(claim, key, None)
        return rows[-1][0] if len(rows) == ROWS_A_STEP else b""
