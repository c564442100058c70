"""Leases: who has a held task, and whose verdict counts, by the order of the log and the times of its events."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from callstream.agents.review import Claim
from callstream.agents.review.audit import MOST_NOTED
from callstream.streams.event import Event
from callstream.streams.outcome import Keep, Resume
from callstream.streams.wire import decode, encode
from tests.support.reviews import (
    SINCE,
    RowCell,
    after,
    claim,
    held_task,
    noted,
    release,
    review_in,
    verdict,
)


async def test_of_two_claims_the_first_on_the_log_wins_and_the_other_is_noted() -> None:
    cell, _ = await after(held_task(), claim("ann", 2), claim("bob", 1))
    assert review_in(cell)["claim"] == {"by": "ann", "since": SINCE + 2, "until": SINCE + 62}
    assert noted(cell) == [("ann", "claim", 2), ("bob", "refuse", 1)]
    assert review_in(cell)["audit"][-1]["why"] == "ann has claimed it"


async def test_a_claim_again_renews_the_lease() -> None:
    cell, _ = await after(held_task(), claim("ann", 0), claim("Ann ", 50))
    assert review_in(cell)["claim"] == {"by": "Ann ", "since": SINCE, "until": SINCE + 110}
    assert [what for _, what, _ in noted(cell)] == ["claim", "renew"]


async def test_a_lease_ends_by_the_times_of_events_and_its_end_is_noted_then() -> None:
    cell, _ = await after(held_task(), claim("ann", 0), claim("bob", 60))
    assert review_in(cell)["claim"]["by"] == "bob"
    assert noted(cell) == [("ann", "claim", 0), ("ann", "expire", 60), ("bob", "claim", 60)]


async def test_what_was_released_is_free() -> None:
    cell, _ = await after(held_task(), claim("ann", 0), release("bob", 1), release("ann", 2), claim("bob", 3))
    assert review_in(cell)["claim"]["by"] == "bob"
    assert [what for _, what, _ in noted(cell)] == ["claim", "refuse", "release", "claim"]


@pytest.mark.parametrize(
    ("events", "counts"),
    [
        ([verdict("approve", "bob", 1)], True),
        ([claim("ann", 0), verdict("approve", "ann", 1)], True),
        ([claim("ann", 0), verdict("approve", "bob", 1)], False),
        ([claim("ann", 0), verdict("approve", "bob", 61)], True),
        ([claim("ann", 0), verdict("approve", "ann", 61)], True),
        ([claim("ann", 0), claim("bob", 61), verdict("approve", "ann", 62)], False),
        ([claim("ann", 0), claim("bob", 61), verdict("approve", "ann", 200)], False),
        ([claim("ann", 0), claim("bob", 61), claim("ann", 200), verdict("approve", "ann", 201)], True),
        ([claim("ann", 0), claim("bob", 61), verdict("approve", "cat", 200)], True),
        ([claim("ann", 0), release("ann", 1), verdict("approve", "bob", 2)], True),
    ],
)
async def test_whose_verdict_counts(events: list[Event], counts: bool) -> None:
    cell, outcome = await after(held_task(), *events)
    assert isinstance(outcome, Resume if counts else Keep)
    assert cell.value is not None
    assert cell.value["state"] == ("decided" if counts else "held")
    if not counts:
        assert "claimed it" in cell.value["refused"]["why"]
        assert noted(cell)[-1][1] == "refuse"


async def test_a_claim_that_overtakes_its_task_counts_from_its_own_time() -> None:
    cell, _ = await after(claim("ann", 0), claim("bob", 1), held_task())
    assert review_in(cell)["claim"]["by"] == "ann"
    assert noted(cell) == [("ann", "claim", 0), ("bob", "refuse", 1)]


async def test_a_claim_of_an_earlier_hold_does_nothing_to_a_later_one_and_its_notes_stay() -> None:
    later = held_task(8)
    cell, _ = await after(held_task(), claim("ann", 0), later, claim("bob", 1), claim("cat", 2, held=later))
    assert review_in(cell)["claim"]["by"] == "cat"
    assert [by for by, _, _ in noted(cell)] == ["ann", "cat"]


async def test_what_is_noted_is_bounded() -> None:
    cell, _ = await after(held_task(), *(claim("ann", at) for at in range(MOST_NOTED + 9)))
    assert (len(noted(cell)), review_in(cell)["told"]) == (MOST_NOTED, MOST_NOTED + 9)


async def test_an_older_row_says_the_same_and_may_be_claimed() -> None:
    cell, _ = await after(held_task())
    assert cell.value is not None
    assert "review" not in cell.value
    old = RowCell({**cell.value, "refused": {"why": "x", "at": 1.0}})
    assert (await after(held_task(), cell=old))[1] == Keep()
    assert old.writes == 0
    await after(claim("ann", 0), cell=old)
    assert review_in(old)["claim"]["by"] == "ann"


async def test_an_older_row_with_a_verdict_that_came_early_is_decided_by_it() -> None:
    given = {"verdict": "approve", "reviewer": "ann", "reason": "", "edits": {}}
    row = {"state": "early", "run": 0, "sequence": 3, "verdict": given, "decided": SINCE}
    cell, outcome = await after(held_task(), cell=RowCell(row))
    assert isinstance(outcome, Resume)
    assert cell.value is not None
    assert (cell.value["verdict"], cell.value["decided"]) == (given, SINCE)


def test_a_claim_survives_the_wire_and_older_programs_find_no_verdict_in_it() -> None:
    record = encode(claim("ann", 0.1234), "callstream.verdicts")
    read = decode(record.value, record.headers)
    assert read.body.outputs == {"claim": {"reviewer": "ann", "seconds": 60.0}}
    assert (read.type, read.sequence, read.time) == ("callstream.review.verdict", 3, 100.123)


@pytest.mark.parametrize(
    "given", [{}, {"reviewer": "ann"}, {"reviewer": "", "seconds": 60}, {"reviewer": "a", "seconds": 1}]
)
def test_what_is_no_claim(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Claim.model_validate(given)


async def test_nonsense_on_the_topic_is_noted_and_changes_nothing() -> None:
    nonsense = claim("ann", 0).with_body(outputs={"claim": {"reviewer": 7, "seconds": "long"}})
    cell, outcome = await after(held_task(), nonsense)
    assert outcome == Keep()
    assert (review_in(cell)["claim"], noted(cell)[-1][1]) == (None, "refuse")


WHO = st.sampled_from(["ann", "bob", "cat"])
MOMENTS = st.integers(0, 120)
EVENTS = st.lists(
    st.builds(claim, WHO, MOMENTS)
    | st.builds(release, WHO, MOMENTS)
    | st.builds(verdict, st.sampled_from(["approve", "reject", "escalate"]), WHO, MOMENTS),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.integers(0, 12))
async def test_the_log_read_again_gives_the_same_row_wherever_the_task_stands_in_it(
    events: list[Event], place: int
) -> None:
    log = [held_task(), *events]
    once, _ = await after(*log)
    again, _ = await after(*log)
    twice, _ = await after(*itertools.chain.from_iterable((event, event) for event in log))
    from_the_start, _ = await after(*log, cell=RowCell(once.value))
    late, _ = await after(*events[:place], held_task(), *events[place:])
    assert once.value == again.value == twice.value == from_the_start.value == late.value


@settings(max_examples=60, deadline=None)
@given(EVENTS)
async def test_no_two_have_it_at_once_and_no_verdict_beats_a_lease(events: list[Event]) -> None:
    cell, holder = RowCell(), ""
    await after(held_task(), *events, cell=cell)
    assert cell.value is not None
    for by, what, _ in noted(cell) if "review" in cell.value else ():
        if what == "refuse":
            continue
        assert holder in ("", by), f"{what} by {by} while {holder} has it"
        holder = by if what in ("claim", "renew") else ""
