"""The desk: a letter is kept once, a command decided once, and what follows from it sent again when it comes again."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from callstream.agents.fakes import FakeDelivery
from callstream.agents.letters.commands import Action, Command, Does, Job, command_of, to_partition, to_task
from callstream.agents.letters.desk import LetterDesk
from callstream.agents.letters.jobs import JobDesk, JobRunner
from callstream.agents.letters.merge import merged
from callstream.agents.letters.parts import part_of
from callstream.agents.letters.store import Shelf
from callstream.streams.event import Event, Json, Submission
from callstream.streams.keys import partition_of
from callstream.streams.letters import unreadable
from callstream.streams.outcome import Keep, Outcome, Redo
from callstream.streams.ownership import Claim, LostOwnership
from callstream.streams.wire import LogUnavailable
from callstream.tables.durable import TableCell
from callstream.tables.fakes import MemoryRows
from callstream.tables.letters import letter_key
from tests.support.events import CHAINS
from tests.unit.agents.letters.test_redrive import died_at

KEY = letter_key("task", "acme", "mug-1")


class Bench:
    """A desk over rows in memory; what it lets follow is in `again`."""

    def __init__(self, partitions: int = 1) -> None:
        self.rows = MemoryRows(partitions)
        self.tasks: dict[bytes, Json] = {}
        self.again: list[Event] = []
        self.sent: list[Event] = []
        jobs = JobDesk()
        self.desk = LetterDesk(CHAINS, lambda _, key: self.tasks.get(key), jobs, lambda: 100.0)
        self.runner = JobRunner(self.rows, partitions, jobs, self.send, CHAINS)
        self.partitions = partitions

    async def take(self, event: Event) -> Outcome:
        claim = self.rows.claim(partition_of(event.key, self.partitions))
        outcome = await self.desk.act(event, TableCell(self.rows, claim, event.key))
        if isinstance(outcome, Redo):
            self.again.append(outcome.event)
        return outcome

    async def send(self, event: Event, _: Claim) -> None:
        self.sent.append(event)

    def row(self, key: bytes = KEY) -> Json:
        row = Shelf(self.rows, self.rows.claim(0)).read(key)
        assert row is not None
        return row

    def command(self, action: Action = Action.REDRIVE, **members: Any) -> Event:
        told = {"id": "c-1", "by": "kim", "letter": "task", "tenant": "acme", "task": "mug-1", **members}
        return to_task(Command(action=action, **told), self.row(), 200.0)


@pytest.fixture
async def bench() -> Bench:
    """One letter that waits."""
    made = Bench()
    await made.take(died_at(2))
    return made


async def test_a_redrive_is_decided_once_and_sent_again_when_it_comes_again(bench: Bench) -> None:
    told = bench.command(reason="mended")
    await bench.take(told)
    assert bench.row()["state"] == "redriven"
    assert bench.row()["audit"] == [
        {"at": 200.0, "by": "kim", "action": "redrive", "command": "c-1", "reason": "mended", "run": 1}
    ]
    written = len(bench.rows.written)
    await bench.take(told)
    assert bench.again[0] == bench.again[1]
    assert len(bench.row()["audit"]) == 1
    assert len(bench.rows.written) > written, "the row may be on this disk and not on the log"


async def test_a_second_redrive_is_refused_and_said_so(bench: Bench) -> None:
    first = bench.command()
    second = bench.command(id="c-2")
    await bench.take(first)
    assert [await bench.take(second) for _ in range(2)] == [Keep(), Keep()]
    assert "redriven already by kim" in bench.row()["audit"][-1]["refused"]
    assert len(bench.again) == 1


async def test_a_command_that_comes_again_after_the_task_failed_again_does_nothing(bench: Bench) -> None:
    told = bench.command()
    await bench.take(told)
    [again] = bench.again
    await bench.take(died_at(2, run=again.run))
    assert await bench.take(told) == Keep()
    assert (bench.row()["state"], bench.row()["run"]) == ("waiting", 1)


async def test_nothing_follows_from_a_row_that_the_log_has_not(bench: Bench) -> None:
    told = bench.command()
    bench.rows.refuse()
    with pytest.raises(LogUnavailable):
        await bench.take(told)
    assert bench.again == []


async def test_a_lost_partition_writes_nothing(bench: Bench) -> None:
    claim = bench.rows.claim(0)
    bench.rows.revoke()
    with pytest.raises(LostOwnership):
        await bench.desk.act(died_at(3), TableCell(bench.rows, claim, b"k"))


async def test_a_discard_and_an_edit(bench: Bench) -> None:
    await bench.take(bench.command(Action.EDIT, id="c-0", input={"title": "cup"}))
    assert bench.row()["edited"] is True
    await bench.take(bench.command(Action.EDIT, id="c-1", input={"price": "much"}))
    assert "price" in bench.row()["audit"][-1]["refused"]
    await bench.take(bench.command(Action.DISCARD, id="c-2", reason="noise"))
    assert bench.row()["state"] == "discarded"
    await bench.take(bench.command(id="c-3"))
    assert "discarded already by kim" in bench.row()["audit"][-1]["refused"]
    assert bench.again == []


async def test_an_edited_letter_that_comes_again_stays_edited(bench: Bench) -> None:
    await bench.take(bench.command(Action.EDIT, input={"title": "cup"}))
    await bench.take(died_at(2))
    await bench.take(bench.command(id="c-2"))
    assert bench.again[0].input == {"title": "cup", "price": 1.0}


async def test_a_task_that_has_gone_on_is_not_taken_up(bench: Bench) -> None:
    told = bench.command()
    bench.tasks[told.key] = {"state": "finished", "run": 0}
    await bench.take(told)
    assert "has gone on since" in bench.row()["audit"][-1]["refused"]
    assert bench.again == []


async def test_a_letter_that_cannot_be_kept_is_left_on_its_topic(bench: Bench) -> None:
    await bench.rows.write(bench.rows.claim(0), KEY, b"{}")
    assert await bench.take(died_at(2)) == Keep()


async def test_an_unreadable_record_is_kept_with_its_place() -> None:
    bench = Bench()
    record = unreadable(("callstream.gate", 0, 7), b"k", b"no json", [], "body: not JSON")
    for _ in range(2):
        await bench.desk.unreadable(FakeDelivery(record, (0, 0)), bench.rows, bench.rows.claim(0))
    row = bench.row(letter_key("unreadable", "", "callstream.gate~0~7"))
    assert (row["message"], row["head"]) == ("body: not JSON", "no json")


def job(action: Action = Action.JOB, **members: Any) -> Event:
    told = Command(id="j-1", action=action, by="kim", job=Job(id="j-1", **members))
    return to_partition(told, 0, 1, 300.0)


async def letters(bench: Bench, count: int) -> None:
    for number in range(count):
        await bench.take(died_at(2, task=f"mug-{number:03d}"))


async def look(bench: Bench, moment: float) -> Json:
    await bench.runner.look(0, 300.0 + moment)
    return bench.row(b"j/j-1")


async def test_a_job_sends_each_command_once_at_its_rate() -> None:
    bench = Bench()
    await letters(bench, 30)
    await bench.take(job(rate=10.0, where="task != 'mug-007'"))
    sent = [(await look(bench, second))["sent"] for second in (0, 0, 1, 1, 2)]
    assert sent == [1, 1, 11, 11, 21]
    for second in range(3, 9):
        part = await look(bench, float(second))
    assert (part["state"], part["matched"], part["sent"], part["looked_at"]) == ("done", 29, 29, 30)
    tasks = [event.task for event in bench.sent]
    assert tasks == sorted(set(tasks))
    assert "mug-007" not in tasks
    for event in bench.sent * 2:
        await bench.take(event)
    assert len({event.id for event in bench.again}) == 29
    assert all(event.run == 1 for event in bench.again)


async def test_partitions_take_turns_so_that_no_window_exceeds_the_rate_by_more_than_one() -> None:
    bench = Bench(partitions=8)
    await letters(bench, 60)
    for partition in range(8):
        told = Command(id="j-1", action=Action.JOB, by="kim", job=Job(id="j-1", rate=0.5))
        await bench.take(to_partition(told, partition, 8, 300.0))
    moments: list[float] = []
    for tick in range(600):
        now = 300.3 + tick / 4
        for partition in range(8):
            if tick == 200:
                # As a gateway that has been started anew: it does not know what was looked at last.
                bench.runner._looked.clear()
            await bench.runner.look(partition, now)
        moments += [now] * (len(bench.sent) - len(moments))
    assert len(moments) > 50
    assert all(late - early >= 1.5 for early, late in pairwise(moments))


async def test_a_job_that_was_killed_sends_the_same_commands_again() -> None:
    bench = Bench()
    await letters(bench, 5)
    await bench.take(job(rate=100.0))
    await look(bench, 0.0)
    before = bench.row(b"j/j-1")
    await look(bench, 1.0)
    await Shelf(bench.rows, bench.rows.claim(0)).save(b"j/j-1", before)
    first = [event.body.outputs for event in bench.sent[1:]]
    count = len(bench.sent)
    await look(bench, 2.0)
    assert [event.body.outputs for event in bench.sent[count:]] == first


async def test_a_job_that_was_killed_counts_what_its_commands_have_done() -> None:
    bench = Bench()
    await letters(bench, 5)
    await bench.take(job(rate=100.0))
    await look(bench, 0.0)
    before = bench.row(b"j/j-1")
    await look(bench, 1.0)
    # The commands were carried out, and what the part says of that was lost.
    for event in bench.sent:
        await bench.take(event)
    await Shelf(bench.rows, bench.rows.claim(0)).save(b"j/j-1", before)
    count = len(bench.sent)
    for second in (2.0, 3.0):
        part = await look(bench, second)
    assert (part["state"], part["matched"], part["sent"], part["left"]) == ("done", 5, 5, 0)
    assert bench.sent[count:] == []


async def test_a_letter_that_cannot_be_redriven_is_left_and_told() -> None:
    bench = Bench()
    await letters(bench, 2)
    gone = replace(died_at(2, task="odd"), chain="gone")
    await bench.take(gone.with_body(submission=Submission(chain="gone", input={})))
    await bench.take(job(rate=100.0))
    part = await carry_out(bench)
    assert (part["state"], part["matched"], part["sent"], part["left"]) == ("done", 3, 2, 1)
    assert part["refusals"][0]["task"] == "odd"
    assert "has no 'gone'" in part["refusals"][0]["why"]
    assert bench.row(letter_key("task", "acme", "odd"))["state"] == "waiting"


async def test_a_job_is_paused_resumed_and_cancelled() -> None:
    bench = Bench()
    await letters(bench, 30)
    await bench.take(job(rate=10.0))
    await look(bench, 0.0)
    await bench.take(job(Action.PAUSE))
    assert (await look(bench, 5.0))["sent"] == 1
    await bench.take(job(Action.RESUME))
    assert (await look(bench, 6.0))["sent"] == 11
    await bench.take(job(Action.CANCEL))
    await bench.take(job(Action.RESUME))
    part = await look(bench, 7.0)
    assert (part["state"], part["sent"]) == ("cancelled", 11)


async def test_letters_that_died_after_the_job_was_made_are_not_its() -> None:
    bench = Bench()
    await letters(bench, 1)
    event = job()
    await bench.take(event)
    part = bench.row(b"j/j-1")
    await Shelf(bench.rows, bench.rows.claim(0)).save(b"j/j-1", {**part, "created": 50.0})
    assert (await look(bench, 0.0))["matched"] == 0


async def test_a_condition_that_this_version_does_not_take_ends_the_job() -> None:
    bench = Bench()
    await bench.take(job(where="nope == 1"))
    part = await look(bench, 0.0)
    assert part["state"] == "cancelled"
    assert "'nope' is not known" in part["refused"]


def test_what_is_told_about_no_job_makes_none() -> None:
    told = Command(id="x", action=Action.PAUSE, by="kim", job=Job(id="j-1"))
    assert part_of(None, told, 1.0) is None


async def carry_out(bench: Bench) -> Json:
    """All that a job has to do, each command twice."""
    for moment in range(9):
        part = await look(bench, float(moment))
    for event in bench.sent * 2:
        await bench.take(event)
    return part


async def test_a_job_discards_a_selection_once_with_its_reason_and_redrives_nothing() -> None:
    bench = Bench()
    await letters(bench, 5)
    chosen = ("mug-001", "mug-003", "nobody")
    await bench.take(job(does="discard", tasks=chosen, tenant="acme", rate=100.0))
    part = await carry_out(bench)
    assert (part["state"], part["matched"], part["sent"], bench.again) == ("done", 2, 2, [])
    rows = [bench.row(letter_key("task", "acme", f"mug-{number:03d}")) for number in range(5)]
    assert [row["state"] for row in rows] == ["waiting", "discarded", "waiting", "discarded", "waiting"]
    assert [(entry["action"], entry["by"], entry["reason"]) for entry in rows[1]["audit"]] == [
        ("discard", "kim", "job j-1")
    ]


async def test_a_job_of_another_tenant_discards_nothing() -> None:
    bench = Bench()
    await letters(bench, 1)
    await bench.take(job(does="discard", tasks=("mug-000",), tenant="other"))
    assert (await carry_out(bench))["matched"] == 0


async def test_what_nobody_can_read_is_discarded_by_a_job_and_never_redriven() -> None:
    bench = Bench()
    record = unreadable(("callstream.infer", 0, 7), None, b"x", [], "no JSON")
    claim = bench.rows.claim(0)
    await bench.desk.unreadable(FakeDelivery(record, (0, 3)), bench.rows, claim)
    await bench.take(job(where="letter == 'unreadable'"))
    assert (await carry_out(bench))["matched"] == 0
    await bench.take(
        to_partition(
            Command(id="j-2", action=Action.JOB, by="kim", job=Job(id="j-2", does=Does.DISCARD, where="true")),
            0,
            1,
            1e9,
        )
    )
    for moment in range(20, 24):
        await bench.runner.look(0, 1e9 + moment)
    assert bench.row(b"j/j-2")["sent"] == 1
    for event in bench.sent:
        await bench.take(event)
    [(_, row)] = Shelf(bench.rows, claim).scan(b"l/", b"", 9)
    assert row["state"] == "discarded"


async def test_a_job_edits_what_the_patch_fits_once_and_tells_what_it_leaves() -> None:
    # given three letters, one of which has a price that the patch would leave alone
    bench = Bench()
    await letters(bench, 2)
    await bench.take(died_at(2, task="odd").with_body(submission=Submission(chain="shop", input={"price": "none"})))
    # when all titles are patched, and what was sent comes again
    await bench.take(job(does="edit", patch={"title": "a better mug"}, rate=100.0))
    part = await carry_out(bench)
    # then those that the chain's model takes have it, once, and the other is as it was and told
    assert (part["state"], part["matched"], part["sent"], part["left"]) == ("done", 3, 2, 1)
    assert (part["refusals"][0]["task"], "price" in part["refusals"][0]["why"]) == ("odd", True)
    shelf = Shelf(bench.rows, bench.rows.claim(0))
    for task in ("mug-000", "mug-001"):
        event = shelf.event(letter_key("task", "acme", task))
        assert event is not None
        assert (event.input["title"], event.body.generation) == ("a better mug", 1)
        row = bench.row(letter_key("task", "acme", task))
        assert (row["state"], row["edited"], len(row["audit"])) == ("waiting", True, 1)
    left = bench.row(letter_key("task", "acme", "odd"))
    assert (left["edited"], left["audit"], bench.again) == (False, [], [])


async def test_a_letter_that_died_anew_is_not_discarded_by_what_was_decided_before(bench: Bench) -> None:
    stale = bench.command(Action.DISCARD, reason="old")
    await bench.take(died_at(2, run=1))
    await bench.take(to_task(command_of(stale), {**bench.row(), "run": 0}, 200.0))
    row = bench.row()
    assert (row["state"], "failed again since" in row["audit"][-1]["refused"]) == ("waiting", True)


@pytest.mark.parametrize(
    ("document", "patch", "after"),
    [
        ({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"c": None, "e": [1]}}, {"a": 1, "b": {"d": 3, "e": [1]}}),
        ({"a": [1, 2]}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": {"b": 1}}, {"a": "text"}, {"a": "text"}),
        ({}, {"a": {"b": None}}, {"a": {}}),
        ({"a": 1}, [1], [1]),
    ],
)
def test_a_merge_patch(document: Any, patch: Any, after: Any) -> None:
    before = repr(document)
    assert merged(document, patch) == after
    assert merged(merged(document, patch), patch) == after
    assert repr(document) == before
