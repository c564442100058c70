import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.agents.retrying import Again, Failed, GiveUp, decide
from callstream.streams.chain import Attempts
from callstream.streams.errorclass import FINAL, ErrorClass

POLICY = Attempts(
    most=4,
    first_pause_seconds=1.0,
    longest_pause_seconds=30.0,
    by_class={"bug": Attempts(most=2, first_pause_seconds=0.0), "overloaded": Attempts(9, 10.0, 120.0)},
)
MAY_PASS = [one for one in ErrorClass if one not in FINAL]


def failed(error_class: str = "transient", attempt: int = 1, **more: Any) -> Failed:
    return Failed(ErrorClass(error_class), attempt, **more)


@pytest.mark.parametrize(
    ("what", "decision"),
    [
        (failed(), Again(0.5)),
        (failed(attempt=3), Again(2.0)),
        (failed(attempt=4), GiveUp("attempts")),
        (failed("bug"), Again(0.0)),
        (failed("bug", 2), GiveUp("attempts")),
        (failed("overloaded", 8), Again(60.0)),
        (failed("overloaded", 9), GiveUp("attempts")),
        (failed("refused"), GiveUp("refused")),
        (failed("deadline"), GiveUp("deadline")),
        (failed(asked_seconds=7.0), Again(7.0)),
        (failed(asked_seconds=0.1), Again(0.5)),
        (failed(asked_seconds=-5.0), Again(0.5)),
        (failed(asked_seconds=math.nan), Again(0.5)),
        (failed(asked_seconds=7.0, left_seconds=7.0), GiveUp("deadline")),
        (failed(left_seconds=2.0, needs_seconds=2.0), GiveUp("deadline")),
        (failed(left_seconds=2.5, needs_seconds=2.0), Again(0.25)),
        (failed(left_seconds=-1.0), GiveUp("deadline")),
    ],
)
def test_what_is_decided(what: Failed, decision: Again | GiveUp) -> None:
    assert decide(what, POLICY, True, 0.5) == decision


@pytest.mark.parametrize(
    ("what", "decision"),
    [
        (failed(), Again(22.5)),
        (failed("overloaded"), Again(90.0)),
        (failed(attempt=4), GiveUp("attempts")),
        (failed("refused"), GiveUp("refused")),
        (failed(left_seconds=10.0), Again(7.5)),
    ],
)
def test_without_a_budget_the_pause_is_one_of_the_longest(what: Failed, decision: Again | GiveUp) -> None:
    assert decide(what, POLICY, False, 0.5) == decision


@given(
    st.sampled_from(MAY_PASS),
    st.integers(1, 10**6),
    st.none() | st.floats(0, 3600),
    st.floats(0, 7200),
    st.floats(0, 60),
    st.booleans(),
    st.floats(0, 1, exclude_max=True),
)
def test_an_attempt_that_is_begun_can_end_before_the_deadline(
    error_class: ErrorClass,
    attempt: int,
    asked: float | None,
    left: float,
    needs: float,
    has_budget: bool,
    chance: float,
) -> None:
    policy = Attempts(10**7, 0.5, 30.0)
    match decide(Failed(error_class, attempt, asked, left, needs), policy, has_budget, chance):
        case Again(after_seconds=pause):
            assert (asked or 0) <= pause <= max(asked or 0, 30.0)
            assert pause + needs <= left + 1e-9
        case GiveUp(reason=reason):
            assert reason == "deadline"
            assert left <= needs + (asked or 0) + 1e-9


@given(st.sampled_from(sorted(FINAL)), st.booleans(), st.floats(0, 1, exclude_max=True))
def test_what_is_final_is_never_tried_again(error_class: ErrorClass, has_budget: bool, chance: float) -> None:
    assert isinstance(decide(Failed(error_class, 1), Attempts(99), has_budget, chance), GiveUp)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"most": 0}, "at least once"),
        ({"first_pause_seconds": -1.0}, "first_pause_seconds is -1.0"),
        ({"longest_pause_seconds": math.nan}, "longest_pause_seconds is nan"),
        ({"by_class": {"refused": Attempts()}}, "by_class has 'refused'; what may be tried again is transient"),
        ({"by_class": {"bugs": Attempts()}}, "by_class has 'bugs'"),
        ({"by_class": {"bug": POLICY}}, "has a by_class of its own"),
    ],
)
def test_a_policy_that_is_none_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Attempts(**wrong)
