from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.agents.settle import LEFT_OUT, Work, line, settle
from callstream.streams.chain import Chain, Chains, UnknownChain
from callstream.streams.event import (
    LETTER_COMMAND,
    MAX_HOPS,
    MAX_NOTES,
    TASK,
    VERDICT,
    Attempt,
    End,
    Event,
    Failure,
    Hop,
    Json,
    Usage,
)
from callstream.streams.outcome import (
    Again,
    Announce,
    Bury,
    Cancelled,
    Finish,
    Forward,
    Hold,
    Keep,
    Outcome,
    Resume,
    Retry,
)
from callstream.streams.wire import MAX_BODY_BYTES, Record, decode, encode
from tests.support.events import CHAINS, EVENTS, FAILURES, OBJECTS, TEXTS, Input, Say, an_event

WORK = Work("prepare", "facts", 11.0, 12.5, attempts=2, notes=("attempt 1: timeout: slow",))
CHECK = Work("moderate", "check", 11.0, 12.5)
BROKEN = Failure(kind="bug", message="broken", traceback="where")


def sent(event: Event, outcome: Outcome, chains: Chains = CHAINS) -> list[tuple[str, Event]]:
    """Topics and events that an outcome leads to, as their readers have them."""
    return [read(record) for record in settle(event, outcome, WORK, chains)]


def read(record: Record) -> tuple[str, Event]:
    event = decode(record.value, record.headers)
    assert record.key == event.key
    return record.topic.removeprefix("callstream."), event


def test_forward_takes_the_task_to_the_next_step() -> None:
    event = an_event(attempt=3, priority="high", deadline=99.0, type="com.example")
    [(topic, following)] = sent(event, Forward({"colour": "blue"}, Usage(model="m", calls=1), ("note",)))
    assert topic == "infer.high"
    assert (following.sequence, following.attempt, following.type) == (2, 1, TASK)
    assert (following.priority, following.deadline, following.time) == ("high", 99.0, 10.0)
    assert following.body.outputs == {"facts": {"colour": "blue"}}
    [hop] = following.body.trail
    assert (hop.step, hop.service, hop.started, hop.ended, hop.attempts) == ("facts", "prepare", 11.0, 12.5, 2)
    assert hop.usage == Usage(model="m", calls=1)
    assert hop.notes == ("attempt 1: timeout: slow", "note")


@pytest.mark.parametrize(("priority", "topic"), [("high", "infer.high"), ("normal", "infer"), ("low", "infer.low")])
def test_calls_of_models_wait_in_the_lane_of_their_priority(priority: str, topic: str) -> None:
    [(sent_to, _)] = sent(an_event(priority=priority), Forward())
    assert sent_to == topic


def test_forward_from_the_last_step_ends_the_task_with_the_outputs_of_all() -> None:
    event = an_event(sequence=3, outputs={"copy": {"text": "A mug."}})
    [(topic, ended)] = sent(event, Forward({"verdict": "pass"}))
    assert (topic, ended.sequence, ended.type) == ("finished", 4, "callstream.task.finished")
    assert ended.body.end is End.FINISHED
    assert ended.body.result == {"copy": {"text": "A mug."}, "facts": {"verdict": "pass"}}
    assert ended.body.failure is None


def test_a_chain_may_say_what_its_result_is() -> None:
    chains = Chains(
        [Chain("shop", Input, (Say("facts", "prepare"),), result=lambda event: {"n": len(event.body.trail)})]
    )
    [(_, ended)] = sent(an_event(), Forward({"a": 1}), chains)
    assert ended.body.result == {"n": 1}


def test_a_step_without_output_leaves_none() -> None:
    [(_, following)] = sent(an_event(outputs={"a": {"b": 1}}), Forward())
    assert following.body.outputs == {"a": {"b": 1}}


def test_finish_ends_the_task_well_before_its_last_step() -> None:
    [(topic, ended)] = sent(an_event(), Finish({"copy": "as before"}))
    assert (topic, ended.body.end, ended.body.result) == ("finished", End.FINISHED, {"facts": {"copy": "as before"}})


def test_finish_rejected_ends_it_with_a_reason_and_no_result() -> None:
    [(topic, ended)] = sent(an_event(), Finish({"word": "best"}, rejected=True, reason="a claim"))
    assert (topic, ended.type, ended.body.end) == ("finished", "callstream.task.rejected", End.REJECTED)
    assert ended.body.failure == Failure(kind="rejected", message="a claim", step="facts")
    assert ended.body.result is None
    assert ended.body.outputs == {"facts": {"word": "best"}}


def test_hold_waits_for_review_before_the_next_step() -> None:
    [(topic, held)] = sent(an_event(), Hold("a person must look", {"word": "best"}))
    assert (topic, held.type, held.sequence, held.body.held) == (
        "review",
        "callstream.task.held",
        2,
        "a person must look",
    )
    assert held.body.outputs == {"facts": {"word": "best"}}
    [(topic, following)] = sent(held, Resume(replace(held, sequence=1), Forward({"verdict": "approve"})))
    assert (topic, following.sequence, following.body.held) == ("infer", 2, None)


def test_bury_keeps_the_event_with_its_failure_and_ends_the_task() -> None:
    event = an_event(outputs={"a": {"b": 1}}, attempt=2)
    [(first, dead), (second, ended)] = sent(event, Bury(BROKEN))
    assert (first, dead.type, dead.id) == ("dead", "callstream.task.dead", event.id)
    assert dead.body.failure == BROKEN.model_copy(update={"step": "facts"})
    assert dead.body.outputs == {"a": {"b": 1}}
    assert dead.body.trail[-1].notes == ("attempt 1: timeout: slow", "bug: broken")
    assert (second, ended.type, ended.sequence, ended.body.end) == ("finished", "callstream.task.failed", 2, End.FAILED)
    assert ended.body.failure == dead.body.failure
    assert ended.body.result is None


def test_bury_of_one_event_alone_does_not_end_the_task() -> None:
    assert [topic for topic, _ in sent(an_event(), Bury(BROKEN, ends_task=False))] == ["dead"]


@pytest.mark.parametrize(
    "event",
    [an_event(end=End.FINISHED), an_event(type=VERDICT), an_event(type=LETTER_COMMAND)],
    ids=["ended", "verdict", "command"],
)
def test_bury_of_what_tells_of_a_task_does_not_end_it(event: Event) -> None:
    assert [topic for topic, _ in sent(event, Bury(BROKEN))] == ["dead"]


def test_resume_performs_the_outcome_for_the_other_event() -> None:
    held = an_event(sequence=2, outputs={"x": {"y": 1}})
    [(topic, following)] = sent(an_event(type=VERDICT, sequence=3), Resume(held, Forward({"verdict": "approve"})))
    assert (topic, following.sequence) == ("moderate", 3)
    assert following.body.outputs == {"x": {"y": 1}, "facts": {"verdict": "approve"}}


def test_announce_is_a_remark_and_changes_nothing() -> None:
    event = an_event(end=End.FINISHED, sequence=4)
    [(topic, said)] = sent(event, Announce({"callback": {"state": "delivered"}}))
    assert (topic, said.type, said.sequence) == ("notified", "callstream.task.notified", 4)
    assert said.body.outputs == {"prepare": {"callback": {"state": "delivered"}}}


def test_keep_sends_nothing() -> None:
    assert settle(an_event(), Keep(), WORK, CHAINS) == []


def test_the_same_decision_gives_the_same_bytes() -> None:
    for outcome in (Forward({"a": 1}), Bury(BROKEN), Hold("x"), Finish(rejected=True)):
        assert settle(an_event(), outcome, WORK, CHAINS) == settle(an_event(), outcome, WORK, CHAINS)


def nested(depth: int) -> Json:
    value: Json = {}
    for _ in range(depth):
        value = {"a": value}
    return value


def raising(event: Event) -> Json:
    raise KeyError("text")


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (Forward({"text": float("nan")}), ValueError),
        (Forward({"text": float("inf")}), ValueError),
        (Forward({"text": "\ud800"}), ValueError),
        (Forward({"text": object()}), ValueError),
        (Forward({"text": 10**19}), ValueError),
        (Forward(nested(40)), ValueError),
        (Forward(nested(5_000)), ValueError),
        (Forward({"text": "x" * MAX_BODY_BYTES}), ValueError),
        (Forward(["text"]), ValueError),  # type: ignore[arg-type]  # as a step without types may have it
        (Hold("x", {"text": float("nan")}), ValueError),
        (Finish({"text": "\ud800"}), ValueError),
        (Announce({"text": float("nan")}), ValueError),
        (None, TypeError),
        ({"text": "A mug."}, TypeError),
        (Retry(BROKEN), AssertionError),
        (Resume(an_event(version=7), Forward()), UnknownChain),
    ],
)
def test_what_cannot_be_performed_is_refused(outcome: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        settle(an_event(), outcome, WORK, CHAINS)


@pytest.mark.parametrize("result", [raising, lambda event: ["text"], lambda event: {"x": float("nan")}])
def test_a_result_that_is_none_is_refused(result: Callable[[Event], Json]) -> None:
    chains = Chains([Chain("shop", Input, (Say("facts", "prepare"),), result=result)])
    with pytest.raises((ValueError, KeyError)):
        settle(an_event(), Forward({"a": 1}), WORK, chains)
    assert [topic for topic, _ in sent(an_event(), Bury(BROKEN), chains)] == ["dead", "finished"]


def test_texts_for_people_are_cut_and_cleaned_rather_than_refused() -> None:
    [(_, following)] = sent(an_event(), Forward({"a": 1}, notes=("x" * 5_000, "\ud800", *("y" for _ in range(40)))))
    assert len(following.body.trail[0].notes) == MAX_NOTES
    [(_, following)] = sent(an_event(), Forward({"a": 1}, notes=("x" * 5_000, "\ud800")))
    assert following.body.trail[0].notes[1:] == ("x" * 2_000, "\\ud800")
    [(_, held)] = sent(an_event(), Hold("\ud800" * 5_000))
    assert held.body.held == line("\ud800" * 5_000)
    [(_, ended)] = sent(an_event(), Finish(rejected=True, reason="\udfff"))
    assert ended.body.failure is not None
    assert ended.body.failure.message == "\\udfff"


HOPS = tuple(Hop(step="facts", service="prepare", started=1.0, ended=2.0, notes=(str(n),)) for n in range(MAX_HOPS))


def test_a_full_trail_takes_no_step_more_but_a_burial() -> None:
    event = an_event(trail=HOPS)
    with pytest.raises(ValueError, match="64 hops and takes no more"):
        settle(event, Forward({"a": 1}), WORK, CHAINS)
    for _, gone in sent(event, Bury(BROKEN)):
        assert len(gone.body.trail) == MAX_HOPS
        assert gone.body.trail[:-1] == HOPS[:-1]
        assert gone.body.trail[-1].notes[-1] == "bug: broken"


def test_the_last_sequence_can_still_be_buried() -> None:
    [_, (_, ended)] = sent(an_event(sequence=9_999), Bury(BROKEN))
    assert (ended.sequence, ended.body.end) == (9_999, End.FAILED)


def filled(size: int, outputs: Json | None = None) -> Event:
    """An event whose body has about that many bytes."""
    own = len(encode(an_event(outputs=outputs or {}), "").value)
    return an_event(outputs={"a": {"b": "x" * (size - own - 30)}} | (outputs or {}))


def test_an_event_at_the_bound_is_passed_on_and_buried_whole() -> None:
    event = filled(MAX_BODY_BYTES - 400)
    assert [topic for topic, _ in sent(event, Forward({"a": 1}))] == ["infer"]
    for _, gone in sent(event, Bury(BROKEN)):
        assert gone.body.outputs == event.body.outputs


def test_what_leaves_no_room_for_its_burial_is_buried_without_what_made_it_large() -> None:
    record = encode(an_event(outputs={"a": {"b": ["here"]}}), "")
    # Ten bytes as they were read, eighteen as Python writes them.
    event = decode(record.value.replace(b'"here"', b",".join([b"1000000e9"] * 240_000)), record.headers)
    with pytest.raises(ValueError, match="at most 4,194,304 are passed on"):
        encode(event, "")
    gone = sent(event, Bury(BROKEN))
    assert [topic for topic, _ in gone] == ["dead", "finished"]
    for _, bare in gone:
        assert (bare.body.outputs, bare.input, bare.task) == ({}, {}, "mug-1")
        assert bare.body.submission.chain == "shop"
        assert bare.body.trail[-1].notes == ("attempt 1: timeout: slow", LEFT_OUT, "bug: broken")
        assert bare.body.failure is not None


def test_a_failure_as_large_as_it_may_be_can_be_buried() -> None:
    worst = Failure(kind="k" * 48, message="\x1f" * 2_000, step="s" * 100, traceback="\x1f" * 8_000)
    work = Work("prepare", "facts", 0.0, 0.0, attempts=1_000_000, notes=("\ud800" * 9_000,) * 100)
    for event in (an_event(), filled(MAX_BODY_BYTES - 100), an_event(trail=HOPS)):
        topics = [read(record)[0] for record in settle(event, Bury(worst), work, CHAINS)]
        assert topics == ["dead", "finished"]


WILD = st.recursive(
    st.none() | st.floats() | st.integers() | st.text(max_size=5) | st.just("\ud800") | st.just(b"x"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=5,
)
OUTPUTS: st.SearchStrategy[Any] = OBJECTS | st.dictionaries(TEXTS, WILD, max_size=3)
NOTES = st.lists(st.text(max_size=5) | st.just("\ud800") | st.just("x" * 3_000), max_size=40).map(tuple)
DECIDED = st.one_of(
    st.builds(Forward, OUTPUTS, st.none(), NOTES),
    st.builds(Finish, OUTPUTS, st.booleans(), TEXTS | st.just("\ud800" * 3_000)),
    st.builds(Bury, FAILURES, st.booleans()),
)
OUTCOMES = st.one_of(
    DECIDED,
    st.builds(Hold, TEXTS | st.just("\ud800"), OUTPUTS),
    st.builds(Announce, OUTPUTS),
    st.builds(Resume, EVENTS, DECIDED),
    st.just(Keep()),
    WILD,
)
KNOWN = EVENTS.map(lambda event: replace(event, chain="shop", version=1, sequence=event.sequence % 4))


@given(EVENTS | KNOWN, OUTCOMES)
def test_whatever_is_sent_its_reader_takes_and_whatever_is_not_can_be_buried(event: Event, outcome: Any) -> None:
    record = encode(event, "")
    event = decode(record.value, record.headers)
    try:
        records = settle(event, outcome, WORK, CHAINS)
    except (ValueError, TypeError, UnknownChain) as error:
        failure = Failure(kind="bug", message=line(str(error)))
        records = settle(event, Bury(failure), WORK, CHAINS)
    for record in records:
        read(record)
    if isinstance(outcome, Bury):
        assert records[0].topic == "callstream.dead"


@pytest.mark.parametrize(("known", "told"), [(0, [2]), (1, [1, 2]), (2, [1, 2]), (40, [*range(1, 9), *range(33, 41)])])
def test_a_dead_letter_tells_of_its_record_and_of_each_attempt_once(known: int, told: list[int]) -> None:
    failed = tuple(Attempt(number=number, ended=1.0, kind="bug", message="broken") for number in range(1, known + 1))
    work = replace(WORK, attempts=max(2, known), origin=("callstream.infer", 3, 7), failed=failed)
    before = Failure(kind="rejected", message="a claim")
    [letter] = settle(an_event(end=End.REJECTED, failure=before), Bury(BROKEN, usage=Usage(endpoint="e")), work, CHAINS)
    burial = read(letter)[1].body.burial
    assert burial is not None
    assert (burial.topic, burial.partition, burial.offset) == ("callstream.infer", 3, 7)
    assert (burial.ended_task, burial.before) == (False, before)
    assert [attempt.number for attempt in burial.attempts] == told


def test_what_ends_a_task_says_so_in_its_letter_alone() -> None:
    [(_, dead), (_, ended)] = sent(an_event(), Bury(BROKEN))
    assert dead.body.burial is not None
    assert dead.body.burial.ended_task
    assert ended.body.burial is None


def test_only_the_first_step_waits_for_the_start_of_its_task() -> None:
    [(first, _)] = sent(an_event(sequence=0, run_at=99.0), Forward())
    [(second, _)] = sent(an_event(sequence=1, run_at=99.0), Forward())
    assert (first, second) == ("timer", "infer")


def test_a_cancelled_task_has_the_same_end_wherever_it_is_met() -> None:
    before = [an_event(sequence=sequence) for sequence in (1, 2, 3)] + [an_event(sequence=0, version=0)]
    ends = [sent(event, Cancelled("by ada", Usage(calls=1)))[0] for event in before]
    assert {(topic, ended.id, ended.type) for topic, ended in ends} == {
        ("finished", "4:acme:mug-1/4/1", "callstream.task.cancelled")
    }
    for _, ended in ends:
        assert (ended.body.end, ended.body.result) == (End.CANCELLED, None)
        assert ended.body.failure == Failure(kind="cancelled", message="by ada", step="facts")
        assert (ended.body.trail[-1].notes[-1], ended.body.trail[-1].usage) == ("by ada", Usage(calls=1))


def test_a_task_of_an_unknown_chain_or_with_a_full_trail_can_be_cancelled_too() -> None:
    hop = Hop(step="facts", service="prepare", started=0.0, ended=1.0)
    for event in (an_event(chain="nowhere"), an_event(trail=(hop,) * MAX_HOPS)):
        [(_, ended)] = sent(event, Cancelled("by ada"))
        assert (ended.body.end, len(ended.body.trail) <= MAX_HOPS) == (End.CANCELLED, True)


@given(EVENTS)
def test_a_paused_event_goes_aside_as_it_is(event: Event) -> None:
    assert sent(event, Again(paused=True)) == [("paused", event)]


def test_and_comes_back_to_its_own_step() -> None:
    event = an_event(sequence=2, priority="high", attempt=2, outputs={"facts": {"a": 1}})
    assert sent(event, Again()) == [("infer.high", event)]
    with pytest.raises(UnknownChain):
        sent(an_event(sequence=9), Again())


class Sends(Say):
    """A step that may send a task back."""

    regenerates = "facts"


LOOP = Chains([Chain("shop", Input, (Say("facts", "prepare"), Say("copy", "infer"), Sends("check", "moderate")))])


def test_a_step_sends_a_task_back_in_another_round() -> None:
    event = an_event(sequence=3, outputs={"facts": {"a": 1}, "copy": {"text": "The best."}})
    [(topic, again)] = [read(one) for one in settle(event, Forward({"round": 1}, back="facts"), CHECK, LOOP)]
    assert (topic, again.sequence, again.type) == ("prepare", 5, TASK)
    assert again.body.outputs == {"facts": {"a": 1}, "copy": {"text": "The best."}, "check": {"round": 1}}
    [(topic, ended)] = [read(one) for one in settle(replace(event, sequence=7), Forward(), CHECK, LOOP)]
    assert (topic, ended.body.end) == ("finished", End.FINISHED)
    [(topic, _)] = [read(one) for one in settle(replace(event, sequence=6), Forward(), CHECK, LOOP)]
    assert topic == "moderate"


def test_a_task_that_is_sent_back_for_ever_is_buried() -> None:
    event = an_event(sequence=3)
    for _ in range(MAX_HOPS - 1):
        [(_, event)] = [read(one) for one in settle(event, Forward(back="facts"), CHECK, LOOP)]
        event = replace(event, sequence=event.sequence + 2)
    topics = [read(one)[0] for one in settle(event, Forward(back="facts"), CHECK, LOOP)]
    assert topics == ["dead", "finished"]


@pytest.mark.parametrize("back", ["copy", "check", "nowhere"])
def test_a_way_back_that_is_not_declared_is_refused(back: str) -> None:
    with pytest.raises(ValueError, match="does not declare"):
        settle(an_event(sequence=3), Forward(back=back), CHECK, LOOP)


def test_a_step_changes_texts_of_earlier_outputs() -> None:
    event = an_event(sequence=3, outputs={"copy": {"text": "An idiot.", "tokens": 3}})
    [(_, ended)] = sent(event, Forward({"masked": ["copy.text"]}, edits={"copy": {"text": "An *****."}}))
    assert ended.body.outputs["copy"] == {"text": "An *****.", "tokens": 3}


@pytest.mark.parametrize(
    "edits", [{"copy": {"tokens": "4"}}, {"copy": {"title": "x"}}, {"none": {"text": "x"}}, {"copy": {"text": 3}}]
)
def test_an_edit_of_what_is_no_text_is_refused(edits: dict[str, dict[str, str]]) -> None:
    event = an_event(sequence=3, outputs={"copy": {"text": "A mug.", "tokens": 3}})
    with pytest.raises(ValueError, match="an edit of"):
        sent(event, Forward(edits=edits))
