"""Dead letters in memory: the desk itself over rows in memory, to which commands go at once."""

from collections.abc import Callable

from callstream.agents.letters.desk import LetterDesk
from callstream.agents.letters.jobs import JobDesk, JobRunner
from callstream.agents.letters.rehearsal import Rehearsal
from callstream.streams.chain import Chains
from callstream.streams.event import Event, Json
from callstream.streams.keys import partition_of
from callstream.streams.outcome import Redo
from callstream.streams.ownership import Claim
from callstream.tables.durable import TableCell
from callstream.tables.fakes import MemoryRows
from callstream.web.letters import LetterBox


class FakeLetters:
    """`again` has the events that redrives sent, in order; `tasks` rows of tasks by key; `box` is what the web sees.

    After `hold()` commands are kept in `held` and not carried out.
    """

    def __init__(self, chains: Chains, partitions: int, clock: Callable[[], float], rehearsal: Rehearsal) -> None:
        self.rows = MemoryRows(partitions)
        self.again: list[Event] = []
        self.held: list[Event] = []
        self.tasks: dict[bytes, Json] = {}
        self._holds = False
        self._partitions = partitions
        jobs = JobDesk()
        self.desk = LetterDesk(chains, self._task_row, jobs, clock)
        self.runner = JobRunner(self.rows, partitions, jobs, self._send_claimed, chains)
        self.box = LetterBox(self.rows, partitions, self.send, self._task_row, rehearsal, clock=clock)

    def hold(self) -> None:
        """Carry out no command from now on."""
        self._holds = True

    async def send(self, event: Event) -> None:
        """A dead event or a command comes to the desk."""
        if self._holds:
            self.held.append(event)
            return
        claim = self.rows.claim(partition_of(event.key, self._partitions))
        outcome = await self.desk.act(event, TableCell(self.rows, claim, event.key))
        if isinstance(outcome, Redo):
            self.again.append(outcome.event)

    async def _send_claimed(self, event: Event, _: Claim) -> None:
        await self.send(event)

    def _task_row(self, _: int, key: bytes) -> Json | None:
        return self.tasks.get(key)
