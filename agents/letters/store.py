"""The table of letters as the desk, the jobs and the web read and write it: rows of JSON under one claim."""

from collections.abc import Iterator
from dataclasses import dataclass

from callstream.streams import strict_json
from callstream.streams.event import Event, Json
from callstream.streams.ownership import Claim
from callstream.streams.wire import STRUCTURED_TYPE, as_json, decode
from callstream.tables.letters import event_key
from callstream.tables.rows import Rows


@dataclass(frozen=True, slots=True)
class Shelf:
    """One partition of the table, under a claim."""

    rows: Rows
    claim: Claim

    def read(self, key: bytes) -> Json | None:
        """A row, or None."""
        raw = self.rows.read(self.claim.partition, key)
        return None if raw is None else strict_json.unpack(raw)

    async def save(self, key: bytes, row: Json) -> None:
        """Write a row and wait until the log has it. Raises LostOwnership, LogUnavailable."""
        await self.rows.write(self.claim, key, strict_json.dumps(row))

    def scan(self, prefix: bytes, after: bytes, most: int) -> Iterator[tuple[bytes, Json]]:
        """Up to `most` rows with a prefix, in the order of their keys, beginning behind `after`."""
        for key, raw in self.rows.scan(self.claim.partition, max(after, prefix), most):
            if not key.startswith(prefix):
                return
            yield key, strict_json.unpack(raw)

    def event(self, letter: bytes) -> Event | None:
        """The event of a letter, or None where it has none."""
        row = self.read(event_key(letter))
        if row is None:
            return None
        return decode(strict_json.dumps(row["event"]), [("content-type", STRUCTURED_TYPE.encode())])

    async def save_event(self, letter: bytes, event: Event, died: float) -> None:
        """Keep the event of a letter. Raises LostOwnership, LogUnavailable."""
        await self.save(event_key(letter), {"event": as_json(event), "died": died})
