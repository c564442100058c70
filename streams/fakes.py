"""Stand-ins for the ports of this layer, for tests of steps: they keep what the real ones put on a log in memory."""

from callstream.streams import strict_json
from callstream.streams.event import Json
from callstream.streams.ownership import LostOwnership

MAX_ROW_BYTES = 1024 * 1024


class MemoryCell:
    """A Cell in memory. `saves` has every row that was saved, in order; after `lose()` saving is refused.

    Rows are kept as JSON bytes, as on a log: what is no JSON, or too large, is refused with ValueError, and a row
    that was changed by its writer after `save` does not change here.
    """

    def __init__(self, value: Json | None = None) -> None:
        self._row = None if value is None else strict_json.dumps(value)
        self._lost = False
        self.saves: list[Json] = []

    @property
    def value(self) -> Json | None:
        """The row as it stands, or None."""
        if self._row is None:
            return None
        row: Json = strict_json.loads(self._row, MAX_ROW_BYTES)
        return row

    async def save(self, value: Json) -> None:
        """Keep the row. Raises LostOwnership after `lose()`."""
        if self._lost:
            raise LostOwnership("the partition of this row was revoked")
        row = strict_json.dumps(value)
        self.saves.append(strict_json.loads(row, MAX_ROW_BYTES))
        self._row = row

    def lose(self) -> None:
        """Another worker owns the row from now on."""
        self._lost = True
