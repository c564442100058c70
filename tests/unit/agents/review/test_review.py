from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from callstream.agents.control.commands import CancelTask
from callstream.agents.review import ReviewDesk, Verdict, command_event, refusal
from callstream.agents.settle import Work, settle
from callstream.streams.chain import Chain, Chains, Step
from callstream.streams.event import VERDICT as VERDICT_TYPE
from callstream.streams.event import Body, End, Event, Json, Submission
from callstream.streams.outcome import Cancelled, Finish, Hold, Keep, Outcome, Resume
from callstream.streams.wire import decode, encode


class Input(BaseModel):
    title: str = ""


class Named(Step):
    service = "moderate"

    def __init__(self, name: str) -> None:
        self.name = name


CHAINS = Chains([Chain("shop", Input, (Named("copy"), Named("moderate"), Named("catalogue")))])
WORK = Work("moderate", "moderate", 1.0, 2.0)


class RowCell:
    """A row in memory that counts its writes."""

    def __init__(self) -> None:
        self.value: Json | None = None
        self.writes = 0

    async def save(self, value: Json) -> None:
        self.value = value
        self.writes += 1


def held(sequence: int = 3) -> Event:
    """A task as it stands on the review topic: moderate (step 2) has held it."""
    body = Body(
        submission=Submission(chain="shop", input={"title": "Mug"}),
        digest="0" * 64,
        outputs={"copy": {"text": "最佳 mug", "n": 1}},
    )
    event = Event(tenant="acme", task="mug-1", chain="shop", version=1, sequence=sequence - 1, body=body, time=10.0)
    [record] = settle(event, Hold("superlative", {"verdict": "hold"}), WORK, CHAINS)
    return decode(record.value, record.headers)


def verdict(choice: str = "approve", **more: Any) -> Verdict:
    return Verdict.model_validate({"verdict": choice, "reviewer": "ann", **more})


def said(choice: str = "approve", sequence: int = 3, **more: Any) -> Event:
    return command_event(held(sequence), verdict(choice, **more), 20.0)


def sent(outcome: Outcome) -> Event:
    """The one event that an outcome of the desk leads to."""
    [record] = settle(said(), outcome, Work("review", "review", 3.0, 4.0), CHAINS)
    return decode(record.value, record.headers)


async def test_a_held_task_waits_as_a_row() -> None:
    cell = RowCell()
    assert await ReviewDesk().act(held(), cell) == Keep()
    assert cell.value is not None
    assert (cell.value["state"], cell.value["reason"], cell.value["task"]) == ("held", "superlative", "mug-1")


async def test_an_approved_task_goes_on_to_the_step_after_the_one_that_held_it() -> None:
    cell = RowCell()
    await ReviewDesk().act(held(), cell)
    event = sent(await ReviewDesk().act(said(reason="fine"), cell))
    assert (event.sequence, event.type, event.body.held) == (3, "callstream.task", None)
    assert event.body.outputs["moderate"] == {"verdict": "hold"}
    assert event.body.outputs["review"] == {"verdict": "approve", "reviewer": "ann", "reason": "fine"}
    assert [hop.step for hop in event.body.trail] == ["moderate", "review"]
    assert event.body.trail[-1].notes == ("approve by ann",)


async def test_a_rejected_task_ends_and_says_by_whom_and_why() -> None:
    cell = RowCell()
    await ReviewDesk().act(held(), cell)
    event = sent(await ReviewDesk().act(said("reject", reason="no"), cell))
    assert event.body.end is End.REJECTED
    assert event.body.failure is not None
    assert event.body.failure.message == "rejected by ann: no"


async def test_an_edit_is_merged_into_the_output_and_goes_on() -> None:
    cell = RowCell()
    await ReviewDesk().act(held(), cell)
    event = sent(await ReviewDesk().act(said("edit", edits={"copy": {"text": "A mug"}}), cell))
    assert event.body.outputs["copy"] == {"text": "A mug", "n": 1}
    assert event.body.outputs["review"]["edited"] == {"copy": ["text"]}


async def test_the_first_verdict_wins_and_is_said_again() -> None:
    cell, desk = RowCell(), ReviewDesk()
    await desk.act(held(), cell)
    first = await desk.act(said(), cell)
    writes = cell.writes
    assert await desk.act(said(), cell) == first
    assert await desk.act(said("reject"), cell) == first
    assert await desk.act(held(), cell) == first
    assert cell.writes == writes


async def test_every_event_twice_gives_the_same_row_and_the_same_outcome() -> None:
    once, twice, desk = RowCell(), RowCell(), ReviewDesk()
    events = [held(), said("edit", edits={"copy": {"text": "A mug"}}), said("reject")]
    for event in events:
        outcome = await desk.act(event, once)
        assert [await desk.act(event, twice) for _ in range(2)] == [outcome, outcome]
    assert once.value == twice.value


async def test_a_verdict_that_overtakes_its_task_waits_for_it() -> None:
    cell, desk = RowCell(), ReviewDesk()
    assert await desk.act(said(), cell) == Keep()
    assert await desk.act(said("reject"), cell) == Keep()
    event = sent(await desk.act(held(), cell))
    assert event.body.outputs["review"]["verdict"] == "approve"


async def test_a_verdict_for_an_earlier_hold_decides_no_later_one() -> None:
    cell, desk = RowCell(), ReviewDesk()
    for event in (held(3), said(sequence=3), held(4)):
        await desk.act(event, cell)
    assert await desk.act(said("reject", sequence=3), cell) == Keep()
    assert await desk.act(held(3), cell) == Keep()
    outcome = await desk.act(said("reject", sequence=4), cell)
    assert isinstance(outcome, Resume)
    assert isinstance(outcome.outcome, Finish)


async def test_a_verdict_for_a_hold_that_is_not_there_does_not_replace_one_that_is() -> None:
    cell, desk = RowCell(), ReviewDesk()
    await desk.act(held(3), cell)
    assert await desk.act(replace(said(), sequence=900), cell) == Keep()
    assert isinstance(await desk.act(said(), cell), Resume)


@pytest.mark.parametrize(
    ("edits", "told"),
    [
        ({"nowhere": {"text": "x"}}, "no step of that name has an output; known: copy, moderate"),
        ({"copy": {"n": "x"}}, "edits.copy.n: not a text of that output; its texts: text"),
    ],
)
async def test_an_edit_that_fits_nothing_is_refused_and_the_task_still_waits(edits: Any, told: str) -> None:
    cell, desk = RowCell(), ReviewDesk()
    await desk.act(held(), cell)
    assert await desk.act(said("edit", edits=edits), cell) == Keep()
    assert cell.value is not None
    assert told in cell.value["refused"]["why"]
    assert told in (refusal(held(), verdict("edit", edits=edits)) or "")
    assert isinstance(await desk.act(said(), cell), Resume)


async def test_a_verdict_that_is_none_is_refused_and_the_task_still_waits() -> None:
    cell, desk = RowCell(), ReviewDesk()
    await desk.act(held(), cell)
    for outputs in ({}, {"verdict": {"verdict": "burn", "reviewer": "ann"}}):
        assert await desk.act(said().with_body(outputs=outputs), cell) == Keep()
    assert isinstance(await desk.act(said(), cell), Resume)


@pytest.mark.parametrize(
    "given",
    [
        {"verdict": "approve"},
        {"verdict": "approve", "reviewer": ""},
        {"verdict": "approve", "reviewer": "ann", "edits": {"copy": {"text": "x"}}},
        {"verdict": "edit", "reviewer": "ann"},
        {"verdict": "edit", "reviewer": "ann", "edits": {"copy": {}}},
        {"verdict": "edit", "reviewer": "ann", "edits": {"copy": {"text": 7}}},
        {"verdict": "edit", "reviewer": "ann", "edits": {"copy": {"text": "x" * 200_001}}},
        {"verdict": "approve", "reviewer": "ann", "by": "bob"},
    ],
)
def test_what_is_no_verdict(given: Json) -> None:
    with pytest.raises(ValidationError):
        Verdict.model_validate(given)


def test_a_verdict_survives_the_wire_and_carries_no_more_than_it_needs() -> None:
    record = encode(said(), "callstream.verdicts")
    read = decode(record.value, record.headers)
    assert record.key == held().key
    assert (read.type, read.sequence, read.deadline) == (VERDICT_TYPE, 3, None)
    assert read.body.outputs == {"verdict": said().body.outputs["verdict"]}
    assert read.body.submission.input == {}


async def test_a_task_that_was_taken_up_again_is_held_anew_and_an_old_verdict_decides_nothing() -> None:
    cell = RowCell()
    await ReviewDesk().act(held(), cell)
    await ReviewDesk().act(said(), cell)
    again = replace(held(), run=1)
    assert await ReviewDesk().act(again, cell) == Keep()
    assert await ReviewDesk().act(said(), cell) == Keep()
    assert cell.value is not None
    assert cell.value["state"] == "held"
    assert isinstance(await ReviewDesk().act(command_event(again, verdict(), 30.0), cell), Resume)
    assert await ReviewDesk().act(held(), cell) == Keep()


CANCEL = CancelTask(at=30.0, by="ada", tenant="acme", task="mug-1", before=30.0)


async def test_a_cancelled_task_ends_whatever_comes_first_and_takes_no_verdict_any_more() -> None:
    for events in ([held()], [said()], [held(), said("approve")]):
        cell, cancelled = RowCell(), False
        desk = ReviewDesk(lambda _held: CANCEL if cancelled else None)  # noqa: B023 - asked while the loop is here
        await desk.act(held(), cell)
        cancelled = True
        ends = [sent(await desk.act(event, cell)) for event in events]
        assert {(end.body.end, end.id) for end in ends} == {(End.CANCELLED, "4:acme:mug-1/4/1")}
        assert cell.value is not None
        assert (cell.value["state"], cell.value["decided"], cell.writes) == ("cancelled", 30.0, 2)


async def test_a_held_task_that_is_cancelled_without_rollback_says_so_however_often_it_is_met() -> None:
    cell = RowCell()
    desk = ReviewDesk(lambda _held: CANCEL.model_copy(update={"rollback": False}))
    for _ in range(2):
        outcome = await desk.act(held(), cell)
        assert isinstance(outcome, Resume)
        assert outcome.outcome == Cancelled("cancelled by ada", rollback=False)


async def test_what_was_decided_before_the_cancel_stands() -> None:
    cell, cancelled = RowCell(), False
    desk = ReviewDesk(lambda _held: CANCEL if cancelled else None)
    await desk.act(held(), cell)
    await desk.act(said(), cell)
    cancelled = True
    assert sent(await desk.act(held(), cell)).body.end is None
