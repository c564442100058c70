"""Write-back: the step that puts a task's result into the catalogue."""

from collections.abc import Callable, Mapping
from typing import Any

from callstream.agents.delivery.catalogue_sink import CatalogueSink
from callstream.agents.delivery.deliver import Deliver, Tools
from callstream.agents.delivery.lane import Lane
from callstream.agents.delivery.rows import CatalogueRow
from callstream.agents.delivery.sink import Entry, SinkRow
from callstream.streams.event import Event, Json


class WriteBack(Deliver):
    """Upserts the product's row, and rows of `inference_log` and `chain_log`, in one transaction.

    Idempotent: the same task and step leave the same rows however often they arrive, and a task that was accepted
    earlier never overwrites the copy of a later one. `row` gives the catalogue row of an event; `prompt` names the step
    whose output has the template. Output: `{"product"}`. Kinds: `catalogue-row` (buried), `database` (tried again).

    With `undoes` the row that is replaced is kept: if the task ends badly after all, the product has it again.
    In a sandbox nothing is written: `{"product", "would_write"}` has the row.
    """

    row_kind = "catalogue-row"
    away_kind = "database"

    def __init__(
        self,
        name: str = "catalogue",
        *,
        row: Callable[[Event], CatalogueRow | Mapping[str, Any]],
        prompt: str = "prompt",
        undoes: bool = False,
    ) -> None:
        super().__init__(name, sink="", row=lambda _event: {}, undoes=undoes)
        self._catalogue_row = row
        self._prompt = prompt

    def row(self, event: Event) -> SinkRow:
        """The product's row. Raises ValidationError."""
        row = CatalogueRow.model_validate(self._catalogue_row(event))
        return SinkRow(key=row.product, value=row.model_dump())

    def output(self, entry: Entry) -> Json:
        """The product."""
        return {"product": entry.key}

    def what(self, entry: Entry) -> str:
        """The row."""
        return f"the catalogue's row of {entry.key!r}"

    def rehearsed(self, entry: Entry) -> Json:
        """The row."""
        return {"tenant": entry.tenant, **entry.value}

    def _way_in(self, tools: Tools) -> Lane:
        name = "database" if self._prompt == "prompt" else f"database ({self._prompt})"
        return tools.sinks.shared(name, lambda: CatalogueSink(tools.database, self._prompt))
