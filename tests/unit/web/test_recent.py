"""Recent submissions are bounded in number and time."""

import pytest

from callstream.web.port import Unavailable
from callstream.web.recent import Recent
from tests.support.clock import Clock


def remember(recent: Recent, key: bytes) -> None:
    with recent.submitting(key, "digest", {"id": key.decode()}) as entry:
        entry.logged = True


def test_what_reached_the_log_is_remembered_for_a_while() -> None:
    clock = Clock(0.0)
    recent = Recent(10, 60, clock)
    remember(recent, b"a")

    assert recent.row(b"a") == {"id": "a"}
    clock.now = 61
    assert recent.row(b"a") is None


def test_what_did_not_reach_the_log_is_forgotten() -> None:
    recent = Recent(10, 60, Clock(0.0))

    with pytest.raises(OSError, match="broken"), recent.submitting(b"a", "digest", {}):
        raise OSError("broken")

    assert recent.get(b"a") is None


def test_the_oldest_make_room() -> None:
    recent = Recent(3, 60, Clock(0.0))
    for key in (b"a", b"b", b"c", b"d"):
        remember(recent, key)

    assert len(recent) == 3
    assert recent.get(b"a") is None
    assert recent.get(b"d") is not None


def test_old_ones_go_even_when_there_is_room() -> None:
    clock = Clock(0.0)
    recent = Recent(100, 60, clock)
    for key in (b"a", b"b", b"c"):
        remember(recent, key)
    clock.now = 61
    remember(recent, b"d")

    assert len(recent) == 1


def test_unfinished_ones_are_never_dropped() -> None:
    recent = Recent(2, 60, Clock(0.0))

    with recent.submitting(b"a", "", {}), recent.submitting(b"b", "", {}):
        with pytest.raises(Unavailable), recent.submitting(b"c", "", {}):
            raise AssertionError("there is no room")
        assert len(recent) == 2
