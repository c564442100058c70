from callstream.streams.event import MAX_HOPS, Hop
from callstream.streams.timespent import StepTime, step_times, told


def hop(step: str, started: float, ended: float, waited: float = 0, retried: float = 0) -> Hop:
    return Hop(step=step, service="prepare", started=started, ended=ended, waited=waited, retried=retried)


def test_each_second_of_a_task_is_told_of_once() -> None:
    trail = [hop("intake", 10.5, 11.0), hop("copy", 12.0, 20.0, waited=5.0, retried=1.0), hop("check", 20.0, 21.0)]
    times = list(step_times(trail, created=10.0))
    assert times == [
        StepTime("intake", 0.5, 0.5, 0.0),
        StepTime("copy", 6.0, 2.0, 1.0),
        StepTime("check", 0.0, 1.0, 0.0),
    ]
    assert sum(one.total for one in times) == 11.0


def test_clocks_that_differ_and_waits_side_by_side_give_no_nonsense() -> None:
    trail = [hop("copy", 12.0, 14.0, waited=9.0, retried=9.0), hop("check", 13.0, 12.0)]
    assert list(step_times(trail, created=99.0)) == [
        StepTime("copy", 2.0, 0.0, 2.0),
        StepTime("check", 0.0, 0.0, 0.0),
    ]


def test_what_took_no_time_is_not_told_of() -> None:
    assert told([StepTime("prompt", 0.03, 0.03, 0.0)]) == ""


def test_of_many_steps_those_are_told_of_that_took_most_in_their_order() -> None:
    times = [StepTime(f"step-{number}", 0.0, number + 1.0, 0.0) for number in range(MAX_HOPS)]
    assert told(times).split()[4] == f"step-{MAX_HOPS - 8}"
    assert told(times).count("worked") == 8
    assert len(told([StepTime("x" * 48, 1e9, 1e9, 1e9)] * MAX_HOPS)) < 1_500
