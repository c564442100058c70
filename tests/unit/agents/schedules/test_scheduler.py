"""The scheduler over rows in memory: what it hands in, in which order, and what a crash or another owner changes."""

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from callstream.agents.schedules.command import Action, Command, command_event
from callstream.agents.schedules.directory import Directory
from callstream.agents.schedules.schedule import Schedule, Spec, read_row
from callstream.agents.schedules.scheduler import AGAIN_SECONDS, MOST_SCHEDULES, Scheduler
from callstream.streams import strict_json
from callstream.streams.chain import Chain, Chains
from callstream.streams.event import Event
from callstream.streams.keys import task_key
from callstream.streams.outcome import Bury, Keep, Outcome
from callstream.streams.ownership import Claim, LostOwnership
from callstream.streams.wire import LogUnavailable
from callstream.tables.durable import TableCell
from callstream.tables.fakes import MemoryRows
from tests.support.events import Say, an_event

NOW = 1_748_779_230.0
"""30 s after a full minute."""
MINUTE = 60.0


class Product(BaseModel):
    title: str


CHAINS = Chains([Chain("shop", Product, (Say("facts", "prepare"),))])


class Desk:
    """A scheduler with its rows, the tasks that it handed in, and a clock that stands still."""

    def __init__(self, rows: MemoryRows | None = None) -> None:
        self.rows = rows or MemoryRows()
        self.now = NOW
        self.sent: list[Event] = []
        self.fails: BaseException | None = None
        self.scheduler = Scheduler(self.rows, self._submit, CHAINS, lambda: self.now)
        self.commands = 0

    async def _submit(self, event: Event, claim: Claim) -> None:
        if claim.epoch != self.rows.epoch:
            raise LostOwnership("revoked")
        if self.fails is not None:
            raise self.fails
        self.sent.append(event)

    async def command(self, action: Action, name: str = "nightly", **members: Any) -> Outcome:
        self.commands += 1
        told = {"action": action, "tenant": "acme", "name": name, "id": f"c-{self.commands}"} | members
        return await self.act(command_event(Command.model_validate(told), self.now))

    async def act(self, event: Event) -> Outcome:
        return await self.scheduler.act(event, TableCell(self.rows, self.rows.claim(0), event.key))

    async def set(self, name: str = "nightly", **members: Any) -> Outcome:
        return await self.command(Action.SET, name, spec=spec(**members))

    async def look(self) -> list[str]:
        """Go on like the loop does; the ids of the tasks handed in by that."""
        before = len(self.sent)
        for partition in self.rows.open_partitions():
            await self.scheduler._read(partition)
            await self.scheduler.look(partition)
        return [event.task for event in self.sent[before:]]

    def row(self, name: str = "nightly") -> Schedule | None:
        raw = self.rows.read(0, task_key("acme", name))
        return None if raw is None else read_row(strict_json.unpack(raw))


def spec(**members: Any) -> Spec:
    return Spec.model_validate({"chain": "shop", "input": {"title": "mug"}, "cron": "* * * * *"} | members)


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_a_schedule_hands_in_a_task_for_each_occurrence(desk: Desk) -> None:
    assert await desk.set(priority="high") == Keep()
    assert await desk.look() == []
    desk.now += 31
    assert await desk.look() == ["nightly.20250601T120100Z"]
    assert await desk.look() == []
    [event] = desk.sent
    assert (event.tenant, event.chain, event.priority, event.input) == ("acme", "shop", "high", {"title": "mug"})


async def test_an_occurrence_is_handed_in_again_after_a_crash_before_its_row_was_written(desk: Desk) -> None:
    # given a task that was handed in, and a log that then took no row
    await desk.set()
    before = desk.rows.read(0, task_key("acme", "nightly"))
    assert before is not None
    desk.now += 31
    desk.rows.refuse()
    with pytest.raises(LogUnavailable):
        await desk.look()
    # when another worker begins with the row that the log has
    rows = MemoryRows()
    await rows.write(rows.claim(0), task_key("acme", "nightly"), before)
    other = Desk(rows)
    other.now = desk.now
    # then it hands in the same task, which intake knows by its id
    assert await other.look() == [event.task for event in desk.sent] == ["nightly.20250601T120100Z"]
    assert other.sent[0].body.digest == desk.sent[0].body.digest


async def test_the_row_is_written_only_after_the_task_is_on_the_log(desk: Desk) -> None:
    await desk.set()
    desk.now += 31
    desk.fails = LogUnavailable("no")
    with pytest.raises(LogUnavailable):
        await desk.look()
    row = desk.row()
    assert row is not None
    assert row.next_due == NOW + 30


async def test_what_is_due_is_fired_before_a_command_changes_the_schedule(desk: Desk) -> None:
    await desk.set()
    desk.now += 31
    await desk.set(input={"title": "cup"}, cron="0 0 1 1 *")
    desk.now += MINUTE
    await desk.look()
    assert [(event.task, event.input["title"]) for event in desk.sent] == [("nightly.20250601T120100Z", "mug")]


async def test_a_paused_schedule_fires_nothing_and_a_resumed_one_begins_anew(desk: Desk) -> None:
    await desk.set(misfire="all")
    await desk.command(Action.PAUSE)
    desk.now += 10 * MINUTE
    assert await desk.look() == []
    await desk.command(Action.RESUME)
    assert await desk.look() == []
    desk.now += 31
    assert await desk.look() == ["nightly.20250601T121100Z"]


async def test_a_trigger_hands_in_one_task_now_even_of_a_paused_schedule(desk: Desk) -> None:
    await desk.set()
    await desk.command(Action.PAUSE)
    await desk.command(Action.TRIGGER, id="by-hand")
    assert [event.task for event in desk.sent] == ["nightly.now-by-hand"]
    row = desk.row()
    assert row is not None
    assert (row.paused, row.last_fired) == (True, None)


async def test_a_command_that_comes_again_changes_nothing_and_is_written_again(desk: Desk) -> None:
    # given commands of which the first comes again, as after a crash
    event = command_event(Command(action=Action.TRIGGER, tenant="acme", name="nightly", id="once"), NOW)
    await desk.set()
    await desk.act(event)
    await desk.set(cron="0 0 1 1 *")
    row, written = desk.row(), len(desk.rows.written)
    # when it does
    assert await desk.act(event) == Keep()
    # then nothing is different, and the log surely has the row
    assert (desk.row(), len(desk.sent)) == (row, 1)
    assert len(desk.rows.written) == written + 1


async def test_a_removed_schedule_is_gone(desk: Desk) -> None:
    await desk.set()
    await desk.command(Action.REMOVE)
    desk.now += 10 * MINUTE
    assert await desk.look() == []
    assert desk.row() is None
    # and removing it once more puts the tombstone on the log once more
    assert await desk.command(Action.REMOVE) == Keep()
    assert [value for _, value in desk.rows.written[-2:]] == [None, None]


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (an_event(), "bad-command"),
        (command_event(Command(action=Action.PAUSE, tenant="acme", name="x", id="1"), NOW), "unknown-schedule"),
        (
            command_event(Command(action=Action.SET, tenant="acme", name="x", id="1", spec=spec(chain="none")), NOW),
            "unknown-chain",
        ),
        (
            command_event(Command(action=Action.SET, tenant="acme", name="x", id="1", spec=spec(input={})), NOW),
            "invalid-input",
        ),
    ],
)
async def test_what_cannot_be_obeyed_is_buried_and_ends_no_task(desk: Desk, event: Event, kind: str) -> None:
    outcome = await desk.act(event)
    assert isinstance(outcome, Bury)
    assert (outcome.failure.kind, outcome.ends_task) == (kind, False)
    assert desk.rows.written == []


async def test_no_more_schedules_than_are_kept(desk: Desk) -> None:
    await desk.set()
    desk.scheduler._due[0].update({b"%d" % number: NOW for number in range(MOST_SCHEDULES)})
    outcome = await desk.set("another")
    assert isinstance(outcome, Bury)
    assert "remove some" in outcome.failure.message
    assert await desk.set("nightly", cron="0 0 1 1 *") == Keep()


async def test_another_worker_finds_what_was_missed_in_the_rows(desk: Desk) -> None:
    # given schedules of two policies, and one that is paused
    await desk.set("every", misfire="all")
    await desk.set("latest", misfire="one")
    await desk.set("none", misfire="skip", cron="1 12 * * *")
    await desk.set("paused", misfire="all")
    await desk.command(Action.PAUSE, "paused")
    # when a worker takes the partition over three minutes later
    other = Desk(desk.rows)
    other.now = NOW + 3 * MINUTE
    # then the policies say what is made up for
    assert sorted(await other.look()) == [
        "every.20250601T120100Z",
        "every.20250601T120200Z",
        "every.20250601T120300Z",
        "latest.20250601T120300Z",
    ]
    assert await other.look() == []


async def test_a_partition_that_is_lost_stops_what_is_under_way_quietly(desk: Desk) -> None:
    await desk.set()
    desk.now += 31
    desk.fails = LostOwnership("revoked")
    assert await desk.look() == []
    desk.fails = None
    desk.scheduler.forget()
    desk.rows.revoke()
    assert await desk.look() == ["nightly.20250601T120100Z"]


async def test_a_bug_in_one_schedule_keeps_no_other_from_its_time(desk: Desk) -> None:
    await desk.set("good")
    await desk.set("bad", input={"title": "bad"})
    submit = desk.scheduler._submit

    async def failing(event: Event, claim: Claim) -> None:
        if event.input["title"] == "bad":
            raise RuntimeError("a bug")
        await submit(event, claim)

    desk.scheduler._submit = failing
    desk.now += 31
    assert await desk.look() == ["good.20250601T120100Z"]
    desk.scheduler._submit = submit
    desk.now += 1
    assert await desk.look() == []
    desk.now += AGAIN_SECONDS
    assert "bad.20250601T120200Z" in await desk.look()


async def test_a_command_waits_for_what_is_being_fired(desk: Desk) -> None:
    await desk.set()
    desk.now += 31
    desk.rows.hold()
    looking = asyncio.create_task(desk.look())
    await asyncio.sleep(0)
    pausing = asyncio.create_task(desk.command(Action.PAUSE))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not pausing.done()
    desk.rows.release()
    await looking
    await pausing
    row = desk.row()
    assert row is not None
    assert (row.paused, row.last_fired) == (True, NOW + 30)


async def test_a_row_that_cannot_be_read_is_left_alone_until_it_is_set_anew(desk: Desk) -> None:
    key = task_key("acme", "nightly")
    await desk.rows.write(desk.rows.claim(0), key, b'{"of": "another version"}')
    assert await desk.look() == []
    await desk.set()
    assert desk.row() is not None


def heard(directory: Directory, *names: str, tenant: str = "acme") -> None:
    for name in names:
        row = Schedule(**spec().model_dump(), tenant=tenant, name=name, created=NOW, updated=NOW).row()
        directory.hear(task_key(tenant, name).decode(), strict_json.dumps({**row, "at": NOW}))


def test_a_directory_knows_what_it_hears() -> None:
    directory = Directory()
    assert not directory.ready
    heard(directory, "b", "a", "c")
    heard(directory, "a", tenant="other")
    directory.caught_up()
    assert directory.ready
    assert [one.name for one in directory.page("acme", None, 2)] == ["a", "b"]
    assert [one.name for one in directory.page("acme", "b", 2)] == ["c"]
    directory.hear(task_key("acme", "b").decode(), None)
    assert directory.get("acme", "b") is None
    assert len(directory) == 3


@pytest.mark.parametrize(("key", "value"), [("x", b"{}"), ("4:acme:b", b"{"), ("4:acme:b", b"[]"), ("\ufffd", None)])
def test_a_directory_leaves_out_what_it_cannot_read(key: str, value: bytes | None) -> None:
    directory = Directory()
    heard(directory, "b")
    directory.hear(key, value)
    assert len(directory) in (0, 1)
    heard(directory, "a")
    assert directory.get("acme", "a") is not None


def test_a_directory_keeps_no_more_than_it_may() -> None:
    directory = Directory(most=2)
    heard(directory, "a", "b", "c", "b")
    assert directory.full
    assert [one.name for one in directory.page("acme", None, 9)] == ["a", "b"]
