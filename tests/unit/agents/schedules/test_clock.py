"""A step of the system's clock moves no schedule, unless it stays."""

from callstream.agents.schedules.clock import BELIEVE_SECONDS, SteadyClock


class Clocks:
    """Two clocks that a test sets."""

    def __init__(self) -> None:
        self.wall, self.monotonic = 1_000_000.0, 50.0

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


def steady(clocks: Clocks) -> SteadyClock:
    return SteadyClock(lambda: clocks.wall, lambda: clocks.monotonic)


def test_it_goes_on_by_itself_when_the_wall_clock_is_set() -> None:
    clocks = Clocks()
    clock = steady(clocks)
    for step in (3_600.0, -7_200.0):
        before = clock()
        clocks.wall += step
        assert clock() == before
        clocks.pass_by(BELIEVE_SECONDS / 2)
        assert clock() == before + BELIEVE_SECONDS / 2


def test_a_step_that_stays_is_believed_in_the_end() -> None:
    clocks = Clocks()
    clock = steady(clocks)
    clocks.wall += 3_600
    assert clock() == 1_000_000.0
    clocks.pass_by(BELIEVE_SECONDS)
    assert clock() == clocks.wall == 1_003_600.0 + BELIEVE_SECONDS


def test_a_step_that_is_undone_is_forgotten() -> None:
    clocks = Clocks()
    clock = steady(clocks)
    clocks.wall += 3_600
    clock()
    clocks.wall -= 3_600
    clocks.pass_by(BELIEVE_SECONDS)
    clock()
    clocks.wall += 3_600
    assert clock() == 1_000_000.0 + BELIEVE_SECONDS


def test_drift_is_followed() -> None:
    clocks = Clocks()
    clock = steady(clocks)
    for _ in range(10):
        clocks.wall += 0.5
        clock()
    assert clock() == 1_000_005.0
