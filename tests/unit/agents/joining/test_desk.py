"""The service `join`, killed wherever it can be, over a table in memory."""

from dataclasses import replace
from typing import Any

import pytest

from callstream.agents.actor import Actor
from callstream.agents.control.commands import CancelTask, as_value
from callstream.agents.control.controls import Controls
from callstream.agents.fakes import FakePorts, deliver, stream
from callstream.agents.joining import Join
from callstream.agents.joining.desk import JoinDesk
from callstream.agents.joining.due import AGAIN_SECONDS, DueLook
from callstream.agents.joining.rows import DUE, KEPT_SECONDS, JoinRows, expired
from callstream.agents.settle import Work, settle
from callstream.streams import strict_json
from callstream.streams.chain import Cell, Chain, Chains
from callstream.streams.event import End, Event, Failure, Json
from callstream.streams.outcome import Bury, Cancelled, FanOut, Forward, Keep, Outcome, Resume, Subtask
from callstream.streams.ownership import Claim, LostOwnership
from callstream.streams.wire import Record, decode
from callstream.tables.fakes import MemoryRows
from tests.support.events import Input, Say, an_event


class Desk:
    """A desk over a table, with a clock that a test sets. `refuse` writes fail with LostOwnership, from the first."""

    def __init__(self, join: Join) -> None:
        self.chains = Chains([Chain("shop", Input, (Say("facts", "prepare"), join, Say("check", "moderate")))])
        self.table = Killable()
        self.now = 1_000.0
        self.ports = FakePorts()
        self.key = an_event().key
        self.controls = Controls()

    def cancel(self, rollback: bool = True) -> CancelTask:
        """The task is cancelled."""
        command = CancelTask(at=900.0, by="ada", tenant="acme", task="mug-1", before=900.0, rollback=rollback)
        self.controls.hear(command.key, as_value(command))
        return command

    def rows(self, _: Cell | None = None) -> JoinRows:
        return JoinRows(self.table, self.table.claim(0), self.key)

    async def act(self, event: Event) -> Outcome:
        desk = JoinDesk(self.chains, self.rows, lambda: self.now, self.controls.cancelled)
        return await desk.act(event, self.ports.cells.get(b""))  # type: ignore[arg-type]

    async def after(self, *events: Event) -> list[Outcome]:
        """What follows from each, those that nothing follows from left out."""
        outcomes = [await self.act(event) for event in events]
        return [outcome for outcome in outcomes if outcome != Keep()]


class Killable(MemoryRows):
    """A table whose writes fail from a number on: what a process does not come to when it is killed."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 10**9

    async def write(self, claim: Claim, key: bytes, value: bytes | None) -> None:
        if self.left <= 0:
            raise LostOwnership("killed")
        self.left -= 1
        await super().write(claim, key, value)


def fan(desk: Desk, count: int = 3, **changes: Any) -> tuple[Event, list[Event]]:
    """The task at its join, and the ends of its sub-tasks: number 2 gives {"said": 2}."""
    outcome = FanOut([Subtask("shop", {}) for _ in range(count)])
    records = settle(an_event(**changes), outcome, Work("prepare", "facts", 1.0, 2.0), desk.chains)
    *children, waiting = [read(record) for record in records]
    ends = []
    for number, child in enumerate(children, start=1):
        last = replace(child, chain="shop", version=1, sequence=3).with_body(outputs={"said": {"number": number}})
        ends.append(read(settle(last, Forward(), Work("moderate", "check", 1.0, 2.0), desk.chains)[-1]))
    return waiting, ends


def ended_badly(end: Event) -> Event:
    said = {**end.body.outputs["subtask"], "state": "failed", "result": None}
    return end.with_body(outputs={"subtask": said})


def read(record: Record) -> Event:
    return decode(record.value, record.headers)


async def test_a_join_waits_for_all_and_goes_on_with_what_they_gave() -> None:
    desk = Desk(Join())
    waiting, ends = fan(desk)
    assert await desk.after(waiting, ends[2], ends[0]) == []
    [outcome] = await desk.after(ends[1])
    assert isinstance(outcome, Resume)
    assert outcome.event == waiting.extended(subtasks=None)
    assert outcome.outcome == Forward(
        {"taken": [{"number": n, "id": f"mug-1~1.{n}", "result": {"said": {"number": n}}} for n in (1, 2, 3)]},
        notes=("took 3 of 3 sub-tasks",),
    )


async def test_ends_may_come_before_the_task_itself() -> None:
    desk = Desk(Join())
    waiting, ends = fan(desk)
    assert await desk.after(*ends) == []
    [outcome] = await desk.after(waiting)
    assert isinstance(outcome, Resume)


async def test_what_decides_does_so_again_and_what_comes_late_does_nothing() -> None:
    desk = Desk(Join(take="first"))
    waiting, ends = fan(desk)
    await desk.act(waiting)
    decides = await desk.act(ends[1])
    assert isinstance(decides, Resume)
    assert await desk.act(ends[1]) == decides
    assert await desk.after(ends[0], ends[2], waiting, ends[0]) == []


async def test_a_pick_makes_the_output_of_what_was_taken() -> None:
    def longest(taken: list[Json], event: Event) -> Json:
        assert event.task == "mug-1"
        return {"best": max(one["result"]["said"]["number"] for one in taken)}

    desk = Desk(Join(pick=longest))
    waiting, ends = fan(desk)
    [outcome] = await desk.after(waiting, *ends)
    assert isinstance(outcome, Resume)
    assert isinstance(outcome.outcome, Forward)
    assert outcome.outcome.output == {"best": 3}


async def test_a_pick_that_fails_ends_the_task_with_its_traceback() -> None:
    desk = Desk(Join(pick=lambda taken, _: {"best": taken[7]}))
    waiting, ends = fan(desk)
    [outcome] = await desk.after(waiting, *ends)
    assert isinstance(outcome, Resume)
    assert isinstance(outcome.outcome, Bury)
    assert (outcome.event.task, outcome.outcome.failure.kind) == ("mug-1", "bug")
    assert "IndexError" in outcome.outcome.failure.traceback


async def test_too_many_that_end_badly_end_the_task() -> None:
    desk = Desk(Join(least=2))
    waiting, ends = fan(desk)
    [outcome] = await desk.after(waiting, ended_badly(ends[0]), ended_badly(ends[1]))
    message = "2 of 3 sub-tasks ended badly, so that fewer than 2 can finish"
    assert isinstance(outcome, Resume)
    assert outcome.outcome == Bury(Failure(kind="join", message=message))


async def test_a_task_without_sub_tasks_does_not_wait() -> None:
    desk = Desk(Join())
    outcome = await desk.act(an_event(sequence=2))
    assert isinstance(outcome, Bury)
    assert outcome.failure.kind == "fan-out"


async def told(desk: Desk, look: DueLook | None = None) -> list[Event]:
    """What is found to be due."""
    sent: list[Event] = []

    async def send(record: Record, _: Claim) -> None:
        sent.append(read(record))

    await (look or DueLook(desk.table, send, lambda: desk.now)).look(0)
    return sent


async def test_those_by_a_deadline_are_taken_and_the_look_forgets_what_is_over() -> None:
    # Given a join that waits ten seconds for at least one
    desk = Desk(Join(least=1, within_seconds=10))
    waiting, ends = fan(desk)
    assert await desk.after(waiting, ends[1]) == []
    assert await told(desk) == []
    # when they are over, then it is told so and takes the one that is there
    desk.now += 10
    [due] = await told(desk)
    assert (due.key, due.sequence, due.run) == (waiting.key, 2, 0)
    outcome = await desk.act(due)
    assert isinstance(outcome, Resume)
    assert isinstance(outcome.outcome, Forward)
    assert [one["number"] for one in outcome.outcome.output["taken"]] == [2]
    assert await desk.act(due) == outcome
    assert await told(desk) == []
    assert not [key for key, _ in desk.table.scan(0) if key.startswith(DUE)]


async def test_a_join_does_not_wait_beyond_the_tasks_deadline() -> None:
    desk = Desk(Join(within_seconds=3600))
    waiting, _ = fan(desk, deadline=1_005.0)
    await desk.act(waiting)
    desk.now = 1_005.0
    [due] = await told(desk)
    outcome = await desk.act(due)
    assert isinstance(outcome, Resume)
    assert outcome.outcome == Bury(Failure(kind="join", message="in time 0 of 3 sub-tasks finished; it takes 3"))


CANCELLED = Cancelled("cancelled by ada", rollback=False)


@pytest.mark.parametrize("met_by", ["task", "sub-task", "look"])
async def test_a_cancelled_task_does_not_wait_whatever_comes_next(met_by: str) -> None:
    desk = Desk(Join())
    waiting, ends = fan(desk)
    if met_by != "task":
        assert await desk.after(waiting, ends[0]) == []
    desk.cancel(rollback=False)
    told_so = await told_cancelled(desk) if met_by == "look" else [waiting if met_by == "task" else ends[1]]
    [outcome] = await desk.after(*told_so)
    assert isinstance(outcome, Resume)
    assert (outcome.event, outcome.outcome) == (waiting.extended(subtasks=None), CANCELLED)
    # and it ends so again if that comes again, and once: the ends of its sub-tasks come too late
    assert await desk.after(*told_so) == [outcome]
    assert await desk.after(*[end for end in ends if end not in told_so]) == []
    assert await told_cancelled(desk) == []
    desk.now += 10**6
    assert await told(desk) == []


async def told_cancelled(desk: Desk) -> list[Event]:
    """What a look for cancelled tasks tells."""
    sent: list[Event] = []

    async def send(record: Record, _: Claim) -> None:
        sent.append(read(record))

    look = DueLook(desk.table, send, lambda: desk.now, desk.controls.cancelled)
    for _ in range(3):
        assert [jobs async for jobs in look.cancelled()] == [[]]
    return sent


async def test_a_desk_that_has_not_heard_the_command_obeys_what_it_is_told() -> None:
    desk, deaf = Desk(Join(least=1)), Controls()
    waiting, ends = fan(desk)
    await desk.after(waiting, ends[0])
    desk.cancel()
    [due] = await told_cancelled(desk)
    desk.controls = deaf
    outcome = await desk.act(due)
    assert isinstance(outcome, Resume)
    assert outcome.outcome == Cancelled("cancelled by ada")


async def test_a_join_of_another_task_is_not_told() -> None:
    desk = Desk(Join())
    await desk.act(fan(desk)[0])
    other = CancelTask(at=900.0, by="ada", tenant="acme", task="mug-2", before=900.0)
    desk.controls.hear(other.key, as_value(other))
    assert await told_cancelled(desk) == []


async def test_a_cancel_survives_a_kill_at_each_write() -> None:
    for writes in range(14):
        desk = Desk(Join())
        waiting, ends = fan(desk)
        desk.table.left = writes
        outcomes = []
        for number, event in enumerate([waiting, *ends]):
            if number == 2:
                desk.cancel()
            try:
                outcome = await desk.act(event)
            except LostOwnership:
                desk.table.left = 10**9
                outcome = await desk.act(event)
            outcomes.append(outcome)
        [ended] = [one for one in outcomes if one != Keep()]
        assert isinstance(ended, Resume), writes
        assert ended.outcome == Cancelled("cancelled by ada")


async def test_what_is_due_is_told_again_only_after_a_while() -> None:
    desk = Desk(Join(within_seconds=10))
    sent: list[Event] = []

    async def send(record: Record, _: Claim) -> None:
        sent.append(read(record))

    look = DueLook(desk.table, send, lambda: desk.now)
    await desk.act(fan(desk)[0])
    desk.now += 10
    for _ in range(3):
        await look.look(0)
    assert len(sent) == 1
    desk.now += AGAIN_SECONDS
    await look.look(0)
    assert len(sent) == 2


@pytest.mark.parametrize("take", ["all", "first"])
async def test_killed_before_any_write_it_decides_once_and_the_same(take: str) -> None:
    # Given the same events for desks that are killed before their first, second, ... write, and start again
    calm = Desk(Join(take=take))
    waiting, ends = fan(calm)
    events = [ends[0], waiting, *ends[1:]]
    [expected] = await calm.after(*events)
    for writes in range(14):
        desk, outcomes = Desk(Join(take=take)), []
        desk.table.left = writes
        for event in events:
            try:
                outcome = await desk.act(event)
            except LostOwnership:
                # when the event comes again to its next owner
                desk.table.left = 10**9
                outcome = await desk.act(event)
            outcomes.append(outcome)
        # then the task goes on once, with the same
        assert [one for one in outcomes if one != Keep()] == [expected], writes


async def test_what_a_desk_decided_and_did_not_send_is_sent_when_the_event_comes_again() -> None:
    # Given an actor whose log takes nothing of the next step's topic
    desk = Desk(Join())
    waiting, ends = fan(desk)
    desk.ports.refuse("moderate")
    deliveries = deliver([waiting, *ends], "join")
    actor = Actor(JoinDesk(desk.chains, desk.rows, lambda: desk.now), desk.ports, desk.chains, 1, 16)
    await actor.run(stream(deliveries))
    await actor.drain(1)
    assert (desk.ports.sent, deliveries[0].acked, len(desk.ports.crashes)) == ([], [0, 1, 2], 1)
    # when the last event comes again, then the task goes on
    ports = FakePorts()
    actor = Actor(JoinDesk(desk.chains, desk.rows, lambda: desk.now), ports, desk.chains, 1, 16)
    await actor.run(stream(deliver([ends[2]], "join")))
    assert await actor.drain(1)
    assert ports.topics() == ["moderate"]
    assert read(ports.sent[0]).body.trail[-1].step == "join"


async def test_a_remark_that_cannot_be_handled_ends_no_task() -> None:
    desk = Desk(Join())
    waiting, ends = fan(desk)
    broken = Failure(kind="bug", message="x")
    records = settle(ends[0], Bury(broken), Work("join", "join", 1.0, 2.0), desk.chains)
    assert [record.topic for record in records] == ["callstream.dead"]
    records = settle(waiting, Bury(broken), Work("join", "join", 1.0, 2.0), desk.chains)
    assert read(records[1]).body.end is End.FAILED


@pytest.mark.parametrize("said", [{}, {"number": "1"}, {"number": 0}, {"number": 10**9}, {"number": 2.5}])
async def test_an_end_that_names_no_sub_task_is_ignored(said: Json) -> None:
    desk = Desk(Join())
    _, ends = fan(desk)
    assert await desk.act(ends[0].with_body(outputs={"subtask": said})) == Keep()
    assert desk.table.written == []


async def test_rows_go_when_no_join_can_need_them() -> None:
    desk = Desk(Join())
    waiting, ends = fan(desk)
    await desk.after(waiting, *ends)
    rows = [(key, strict_json.unpack(value)) for key, value in desk.table.written if value is not None]
    at = max(row["at"] for _, row in rows)
    assert not any(expired(key, row, at + KEPT_SECONDS - 60) for key, row in rows)
    assert {key for key, row in rows if not expired(key, row, at + KEPT_SECONDS + 1)} == {
        key for key, _ in rows if key.startswith(DUE)
    }


async def test_a_clock_that_is_behind_does_not_put_off_what_another_found_due() -> None:
    desk = Desk(Join(least=1, within_seconds=10.00049))
    waiting, ends = fan(desk)
    await desk.after(waiting, ends[0])
    desk.now += 10.001
    [due] = await told(desk)
    desk.now -= 5
    assert isinstance(await desk.act(due), Resume)


async def test_a_task_that_is_taken_up_again_waits_anew_and_ends_of_its_earlier_run_are_late() -> None:
    # Given a join that failed
    desk = Desk(Join())
    waiting, ends = fan(desk)
    [failed] = await desk.after(waiting, ended_badly(ends[0]))
    assert isinstance(failed, Resume)
    # when the task is taken up again from the step before
    again, new_ends = fan(desk, run=1)
    assert again.run == new_ends[0].run == 1
    # then it waits for the ends of this run, and those of the earlier one count no more
    assert await desk.after(again, *ends, *new_ends[:2]) == []
    [outcome] = await desk.after(new_ends[2])
    assert isinstance(outcome, Resume)
    assert (outcome.event.run, type(outcome.outcome)) == (1, Forward)
