"""When a worker joins its groups after another one was killed in its folder."""

import pytest

from callstream.app import seconds_to_join


@pytest.mark.parametrize(
    ("killed_at", "seconds"),
    [
        (None, 0.0),
        (1_000.0, 7.0),
        (996.0, 3.0),
        (993.0, 0.0),
        (0.0, 0.0),
        # a clock that was set back: no longer than a session lasts
        (5_000.0, 10.0),
    ],
)
def test_it_joins_one_heartbeat_before_the_groups_give_the_dead_one_up(killed_at: float | None, seconds: float) -> None:
    assert seconds_to_join(killed_at, 10.0, 1_000.0) == pytest.approx(seconds)
