import math
import sys
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from callstream.agents.inference.admission.breaker import (
    MOST_CLOSED_SECONDS,
    MOST_PAUSE_SECONDS,
    PROBE_SECONDS,
    Breaker,
    State,
)


def opened(now: float = 0.0) -> Breaker:
    """A breaker that five failures opened at `now`, for a second."""
    breaker = Breaker()
    for _ in range(5):
        assert breaker.may(now)
        breaker.failed(now)
    return breaker


def test_it_opens_after_failures_in_a_row() -> None:
    breaker = Breaker(in_a_row=3)
    for outcome in (breaker.failed, breaker.failed, breaker.succeeded, breaker.failed, breaker.failed):
        outcome(1.0)
        assert (breaker.state(1.0), breaker.opens_at(1.0)) == (State.CLOSED, None)
    breaker.failed(1.0)
    assert (breaker.state(1.0), breaker.may(1.5), breaker.opens_at(1.5)) == (State.OPEN, False, 2.0)


@pytest.mark.parametrize(("calls", "apart", "state"), [(20, 0.1, State.OPEN), (18, 0.1, State.CLOSED)])
def test_it_opens_when_a_share_of_enough_calls_failed(calls: int, apart: float, state: State) -> None:
    breaker = Breaker()
    for number in range(calls):
        outcome = breaker.failed if number % 2 else breaker.succeeded
        outcome(number * apart)
    assert breaker.state(calls * apart) is state


def test_failures_that_are_past_do_not_count() -> None:
    # given nine failures among eighteen calls, and then a long silence
    breaker = Breaker()
    for number in range(18):
        (breaker.failed if number % 2 else breaker.succeeded)(float(number) / 10)
    # when some more calls fail, not many of them in a row
    for number in range(8):
        (breaker.failed if number % 2 else breaker.succeeded)(40.0 + number)
    # then there were too few calls to judge by
    assert breaker.state(48.0) is State.CLOSED


def test_what_opened_it_is_not_held_against_it_twice() -> None:
    # given a breaker that a share of calls opened, and a probe that succeeded
    breaker = Breaker()
    for number in range(20):
        (breaker.failed if number % 2 else breaker.succeeded)(float(number) / 10)
    assert (breaker.state(2.0), breaker.may(3.0)) == (State.OPEN, True)
    breaker.succeeded(3.0)
    # when one call more fails, then it stays closed
    breaker.failed(3.1)
    assert breaker.state(3.1) is State.CLOSED


def test_one_probe_goes_and_its_success_closes() -> None:
    breaker = opened()
    assert [breaker.may(at) for at in (0.5, 1.0, 1.0, 1.2)] == [False, True, False, False]
    assert breaker.state(1.2) is State.HALF_OPEN
    assert breaker.opens_at(1.2) == 1.7
    breaker.succeeded(1.3)
    assert (breaker.state(1.3), breaker.may(1.3), breaker.may(1.3)) == (State.CLOSED, True, True)


def test_pauses_double_up_to_a_minute_while_probes_fail() -> None:
    breaker, now, pauses = opened(), 0.0, []
    for _ in range(9):
        at = breaker.opens_at(now)
        assert at is not None
        pauses.append(at - now)
        now = at
        assert breaker.may(now)
        breaker.failed(now)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]


@pytest.mark.parametrize(("well_for", "pause"), [(10.0, 2.0), (31.0, 1.0)])
def test_pauses_begin_anew_once_it_was_well_for_a_while(well_for: float, pause: float) -> None:
    breaker = opened()
    assert breaker.may(1.0)
    breaker.succeeded(1.0)
    again = 1.0 + well_for
    for _ in range(5):
        breaker.failed(again)
    assert breaker.opens_at(again) == again + pause


def test_a_lost_probe_makes_room_for_another() -> None:
    # given a probe that was given up, then one of which nothing is heard
    breaker = opened()
    assert breaker.may(1.0)
    breaker.abandoned(1.1)
    assert (breaker.may(1.1), breaker.may(1.2)) == (True, False)
    # then it is taken for lost in the end, also where a stopped process sees hours pass at once
    assert not breaker.may(PROBE_SECONDS)
    assert breaker.opens_at(PROBE_SECONDS + 1) == 1.1 + PROBE_SECONDS
    assert (breaker.may(3601.0), breaker.may(3601.0)) == (True, False)


def test_calls_from_before_it_opened_tell_nothing_of_the_probe() -> None:
    breaker = opened(10.0)
    assert breaker.may(11.0)
    for outcome in (breaker.failed, breaker.succeeded, breaker.abandoned):
        outcome(11.5, 9.0)
        assert (breaker.state(11.5), breaker.may(11.5)) == (State.HALF_OPEN, False)
    breaker.succeeded(12.0, 11.0)
    for _ in range(9):
        breaker.failed(12.5, 9.0)
    assert breaker.state(12.5) is State.CLOSED


def test_what_ends_while_it_is_open_changes_nothing() -> None:
    breaker = opened()
    for outcome in (breaker.failed, breaker.succeeded, breaker.abandoned):
        outcome(0.5)
        assert breaker.opens_at(0.5) == 1.0


def test_a_pause_that_was_asked_for_holds_in_any_state_and_spends_no_probe() -> None:
    breaker = Breaker()
    breaker.close_until(0.0, 30.0)
    breaker.close_until(1.0, 5.0)
    assert (breaker.state(1.0), breaker.may(29.0), breaker.opens_at(29.0)) == (State.CLOSED, False, 30.0)
    for _ in range(5):
        breaker.failed(29.0)
    breaker.close_until(29.0, 10.0)
    assert (breaker.state(31.0), breaker.may(31.0), breaker.opens_at(31.0)) == (State.HALF_OPEN, False, 39.0)
    assert (breaker.may(39.0), breaker.may(39.0)) == (True, False)


@pytest.mark.parametrize(
    ("seconds", "at"),
    [(-1.0, None), (math.nan, None), (math.inf, None), (-math.inf, None), (0.0, None), (99999999.0, 3602.0)],
)
def test_a_pause_that_makes_no_sense_is_ignored_and_a_long_one_cut(seconds: float, at: float | None) -> None:
    breaker = Breaker()
    breaker.close_until(2.0, seconds)
    assert breaker.opens_at(2.0) == at


@pytest.mark.parametrize(
    "numbers", [(0, 0.5, 20, 30.0), (5, 0.0, 20, 30.0), (5, math.nan, 20, 30.0), (5, 0.5, 0, 30.0), (5, 0.5, 20, 0.0)]
)
def test_numbers_that_make_no_sense_are_refused(numbers: tuple[int, float, int, float]) -> None:
    with pytest.raises(ValueError, match="a breaker needs"):
        Breaker(*numbers)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 3600)), max_size=300))
def test_it_remembers_no_more_however_many_calls_there_are(calls: list[tuple[bool, float]]) -> None:
    breaker, now = Breaker(in_a_row=1000, share=1.0), 0.0
    for failed, step in calls:
        now += step
        (breaker.failed if failed else breaker.succeeded)(now)
    slices = [kept for kept in vars(breaker).values() if hasattr(kept, "__len__")]
    assert sum(map(len, slices)) <= 11
    assert sum(map(sys.getsizeof, slices)) < 2000


@dataclass(eq=False)
class Sent:
    """A call that was let through, and whether as a probe."""

    started: float
    probe: bool


class Model(RuleBasedStateMachine):
    """Any order of calls, outcomes, requests for a pause and steps of the clock; calls may come back hours late."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(in_a_row=2, least_calls=4)
        self.now = 0.0
        self.sent: list[Sent] = []

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.9, 1.0, 5.0, 59.0, 299.0, 3600.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        # What was not heard of for so long counts as lost; it may still come back, as any older call.
        for one in self.sent:
            one.probe = one.probe and self.now < one.started + PROBE_SECONDS

    @rule()
    def call(self) -> None:
        state, opens = self.breaker.state(self.now), self.breaker.opens_at(self.now)
        went = self.breaker.may(self.now)
        assert went == (opens is None)
        if went:
            assert state is not State.OPEN
            self.sent.append(Sent(self.now, state is State.HALF_OPEN))

    @rule(data=st.data(), outcome=st.sampled_from(["succeeded", "failed", "failed", "failed", "abandoned"]))
    def come_back(self, data: st.DataObject, outcome: str) -> None:
        if self.sent:
            one = data.draw(st.sampled_from(self.sent))
            self.sent.remove(one)
            getattr(self.breaker, outcome)(self.now, one.started)

    @rule(seconds=st.sampled_from([-1.0, math.nan, math.inf, 0.0, 2.0, 30.0, 1e9]))
    def ask_for_a_pause(self, seconds: float) -> None:
        self.breaker.close_until(self.now, seconds)

    @invariant()
    def one_probe_at_most(self) -> None:
        assert sum(one.probe for one in self.sent) <= 1

    @invariant()
    def a_call_goes_again_after_finite_time(self) -> None:
        assert Breaker.opens_at(self.breaker, self.now + MOST_CLOSED_SECONDS + MOST_PAUSE_SECONDS) is None
        opens = self.breaker.opens_at(self.now)
        assert opens is None or self.now < opens <= self.now + MOST_CLOSED_SECONDS


TestBreakerAgainstItsModel = Model.TestCase
TestBreakerAgainstItsModel.settings = settings(max_examples=60, stateful_step_count=40)
