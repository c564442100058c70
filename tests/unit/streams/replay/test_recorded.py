import math

from callstream.streams.replay.recorded import Place, reach_of
from callstream.streams.replay.run import moment, swept


def test_nothing_was_swept_while_each_partition_begins_at_its_first_record() -> None:
    reach = reach_of("t", [Place(0, 0, 5, 30.0), Place(1, 0, 0, None)], 60.0)
    assert (reach.records, reach.oldest, reach.complete_since) == (5, 30.0, None)
    assert not reach.misses(0.0)


def test_all_is_there_since_the_partition_that_was_swept_last() -> None:
    reach = reach_of("t", [Place(0, 3, 5, 30.0), Place(1, 9, 10, 50.0), Place(2, 0, 1, 90.0)], 60.0)
    assert (reach.records, reach.oldest, reach.complete_since) == (4, 30.0, 50.0)
    assert reach.misses(49.0)
    assert not reach.misses(50.0)
    assert swept("it", reach) == (
        "it: not there any more; t has records since 1970-01-01T00:00:50.000Z only (kept for 0.0166667 h), "
        "so nothing was started"
    )


def test_a_topic_that_was_swept_whole_misses_every_time() -> None:
    reach = reach_of("t", [Place(0, 5, 5, None)], None)
    assert reach.complete_since == math.inf
    assert reach.misses(1e12)
    assert "has no records left (kept for no set time)" in swept("it", reach)


def test_a_moment_can_be_given_back() -> None:
    assert moment(1_800_000_000.25) == "2027-01-15T08:00:00.250Z"
