from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.agents.review import Claim, command_event
from callstream.agents.review.said import Due
from callstream.agents.settle import Work, settle
from callstream.streams.event import (
    TASK_NOTIFIED,
    TASK_REVIEWED,
    TASK_UNDO,
    TASK_WAITING,
    End,
    Event,
    Failure,
    Hop,
    Json,
    Undoing,
    Usage,
    Waiting,
    WaitReason,
)
from callstream.streams.outcome import Announce, Bury, Cancelled, Finish, Forward, Hold, Outcome, Resume
from callstream.streams.partial import remark
from callstream.streams.review import opened
from callstream.streams.wire import decode
from callstream.tables.tasks import fold, state_of
from tests.support.events import CHAINS, EVENTS, an_event

SUBMITTED = an_event(version=0, sequence=0)


def after(event: Event, outcome: Outcome, service: str = "prepare", step: str = "facts") -> list[Event]:
    """The events that an outcome leads to and the gateway reads, as it reads them."""
    work = Work(service, step, 10.0 + event.sequence, 10.5 + event.sequence)
    records = settle(event, outcome, work, CHAINS)
    return [decode(record.value, record.headers) for record in records if record.topic != "callstream.dead"]


def way(*outcomes: Outcome) -> list[Event]:
    """All events of a task from its submission on; each outcome is that of its next step."""
    [started] = after(SUBMITTED, Resume(replace(SUBMITTED, version=1), Forward()), "intake", "intake")
    events = [SUBMITTED, started]
    for outcome in outcomes:
        events += after(events[-1], outcome)
    return events


CALLED = Usage(model="m", endpoint="e", calls=2, repeated=1, tokens_in=5, tokens_out=7)
FINISHED = way(Forward({"a": 1}), Forward({"b": 2}, CALLED, ("note",)), Forward({"c": 3}))
FAILED = way(Forward({"a": 1}), Bury(Failure(kind="bug", message="broken", traceback="where")))
REJECTED = way(Forward({"a": 1}), Finish({"word": "best"}, rejected=True, reason="a claim"))
CANCELLED = way(Forward({"a": 1}), Cancelled("by ada"))
HELD = way(Forward({"a": 1}), Hold("a person must look", {"word": "best"}))
REVIEWED = [*HELD, *after(HELD[-1], Resume(replace(HELD[-1], sequence=2, type="callstream.task"), Forward({"ok": 1})))]
TOLD = [*FINISHED, *after(FINISHED[-1], Announce({"callback": {"state": "delivered"}}), "notify", "notify")]
SCHEDULED = [
    SUBMITTED,
    *after(SUBMITTED, Resume(replace(SUBMITTED, version=1, run_at=50.0), Forward()), "intake", "intake"),
]
BUSY = Waiting(
    reason=WaitReason.RETRY,
    until=70.0,
    started=11.0,
    attempts=1,
    failure=Failure(kind="busy", message="full", step="copy"),
    notes=("attempt 1: busy: full",),
)
WAITING = [*FINISHED[:3], replace(FINISHED[2], attempt=2, type=TASK_WAITING).with_body(waiting=BUSY)]
BACK = [*WAITING, replace(WAITING[-1], type="callstream.task")]
STARTED = [*SCHEDULED, replace(SCHEDULED[-1], type="callstream.task")]
WAYS = {"finished": FINISHED, "failed": FAILED, "rejected": REJECTED, "held": HELD, "reviewed": REVIEWED, "told": TOLD}
DUE_AT = command_event(HELD[-1], Due(at=99.0), 99.0)
NOTED = replace(command_event(HELD[-1], Claim(reviewer="ann", seconds=60), 20.0), type=TASK_REVIEWED).with_body(
    outputs={"review": opened(HELD[-1]) | {"told": 1, "claim": {"by": "ann", "since": 20.0, "until": 80.0}}}
)
WAYS |= {"due": [*HELD, replace(DUE_AT, type=TASK_WAITING)], "claimed": [*HELD, NOTED], "noted": [*REVIEWED, NOTED]}
WAYS |= {"scheduled": SCHEDULED, "started": STARTED, "waiting": WAITING, "back": BACK}
WRITTEN = [remark(FINISHED[2], 1, "copy", "A "), remark(FINISHED[2], 2, "copy", "A mug")]
UNANSWERED = way(Forward({"a": 1}), Bury(Failure(kind="timeout", message="cut", step="copy")))
WAYS |= {"written": [*FINISHED[:3], *WRITTEN], "unanswered": [*UNANSWERED, *WRITTEN]}
ON_ITS_WAY_BACK = replace(UNANSWERED[-1], type=TASK_UNDO).with_body(end=None, undoing=Undoing(step=1, end=End.FAILED))
WAYS |= {"undoing": [*UNANSWERED[:-1], *WRITTEN, ON_ITS_WAY_BACK]}
WAYS |= {"undone": [*WAYS["undoing"], replace(UNANSWERED[-1], sequence=UNANSWERED[-1].sequence + 1)]}
WAYS |= {"answered": [*FINISHED[:3], *WRITTEN, *FINISHED[3:]]}
WAYS |= {"done": [*BACK, *after(BACK[-1], Forward({"b": 2}))]}


def folded(events: list[Event]) -> tuple[Json, list[Hop]]:
    """The row after all of them, and every hop that was new."""
    row: Json | None = None
    hops: list[Hop] = []
    for event in events:
        row, new = fold(row, event, CHAINS, 99.0)
        hops += new
    assert row is not None
    return row, hops


@pytest.mark.parametrize("name", WAYS)
@given(data=st.data())
def test_every_event_twice_and_in_any_order_gives_the_same_row_and_counts_each_hop_once(
    name: str, data: st.DataObject
) -> None:
    events = WAYS[name]
    row, hops = folded(events)
    shuffled = data.draw(st.permutations(events * 2))
    again, counted = folded(shuffled)
    assert again == row
    assert counted == hops
    assert len(hops) == max(len(event.body.trail) for event in events)


def test_what_is_written_of_an_answer_is_shown_until_its_step_is_done_and_stays_where_it_failed() -> None:
    shown = {"step": "copy", "start": 0, "characters": 5, "text": "A mug", "run": 0, "sequence": 2, "part": 2}

    assert folded(WAYS["written"])[0]["partial"] == shown
    assert folded(WAYS["unanswered"])[0]["partial"] == shown
    assert folded(WAYS["undone"])[0]["partial"] == shown
    assert "partial" not in folded(WAYS["answered"])[0]
    assert "partial" not in folded([*FAILED, *WRITTEN])[0]


def test_what_a_row_has_seen_does_not_touch_it() -> None:
    row, _ = folded(FINISHED)
    for event in FINISHED:
        assert fold(row, event, CHAINS, 100.0) == (row, ())


@given(st.lists(EVENTS, max_size=3).map(lambda events: [replace(event, tenant="a", task="b") for event in events]))
def test_a_row_never_goes_backwards(events: list[Event]) -> None:
    row: Json | None = None
    for event in events:
        before = (-1, -1, False) if row is None else standing(row)
        row, _ = fold(row, event, CHAINS, 99.0)
        assert standing(row) >= before


def standing(row: Json) -> tuple[int, int, bool]:
    return row["run"], row["sequence"], row["state"] in ("finished", "rejected", "failed")


@pytest.mark.parametrize(
    ("events", "state", "following"),
    [
        (FINISHED[:1], "accepted", {"step": "intake", "service": "intake"}),
        (FINISHED[:2], "running", {"step": "facts", "service": "prepare"}),
        (FINISHED[:3], "running", {"step": "copy", "service": "infer"}),
        (FINISHED, "finished", None),
        (FAILED, "failed", None),
        (REJECTED, "rejected", None),
        (HELD, "held", {"step": "check", "service": "moderate"}),
        (REVIEWED, "running", {"step": "check", "service": "moderate"}),
        (SCHEDULED, "accepted", {"step": "facts", "service": "prepare"}),
        (WAITING, "running", {"step": "copy", "service": "infer"}),
        (BACK, "running", {"step": "copy", "service": "infer"}),
    ],
)
def test_a_row_says_where_its_task_is(events: list[Event], state: str, following: Json | None) -> None:
    row, _ = folded(events)
    assert (row["state"], row["next"]) == (state, following)
    assert state_of(events[-1]) == state


def test_a_row_says_what_was_done_when_and_at_what_cost() -> None:
    row, _ = folded(FINISHED)
    assert [step["step"] for step in row["steps"]] == ["intake", "facts", "facts", "facts"]
    assert row["steps"][2] == {
        "step": "facts",
        "service": "prepare",
        "started": 12.0,
        "ended": 12.5,
        "seconds": 0.5,
        "waited": 0.5,
        "worked": 0.5,
        "retried": 0.0,
        "attempts": 1,
        "model": "m",
        "calls": 2,
        "repeated": 1,
        "tokens_in": 5,
        "tokens_out": 7,
        "notes": ["note"],
    }
    assert (row["result"], row["failure"], row["outputs"]) == ({"facts": {"c": 3}}, None, None)
    assert (row["tenant"], row["id"], row["chain"], row["version"]) == ("acme", "mug-1", "shop", 1)
    assert (row["created"], row["updated"]) == (10.0, 99.0)


def test_a_failure_is_told_without_its_traceback() -> None:
    row, _ = folded(FAILED)
    assert row["failure"] == {"kind": "bug", "message": "broken", "step": "facts"}
    assert folded(REJECTED)[0]["failure"] == {"kind": "rejected", "message": "a claim", "step": "facts"}


def test_a_held_task_shows_what_there_is_to_decide_about() -> None:
    row, _ = folded(HELD)
    assert (row["held"], row["outputs"]) == ("a person must look", {"facts": {"word": "best"}})
    assert (folded(REVIEWED)[0]["held"], folded(REVIEWED)[0]["outputs"]) == (None, None)


def test_a_remark_that_overtakes_its_task_makes_a_whole_row_that_gives_way_to_any_event() -> None:
    [told] = [event for event in TOLD if event.type == TASK_NOTIFIED]
    early, hops = fold(None, told, CHAINS, 99.0)
    assert (early["state"], early["callback"], hops) == ("finished", {"state": "delivered"}, ())
    assert early.keys() == folded(FINISHED)[0].keys()
    row, hops = fold(early, SUBMITTED, CHAINS, 99.0)
    assert (row["state"], row["callback"], hops) == ("accepted", {"state": "delivered"}, ())


def test_a_chain_that_this_gateway_does_not_know_is_shown_all_the_same() -> None:
    row, _ = fold(None, an_event(chain="talk", sequence=2), CHAINS, 99.0)
    assert (row["state"], row["next"]) == ("running", None)


def test_a_row_says_why_the_timer_has_its_task_and_until_when() -> None:
    assert folded(SCHEDULED)[0]["waiting"] == {"reason": "scheduled", "until": 50.0}
    assert folded(WAITING)[0]["waiting"] == {
        "reason": "retry",
        "until": 70.0,
        "attempts": 1,
        "failure": {"kind": "busy", "message": "full", "step": "copy"},
    }


@pytest.mark.parametrize("name", ["started", "back", "done"])
def test_a_task_that_came_back_waits_no_more(name: str) -> None:
    assert "waiting" not in folded(WAYS[name])[0]


RUN = [replace(event, run=1) for event in FINISHED[2:]]


@given(st.permutations([*FAILED, *RUN] * 2))
def test_a_later_run_stands_over_an_earlier_one_in_any_order(events: list[Event]) -> None:
    row, _ = folded(events)
    assert (row["state"], row["run"], row["failure"]) == ("finished", 1, None)
    assert [step["step"] for step in row["steps"]] == ["intake", "facts", "facts", "facts"]


def test_a_later_run_counts_its_own_hops_and_none_of_those_it_kept() -> None:
    row, before = folded(FAILED)
    kept = RUN[0].with_body(trail=RUN[0].body.trail[:2])
    row, hops = fold(row, kept, CHAINS, 99.0)
    assert (row["state"], row["callback"], hops) == ("running", None, ())
    row, hops = fold(row, RUN[-1], CHAINS, 99.0)
    assert hops == RUN[-1].body.trail[2:]
    assert len(before) == 3


def test_a_later_run_that_is_seen_at_its_end_first_counts_all_that_it_did() -> None:
    kept, own = RUN[-1].body.trail[:2], RUN[-1].body.trail[2:]
    later = tuple(hop.model_copy(update={"started": hop.started + 100, "ended": hop.ended + 100}) for hop in own)
    _, hops = fold(folded(FAILED)[0], RUN[-1].with_body(trail=(*kept, *later)), CHAINS, 999.0)
    assert hops == later


def test_a_remark_about_an_earlier_run_does_not_touch_a_later_one() -> None:
    row, _ = folded([*FAILED, *RUN])
    [told] = [event for event in TOLD if event.type == TASK_NOTIFIED]
    assert fold(row, told, CHAINS, 99.0) == (row, ())
    assert fold(row, replace(told, run=1), CHAINS, 99.0)[0]["callback"] == {"state": "delivered"}


def test_a_task_that_has_ended_is_not_cancelled_any_more_and_a_cancelled_one_ends_no_other_way() -> None:
    rejected, cancelled = REJECTED[-1], CANCELLED[-1]
    assert cancelled.sequence > rejected.sequence
    for first, second in ((rejected, cancelled), (FINISHED[-1], cancelled), (cancelled, FINISHED[-1])):
        row, _ = fold(None, first, CHAINS, 1.0)
        assert fold(row, second, CHAINS, 2.0) == (row, ())


def test_a_task_whose_caller_is_told_again_stays_as_it_ended() -> None:
    row, _ = folded(FINISHED)
    waiting = Waiting(reason=WaitReason.RETRY, until=9.0, started=1.0, attempts=1)
    again = replace(FINISHED[-1], attempt=2).with_body(waiting=waiting)
    for event in (again, replace(again, type=TASK_WAITING)):
        assert fold(row, event, CHAINS, 99.0) == (row, ())


def test_a_replayed_task_shows_its_parents_steps_and_counts_only_its_own() -> None:
    # given the event that starts a replay behind one step
    child = replace(FINISHED[2], task="mug-1~0", parent="mug-1", inherited=2, sandbox=True)
    row, hops = fold(None, child, CHAINS, 20.0)
    # then the parent's hops are shown, and are no new ones
    assert ([step["step"] for step in row["steps"]], hops) == (["intake", "facts"], ())
    assert (row["parent"], row["inherited"], row["sandbox"]) == ("mug-1", 2, True)
    # when it takes a step, then that one is
    [done] = after(child, Forward({"b": 2}), "infer", "copy")
    row, hops = fold(row, done, CHAINS, 21.0)
    assert ([hop.step for hop in hops], row["parent"]) == (["copy"], "mug-1")


@pytest.mark.parametrize(
    "told",
    [
        None,
        {},
        {"run": 0, "sequence": 3, "told": 9},
        opened(HELD[-1]) | {"told": 9, "due": "soon"},
        opened(HELD[-1]) | {"told": 9, "claim": {"by": "ann"}},
        opened(HELD[-1]) | {"told": 9, "audit": [7]},
        opened(HELD[-1]) | {"told": 9, "priority": "most"},
    ],
)
def test_what_is_no_review_changes_no_row(told: Json | None) -> None:
    row, _ = folded(HELD)
    outputs = {} if told is None else {"review": told}
    assert folded([*HELD, NOTED.with_body(outputs=outputs)])[0] == row
