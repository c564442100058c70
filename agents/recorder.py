"""The gateway's role: it reads every topic and records what each event says about its task."""

import asyncio

from callstream.agents.ports import Policy
from callstream.streams.chain import Attempts, Cell
from callstream.streams.event import Event
from callstream.streams.outcome import Keep, Outcome
from callstream.tables.durable import TableCell
from callstream.tables.journal import Journal

SERVICE = "gateway"
LONGEST_SECONDS = 600.0


class Recorder:
    """Folds events into the journal. A fold is atomic, so events need no turns."""

    service = SERVICE
    stateful = False

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def policy(self, event: Event) -> Policy:
        """One try: what fails here is the log, which has its own time-out, and that stops the worker."""
        return Policy(SERVICE, Attempts(most=1), LONGEST_SECONDS, ends_task=False, traced=False)

    def observe(self, event: Event, state: Cell) -> "asyncio.Future[None]":
        """Fold the event in now; done once the log has its rows."""
        return self._journal.fold(_cell(state).claim, event)

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Record the event, once the log has its rows."""
        await self._journal.record(_cell(state).claim, event)
        return Keep()


def _cell(state: Cell) -> TableCell:
    if not isinstance(state, TableCell):
        raise TypeError("the recorder needs a table's cell: it is told there which claim to write under")
    return state
