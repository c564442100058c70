"""What becomes of a held task: edits judged again, rounds back, escalations, four eyes, what nobody decides."""

from typing import Any

import pytest
from pydantic import ValidationError

from callstream.agents.review import ReviewDesk, Verdict
from callstream.agents.settle import Work, settle
from callstream.streams.chain import Chain
from callstream.streams.event import TASK_REVIEWED, End, Event
from callstream.streams.outcome import Finish, Keep, Outcome, Redo, Resume, Reviewed
from callstream.streams.review import Terms, note_for
from callstream.streams.wire import decode
from tests.support.reviews import (
    CHAINS,
    COPY,
    SINCE,
    Holding,
    Input,
    Named,
    RowCell,
    after,
    claim,
    due,
    held_task,
    noted,
    one,
    review_in,
    verdict,
)

WORK = Work("review", "review", 3.0, 4.0)
GOOD = {"copy": {"text": "A mug."}}


def sent(outcome: Outcome) -> Event:
    return one(settle(held_task(), outcome, WORK, CHAINS))


async def test_an_edit_that_fails_the_policy_is_refused_with_the_findings_and_the_task_stays() -> None:
    bad = verdict("edit", "ann", 1, edits={"copy": {"text": "worst mug"}})
    cell, outcome = await after(held_task(), bad)
    assert outcome == Keep()
    assert cell.value is not None
    assert (cell.value["state"], cell.value["refused"]["why"]) == ("held", "superlative: 'worst' at 0-5")
    _, outcome = await after(verdict("edit", "ann", 2, edits=GOOD), cell=cell)
    assert sent(outcome).body.outputs["copy"] == {"text": "A mug.", "n": 1}


async def test_an_edit_that_came_early_is_judged_too() -> None:
    cell, outcome = await after(verdict("edit", "ann", 1, edits={"copy": {"text": "worst"}}), held_task())
    assert (outcome, noted(cell)) == (Keep(), [("ann", "refuse", 1)])


async def test_a_task_goes_back_with_a_note_and_its_earlier_text_is_kept() -> None:
    cell, outcome = await after(held_task(), verdict("regenerate", "ann", 1, reason="shorter"))
    assert isinstance(outcome, Redo)
    event = sent(outcome)
    assert (event.sequence, event.type, event.body.held) == (5, "callstream.task", None)
    assert CHAINS.get("shop", 1).step(event.sequence).name == "copy"  # type: ignore[union-attr]
    assert note_for(event, "copy") == ("shorter", COPY)
    assert [hop.step for hop in event.body.trail] == ["moderate", "review"]
    [attempt] = review_in(cell)["attempts"]
    assert (attempt["texts"], attempt["note"], attempt["by"]) == ({"text": COPY}, "shorter", "ann")


async def test_a_task_is_sent_back_so_often_and_no_more() -> None:
    cell = RowCell()
    for number in range(3):
        task = held_task(3 + 4 * number, rounds=2)
        _, outcome = await after(task, verdict("regenerate", "ann", number, held=task, reason="again"), cell=cell)
        assert isinstance(outcome, Redo if number < 2 else Keep)
    assert [what for _, what, _ in noted(cell)] == ["regenerate", "regenerate", "refuse"]
    assert "sent back 2 times" in review_in(cell)["audit"][-1]["why"]
    assert len(review_in(cell)["attempts"]) == 2


async def test_a_step_that_declares_none_sends_no_task_back() -> None:
    cell, outcome = await after(held_task(2), verdict("regenerate", "ann", 1, held=held_task(2), reason="x"))
    assert outcome == Keep()
    assert "declares no step" in review_in(cell)["audit"][-1]["why"]


def test_a_chain_whose_step_goes_back_to_none_before_it_is_refused() -> None:
    with pytest.raises(ValueError, match="neither 'moderate' nor a step before it; known: moderate"):
        Chain("shop", Input, (Holding("moderate"), Named("copy")))


async def test_an_escalated_task_waits_on_for_others_with_more_priority() -> None:
    cell, outcome = await after(
        held_task(priority="low", group="copy"),
        claim("ann", 0),
        verdict("escalate", "ann", 1, group="legal", reason="?"),
    )
    assert outcome == Keep()
    review = review_in(cell)
    assert (review["priority"], review["group"], review["claim"]) == ("normal", "legal", None)
    assert noted(cell)[-1] == ("ann", "escalate", 1)
    _, outcome = await after(verdict("approve", "bob", 2), cell=cell)
    assert isinstance(outcome, Resume)


async def test_two_persons_have_to_approve_where_four_eyes_are_asked_for() -> None:
    cell, outcome = await after(held_task(four_eyes=True), claim("ann", 0), verdict("approve", "ann", 1))
    assert (outcome, review_in(cell)["approvals"], review_in(cell)["claim"]) == (Keep(), ["ann"], None)
    _, outcome = await after(verdict("approve", " ANN", 2), cell=cell)
    assert outcome == Keep()
    assert "another person" in review_in(cell)["audit"][-1]["why"]
    _, outcome = await after(verdict("approve", "bob", 3), cell=cell)
    assert sent(outcome).body.trail[-1].notes == ("approve by bob", "approved before by ann")


async def test_an_edit_under_four_eyes_is_approved_by_somebody_else() -> None:
    edit = verdict("edit", "bob", 2, edits=GOOD)
    cell, outcome = await after(held_task(four_eyes=True), verdict("approve", "ann", 1), edit)
    # whoever approved the earlier text has not approved this one
    assert (outcome, review_in(cell)["approvals"], review_in(cell)["edits"]) == (Keep(), ["bob"], GOOD)
    _, outcome = await after(verdict("approve", "bob", 3), cell=cell)
    assert outcome == Keep()
    _, outcome = await after(verdict("approve", "ann", 4), cell=cell)
    assert sent(outcome).body.outputs["copy"]["text"] == "A mug."


async def test_one_person_rejects_where_four_eyes_approve() -> None:
    _, outcome = await after(held_task(four_eyes=True), verdict("reject", "ann", 1, reason="no"))
    assert sent(outcome).body.end is End.REJECTED


@pytest.mark.parametrize(
    ("then", "end"), [("release", None), ("reject", End.REJECTED), ("escalate", "held"), ("none", "held")]
)
async def test_what_nobody_decides_in_time_is_treated_as_the_step_says(then: str, end: Any) -> None:
    task = held_task(due_seconds=30, on_due=then, priority="normal", escalate_to="leads")
    cell, outcome = await after(task, due(30))
    assert noted(cell) == [("callstream", "due", 30)]
    if end == "held":
        assert outcome == Keep()
        assert review_in(cell)["priority"] == ("high" if then == "escalate" else "normal")
        assert review_in(cell)["group"] == ("leads" if then == "escalate" else None)
    else:
        assert sent(outcome).body.end is end
    writes = cell.writes
    assert (await after(due(30), cell=cell))[1] == outcome
    assert cell.writes == writes


async def test_a_decision_before_it_makes_the_time_out_void_and_a_time_out_comes_once() -> None:
    task = held_task(due_seconds=30, on_due="reject")
    cell, _ = await after(task, verdict("approve", "ann", 1))
    _, outcome = await after(due(30), cell=cell)
    assert isinstance(outcome, Resume)
    assert not isinstance(outcome.outcome, Finish)
    cell, outcome = await after(task, due(29))
    assert outcome == Keep()


async def test_what_was_edited_before_its_time_was_over_is_what_is_released() -> None:
    task = held_task(due_seconds=30, on_due="release", four_eyes=True)
    _, outcome = await after(task, verdict("edit", "ann", 1, edits=GOOD), due(30))
    assert sent(outcome).body.outputs["copy"]["text"] == "A mug."


async def test_the_timer_and_those_who_show_the_task_are_told() -> None:
    desk, cell = ReviewDesk(chains=CHAINS), RowCell()
    held = held_task(due_seconds=30, on_due="reject")
    first = await desk.review(held, cell)
    [timer] = settle(held, first, WORK, CHAINS)
    assert timer.topic == "callstream.timer"
    assert dict(timer.headers)["callstream-due"] == b"130000000"
    claimed = claim("ann", 1)
    [remark] = settle(claimed, await desk.review(claimed, cell), WORK, CHAINS)
    told = decode(remark.value, remark.headers)
    assert (remark.topic, told.type, told.body.trail) == ("callstream.notified", TASK_REVIEWED, ())
    assert told.body.outputs["review"]["claim"]["by"] == "ann"
    approved = verdict("approve", "ann", 2)
    records = settle(approved, await desk.review(approved, cell), WORK, CHAINS)
    assert [record.topic for record in records] == ["callstream.notified", "callstream.moderate"]
    again = settle(approved, await desk.review(approved, cell), WORK, CHAINS)
    assert [record.value for record in again][:1] == [record.value for record in records][:1]


async def test_a_hold_without_terms_is_what_it_was_and_tells_nobody() -> None:
    held = held_task()
    plain = held.body.additions
    assert plain == {"review": {"text": COPY, "regenerate": "copy"}}
    outcome = await ReviewDesk(chains=CHAINS).review(held, RowCell())
    assert outcome == Keep()
    assert not isinstance(outcome, Reviewed)


async def test_nothing_of_the_review_travels_on_with_a_task() -> None:
    _, outcome = await after(held_task(four_eyes=False), verdict("approve", "ann", 1))
    assert sent(outcome).body.additions == {}


@pytest.mark.parametrize(
    "given",
    [
        {"verdict": "regenerate", "reviewer": "ann"},
        {"verdict": "regenerate", "reviewer": "ann", "reason": "  "},
        {"verdict": "approve", "reviewer": "ann", "group": "legal"},
        {"verdict": "escalate", "reviewer": "ann", "group": "No group"},
        {"verdict": "escalate", "reviewer": "ann", "edits": GOOD},
    ],
)
def test_what_is_no_verdict(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Verdict.model_validate(given)


@pytest.mark.parametrize("terms", [{"on_due": "reject"}, {"due_seconds": 0}, {"due_seconds": 10**9}, {"rounds": 11}])
def test_what_are_no_terms(terms: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Terms.model_validate(terms)


def test_since_is_when_the_step_had_done() -> None:
    assert held_task().body.trail[-1].ended == SINCE
