"""Lag: what a group has yet to finish, by partition."""

from callstream.streams.lag import Lag, Offsets, lags, summed

INFER = "callstream.infer"


def test_lag_is_end_minus_committed_on_every_partition_of_a_topic_that_the_group_has() -> None:
    offsets = Offsets(
        begins={(INFER, 0): 0, (INFER, 1): 4, ("callstream.other", 0): 0},
        ends={(INFER, 0): 10, (INFER, 1): 9, ("callstream.other", 0): 5},
        committed={"callstream-infer": {(INFER, 0): 7}, "callstream-idle": {}},
    )
    assert lags(offsets) == [
        Lag("callstream-infer", INFER, 0, 10, 7, 3),
        Lag("callstream-infer", INFER, 1, 9, None, 5),
    ]
    assert summed(lags(offsets)) == [Lag("callstream-infer", INFER, 2, 19, 7, 8)]


def test_what_retention_deleted_is_no_lag() -> None:
    offsets = Offsets({(INFER, 0): 8}, {(INFER, 0): 10}, {"callstream-infer": {(INFER, 0): 3}})
    assert lags(offsets)[0].lag == 2


def test_a_commit_beyond_the_end_is_no_negative_lag() -> None:
    offsets = Offsets({(INFER, 0): 0}, {(INFER, 0): 1}, {"callstream-infer": {(INFER, 0): 3}})
    assert lags(offsets)[0].lag == 0
