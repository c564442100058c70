"""Records for later: onto the timer's topic and back, unchanged."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.streams.event import LAST_SECOND, TASK_WAITING, Event
from callstream.streams.timing import (
    CE_TYPE,
    DESTINATION,
    DUE,
    LONGEST_DELAY_SECONDS,
    BadTimer,
    check_due,
    delayed,
    microseconds,
    timed,
)
from callstream.streams.wire import Record, decode, encode
from tests.support.events import EVENTS, an_event

RECORD = encode(an_event(), "callstream.infer")
NAMES = st.sampled_from(["ce_id", "ce_type", "traceparent", "ce_dataref", "x"])
RECORDS = st.builds(
    Record,
    topic=st.sampled_from(["callstream.infer", "callstream.intake"]),
    key=st.binary(max_size=9),
    value=st.binary(max_size=9),
    headers=st.lists(st.tuples(NAMES, st.binary(min_size=1, max_size=9)), unique_by=lambda one: one[0]),
)


@given(RECORDS, st.integers(0, LAST_SECOND * 1_000_000))
def test_what_is_delayed_comes_back_as_it_was_with_its_time(record: Record, due: int) -> None:
    later = delayed(record, due / 1_000_000)
    assert (later.topic, later.key, later.value) == ("callstream.timer", record.key, record.value)
    back = timed(later.key, later.value, later.headers)
    assert back.record == record
    assert abs(back.due - due) <= 32


@given(EVENTS, st.floats(0, LAST_SECOND))
def test_meanwhile_it_is_an_event_that_waits(event: Event, due: float) -> None:
    later = delayed(encode(event, "callstream.infer"), due)
    assert decode(later.value, later.headers) == replace(event, type=TASK_WAITING)


def test_the_same_event_to_the_same_topic_is_the_same_timer() -> None:
    first, other = (delayed(one, 5.0) for one in (RECORD, encode(an_event(attempt=2), "callstream.infer")))
    names = [timed(one.key, one.value, one.headers).id for one in (first, first, other)]
    assert names == ["callstream.infer/4:acme:mug-1/1/1"] * 2 + ["callstream.infer/4:acme:mug-1/1/2"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({DUE: None}, "callstream-due is missing"),
        ({DUE: b"soon"}, "'soon', not microseconds"),
        ({DUE: b"-1"}, "'-1', not microseconds"),
        ({DUE: b"9" * 40}, "not microseconds"),
        ({DUE: "\u0661".encode()}, "not microseconds"),
        ({DUE: b"\xff"}, "not microseconds"),
        ({DESTINATION: None}, "callstream-destination is missing"),
        ({DESTINATION: b""}, "callstream-destination is missing"),
    ],
)
def test_what_is_no_timer_is_told_why(change: dict[str, bytes | None], said: str) -> None:
    headers = {**dict[str, bytes | None](delayed(RECORD, 5.0).headers), **change}
    with pytest.raises(BadTimer, match=said):
        timed(b"", b"", headers.items())


@pytest.mark.parametrize("due", [math.nan, math.inf, -math.inf, LAST_SECOND + 1.0])
def test_what_is_no_moment_is_refused(due: float) -> None:
    with pytest.raises(ValueError, match="no moment"):
        delayed(RECORD, due)


def test_a_time_before_1970_is_1970() -> None:
    assert microseconds(-5.0) == 0


@pytest.mark.parametrize("due", [-1e9, 0.0, 100.0, 100.0 + LONGEST_DELAY_SECONDS])
def test_the_past_and_a_year_ahead_are_taken(due: float) -> None:
    check_due(due, now=100.0)


@pytest.mark.parametrize("due", [101.0 + LONGEST_DELAY_SECONDS, math.inf, math.nan])
def test_what_lies_further_ahead_is_refused(due: float) -> None:
    with pytest.raises(ValueError, match="within a year"):
        check_due(due, now=100.0)


def test_a_record_without_a_type_gets_none() -> None:
    bare = Record("callstream.infer", b"k", b"v", [("x", b"y")])
    assert CE_TYPE not in dict(delayed(bare, 1.0).headers)
