"""What a task that replays another takes over of that one's memory: its paid answers, and nothing else."""

from dataclasses import dataclass

from callstream.agents.inference.receipts_state import inherited
from callstream.agents.ports import Delivery, Ports
from callstream.streams.chain import Cell
from callstream.streams.event import Event, Json
from callstream.streams.keys import task_key


@dataclass(slots=True)
class InheritedCell:
    """A task's own row or, until it has one, the answered receipts of the task `donor` as its own."""

    own: Cell
    donors: Cell
    event: Event
    donor: str

    @property
    def value(self) -> Json | None:
        """The row as it stands, or None."""
        kept = self.own.value
        if kept is not None:
            return kept
        return inherited(self.donors.value, self.donor, task_key(self.event.tenant, self.donor), self.event.key)

    async def save(self, value: Json) -> None:
        """Write the task's own row. Raises LostOwnership."""
        await self.own.save(value)


def cell_of(ports: Ports, event: Event, delivery: Delivery) -> Cell:
    """What a step remembers about an event's task.

    A donor's row is in the same table of this very worker: a replay's id is chosen so that its key lies in the
    partition of its parent's. An event that says otherwise reuses nothing.
    """
    own = ports.cell(event.key, delivery)
    if event.reuses is None:
        return own
    key = task_key(event.tenant, event.reuses)
    if ports.partition_of(key) != delivery.partition:
        return own
    return InheritedCell(own, ports.cell(key, delivery), event, event.reuses)
