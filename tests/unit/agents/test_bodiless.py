"""Tasks whose body is gone from the blob store."""

from typing import Any

import pytest

from callstream.agents.actor import Actor
from callstream.agents.control.commands import CancelTask, as_value
from callstream.agents.control.controls import Controls
from callstream.agents.control.stopping import Stops
from callstream.agents.fakes import FakeDelivery, FakePorts, stream
from callstream.agents.letters.commands import Action, Command
from callstream.agents.letters.redrive import CannotRedrive, edited, redriven
from callstream.agents.letters.rehearsal import Rehearsal
from callstream.agents.settle import Work, settle
from callstream.agents.steps import StepRole
from callstream.streams.chain import Chain, Chains, NotRehearsable
from callstream.streams.event import NO_DIGEST, TASK_HELD, TASK_UNDO, End, Event
from callstream.streams.letters import is_unreadable
from callstream.streams.outcome import Redo
from callstream.streams.wire import Record, decode, encode
from callstream.tables import letters
from callstream.tables.tasks import fold
from tests.support.events import CHAINS, Input, Say, an_event

GONE = ("ce_dataref", b"blob:" + b"1" * 64)


class Undoable(Say):
    """A step that can be undone."""

    undoes = True


UNDOABLE = Chains(
    [Chain("shop", Input, (Undoable("facts", "prepare"), Say("copy", "prepare"), Say("check", "moderate")))]
)


async def handled(
    event: Event, *changed: tuple[str, bytes], chains: Chains = CHAINS, stops: Stops | None = None
) -> FakePorts:
    """The event as a claim check whose blob is gone, taken by the service `prepare`."""
    record = encode(event, "callstream.prepare")
    headers = [(name, dict(changed).get(name, raw)) for name, raw in record.headers]
    ports = FakePorts()
    delivery = FakeDelivery(Record(record.topic, record.key, b"", [*headers, GONE]), (0, 0))
    actor = Actor(StepRole("prepare", chains, stateful=False), ports, chains, concurrency=1, max_unfinished=1)
    actor.stops = stops
    await actor.run(stream([delivery]))
    assert await actor.drain(5)
    assert (delivery.acked, ports.crashes) == ([0], [])
    return ports


async def test_there_is_a_letter_of_the_task_with_its_reference_and_the_task_has_failed() -> None:
    ports = await handled(an_event())
    letter, end = ports.sent
    assert not is_unreadable([*letter.headers])
    dead = decode(letter.value, letter.headers)
    row = letters.fold(None, dead)
    named = [row[name] for name in ("letter", "tenant", "task", "chain", "step", "service", "kind")]
    assert named == ["task", dead.tenant, "mug-1", "shop", "facts", "prepare", "blob-missing"]
    assert row["from"] == {"topic": "callstream.prepare", "partition": 0, "offset": 0}
    assert "blob:1111" in row["message"]
    assert row["message"].endswith("redrive the task once it is back")
    ended = decode(end.value, end.headers)
    assert (end.topic, ended.task, ended.sequence, ended.body.end) == ("callstream.finished", "mug-1", 2, End.FAILED)
    assert ended.body.failure is not None
    assert ended.body.failure.kind == "blob-missing"
    assert "is not there" in ended.body.failure.message


async def test_redriven_it_goes_on_at_its_step_with_the_body_that_is_back() -> None:
    letter = (await handled(an_event())).sent[0]
    dead = decode(letter.value, letter.headers)
    command = Command(id="c-1", action=Action.REDRIVE, by="ada")
    (again,) = settle(
        event := an_event(), Redo(redriven(dead, command, 9.0, CHAINS)), Work("letters", "", 0, 0), CHAINS
    )
    headers = dict(again.headers)
    assert (again.topic, again.value, headers["ce_dataref"]) == ("callstream.prepare", b"", GONE[1])
    assert (headers["ce_run"], headers["ce_sequence"], headers["ce_type"]) == (b"1", b"0001", b"callstream.task")
    assert "ce_bodyref" not in headers
    taken = decode(encode(event, "").value, again.headers)
    assert taken.body == event.body
    with pytest.raises(CannotRedrive, match="without ask_again"):
        redriven(dead, command.model_copy(update={"ask_again": True}), 9.0, CHAINS)
    with pytest.raises(CannotRedrive, match="can begin at 'facts' only"):
        redriven(dead, command.model_copy(update={"from_step": "intake"}), 9.0, CHAINS)
    with pytest.raises(NotRehearsable, match="no dry run"):
        await Rehearsal(CHAINS, None).run(redriven(dead, command, 9.0, CHAINS))


async def test_with_a_new_input_it_begins_anew_and_without_the_reference() -> None:
    letter = (await handled(an_event())).sent[0]
    changed = edited(decode(letter.value, letter.headers), an_event().input, CHAINS)
    again = redriven(changed, Command(id="c-1", action=Action.REDRIVE, by="ada"), 9.0, CHAINS)
    assert (again.sequence, again.body.generation, again.extensions) == (1, 1, {})


async def test_a_held_task_without_its_body_ends_too() -> None:
    ports = await handled(an_event(type=TASK_HELD))
    assert ports.topics() == ["dead", "finished"]
    dead = decode(ports.sent[0].value, ports.sent[0].headers)
    assert dead.body.failure is not None
    assert dead.body.failure.message.endswith("hand the task in again")
    with pytest.raises(CannotRedrive, match="not in the blob store: give its input anew"):
        redriven(dead, Command(id="c-1", action=Action.REDRIVE, by="ada"), 9.0, CHAINS)


@pytest.mark.parametrize(
    ("event", "changed"),
    [
        (an_event(sequence=0), ()),
        (an_event(type="callstream.task.finished", sequence=4), ()),
        (an_event(), (("ce_chain", b"No Chain"),)),
        (an_event(), (("ce_sequence", b"soon"),)),
    ],
    ids=["not begun", "ended", "no chain", "no number"],
)
async def test_what_is_no_task_under_way_ends_none(event: Event, changed: Any) -> None:
    ports = await handled(event, *changed)
    assert ports.topics() == ["dead"]


async def test_the_row_keeps_what_tells_a_repeat_of_the_submission() -> None:
    first = an_event(digest="a" * 64)
    row, _ = fold(None, first, CHAINS, 1.0)
    ended = decode((end := (await handled(first)).sent[1]).value, end.headers)
    assert ended.body.digest == NO_DIGEST
    row, _ = fold(row, ended, CHAINS, 2.0)
    assert (row["state"], row["digest"]) == ("failed", "a" * 64)


async def test_nothing_is_undone_of_what_is_not_known_and_the_task_goes_on_once_it_is() -> None:
    letter, end = (await handled(an_event(sequence=2), chains=UNDOABLE)).sent
    ended = decode(end.value, end.headers)
    assert (end.topic, ended.body.end) == ("callstream.finished", End.FAILED)
    dead = decode(letter.value, letter.headers)
    assert dead.body.failure is not None
    assert dead.body.failure.message.endswith("nothing of the task is undone; redrive the task once it is back")
    again = redriven(dead, Command(id="c-1", action=Action.REDRIVE, by="ada"), 9.0, UNDOABLE)
    assert (again.sequence, again.run) == (2, 1)


async def test_an_undo_does_not_run_without_the_body_that_says_of_what() -> None:
    ports = await handled(an_event(sequence=3, type=TASK_UNDO), chains=UNDOABLE)
    assert ports.topics() == ["dead", "finished"]
    ended = decode(ports.sent[1].value, ports.sent[1].headers)
    assert (ended.body.end, ended.type) == (End.FAILED, "callstream.task.failed")


@pytest.mark.parametrize("rollback", [True, False])
async def test_a_cancelled_task_is_cancelled_with_its_body_or_without(rollback: bool) -> None:
    controls = Controls()
    cancel = CancelTask(tenant="acme", task="mug-1", before=99.0, by="ada", at=20.0, rollback=rollback)
    controls.hear(cancel.key, as_value(cancel))
    stops = Stops("prepare", controls, FakePorts(), UNDOABLE)
    ports = await handled(an_event(sequence=2), chains=UNDOABLE, stops=stops)
    assert ports.topics() == ["finished"]
    ended = decode(ports.sent[0].value, ports.sent[0].headers)
    assert ended.body.end is End.CANCELLED
    assert ended.body.failure is not None
    told = ended.body.failure.message
    assert told.startswith("cancelled by ada")
    assert told.endswith("nothing of the task is undone") == rollback
