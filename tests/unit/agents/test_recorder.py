import asyncio

import pytest

from callstream.agents.recorder import Recorder
from callstream.streams.event import Event, Json
from callstream.streams.fakes import MemoryCell
from callstream.streams.outcome import Keep
from callstream.streams.ownership import LostOwnership
from callstream.tables import journal
from callstream.tables.durable import TableCell
from callstream.tables.fakes import MemoryRows
from callstream.tables.journal import Journal
from tests.support.events import CHAINS, an_event


class Desk:
    """A recorder over tables in memory, and what it told."""

    def __init__(self) -> None:
        self.rows, self.told = MemoryRows(), list[Json]()
        self.recorder = Recorder(Journal(self.rows, MemoryRows(), CHAINS, lambda: 99.0, self.told.append))

    def cell(self, event: Event) -> TableCell:
        return TableCell(self.rows, self.rows.claim(0), event.key)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(journal, "FLUSH_SECONDS", 0.0)
    return Desk()


async def test_an_event_is_recorded_and_nothing_follows_from_it(desk: Desk) -> None:
    event = an_event()
    assert await desk.recorder.act(event, desk.cell(event)) == Keep()
    assert [key for key, _ in desk.rows.written] == [event.key]
    assert [row["state"] for row in desk.told] == ["running"]


async def test_a_partition_that_was_lost_is_no_failure_of_the_task(desk: Desk) -> None:
    event = an_event()
    cell = desk.cell(event)
    desk.rows.revoke()
    with pytest.raises(LostOwnership):
        await desk.recorder.act(event, cell)


async def test_without_a_table_it_says_what_it_needs(desk: Desk) -> None:
    with pytest.raises(TypeError, match="needs a table's cell"):
        await desk.recorder.act(an_event(), MemoryCell())


def test_a_task_never_ends_because_it_could_not_be_recorded(desk: Desk) -> None:
    policy = desk.recorder.policy(an_event(deadline=1.0))
    assert (policy.ends_task, policy.keeps_deadline, policy.attempts.most) == (False, False, 1)
    assert policy.timeout_seconds >= 600
    assert not desk.recorder.stateful


async def test_a_look_is_done_when_the_log_has_the_row(desk: Desk) -> None:
    event = an_event()
    desk.rows.hold()
    look = desk.recorder.observe(event, desk.cell(event))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not look.done()
    desk.rows.release()
    await look
    assert [key for key, _ in desk.rows.written] == [event.key]


async def test_nothing_is_taken_in_of_a_partition_that_was_lost(desk: Desk) -> None:
    event = an_event()
    cell = desk.cell(event)
    desk.rows.revoke()
    with pytest.raises(LostOwnership):
        desk.recorder.observe(event, cell)
