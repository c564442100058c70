"""The pace of a gate."""

from callstream.agents.inference.admission.pace import LEAST_SECONDS, PACE_SECONDS, Pace


def test_calls_that_go_in_a_burst_every_minute_have_the_pace_of_the_minute() -> None:
    pace = Pace()
    for start in (0.0, 61.75):
        for number in range(60):
            pace.count(start + number / 60)
    for later in (1, 10, 30, 50):
        least, most = pace.a_second(61.75 + later)
        assert 0.9 < least == most < 1.1


def test_at_first_it_is_at_most_that_of_the_time_since_the_first_call_and_at_least_that_of_a_minute() -> None:
    pace = Pace()
    pace.count(1000.0)
    assert pace.a_second(1000.0 + LEAST_SECONDS / 2) == (0, 0)
    pace.count(1003.0)
    assert pace.a_second(1004.0) == (2 / PACE_SECONDS, 0.5)


def test_without_a_call_for_a_minute_there_is_none_and_it_begins_anew() -> None:
    pace = Pace()
    pace.count(0.0)
    assert pace.a_second(PACE_SECONDS) == (0, 0)
    pace.count(500.0)
    assert pace.a_second(504.0) == (1 / PACE_SECONDS, 0.25)
