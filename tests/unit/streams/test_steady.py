"""A clock that follows the wall clock slowly, whatever that does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.streams.steady import JUMP_SECONDS, SLEW, SteadyClock

START = 1_000_000.0
CLOSE = 1e-3
HOUR = 3_600.0
PASSES = st.lists(st.tuples(st.floats(0, 10_000), st.floats(-1e7, 1e7)), max_size=30)
"""Seconds that pass before a look at the clock, and how far the wall clock is off by then."""


@given(PASSES)
def test_it_never_goes_back_and_leaves_the_monotonic_clock_by_the_slew_at_most(
    passes: list[tuple[float, float]],
) -> None:
    clock, elapsed, last = SteadyClock(START, 0.0), 0.0, START
    for seconds, off in passes:
        elapsed += seconds
        now = clock.read(START + elapsed + off, elapsed).now
        assert now >= last
        assert abs(now - (START + elapsed)) <= SLEW * elapsed + CLOSE
        last = now


@given(st.sampled_from([-HOUR, HOUR]), st.lists(st.floats(0.01, 60), min_size=1, max_size=50))
def test_a_step_of_an_hour_moves_it_by_less_than_two_seconds_an_hour_and_is_told_once(
    step: float, pauses: list[float]
) -> None:
    # given a clock that has gone right for a while
    clock = SteadyClock(START, 0.0)
    assert clock.read(START + 100, 100.0).now == START + 100
    # when the wall clock is set, then only the first look after that tells it
    elapsed, jumps = 100.0, []
    for seconds in pauses:
        elapsed += seconds
        reading = clock.read(START + elapsed + step, elapsed)
        jumps.append(reading.jump)
        assert abs(reading.now - (START + elapsed)) <= 2.0 * (elapsed - 100) / HOUR + CLOSE
    assert jumps[0] == pytest.approx(step)
    assert not any(jumps[1:])


@given(st.floats(-SLEW * 0.9, SLEW * 0.9), st.lists(st.floats(0.01, 60), min_size=1, max_size=50))
def test_a_wall_clock_that_drifts_is_followed_and_no_jump_is_told(drift: float, pauses: list[float]) -> None:
    clock, elapsed = SteadyClock(START, 0.0), 0.0
    for seconds in pauses:
        elapsed += seconds
        wall = START + elapsed * (1 + drift)
        reading = clock.read(wall, elapsed)
        assert reading.now == pytest.approx(wall, abs=CLOSE)
        assert reading.jump == 0


def test_a_small_difference_is_no_jump_and_is_caught_up_with() -> None:
    clock = SteadyClock(START, 0.0)
    off = JUMP_SECONDS / 2
    assert clock.read(START + 1 + off, 1.0).jump == 0
    assert clock.read(START + HOUR + off, HOUR).now == pytest.approx(START + HOUR + off)


def test_a_monotonic_clock_that_stands_still_leaves_it_where_it_is() -> None:
    clock = SteadyClock(START, 50.0)
    assert clock.read(START, 50.0).now == clock.read(START + 5, 49.0).now == START
