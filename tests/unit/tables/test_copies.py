import pytest

from callstream.tables.copies import LONGEST_AWAY_SECONDS, Changelog, Copy, distrust, read_copy, stamp

NOW = 1_700_000_000.0
LOG = Changelog("here", first=0, end=100)


@pytest.mark.parametrize("offset", [0, 50, 99])
def test_a_copy_that_has_part_of_its_changelog_is_gone_on_with(offset: int) -> None:
    assert distrust(Copy(offset, "here", NOW - 60), LOG, NOW) is None


def test_a_copy_without_a_stamp_is_gone_on_with_where_the_offsets_fit() -> None:
    assert distrust(Copy(50), LOG, NOW) is None
    assert distrust(Copy(150), LOG, NOW) is not None


@pytest.mark.parametrize(
    ("copy", "log", "told"),
    [
        (Copy(50, "there", NOW), LOG, "another cluster, there, and this is here"),
        (Copy(100, "here", NOW), LOG, "it has offset 100, and the changelog ends with 99"),
        (Copy(0, "here", NOW), Changelog("here", 0, 0), "the changelog ends with -1"),
        (Copy(8, "here", NOW), Changelog("here", 10, 100), "up to offset 8, and what is left begins at 10"),
        (Copy(50, "here", NOW - LONGEST_AWAY_SECONDS - 1), LOG, "20 hours old"),
    ],
)
def test_a_copy_that_does_not_belong_to_the_changelog_is_not(copy: Copy, log: Changelog, told: str) -> None:
    why = distrust(copy, log, NOW)
    assert why is not None
    assert told in why


def test_a_copy_that_was_away_for_long_and_missed_nothing_is_gone_on_with() -> None:
    assert distrust(Copy(99, "here", NOW - 30 * LONGEST_AWAY_SECONDS), LOG, NOW) is None


def test_a_copy_that_ends_where_the_rest_begins_is_gone_on_with() -> None:
    assert distrust(Copy(9, "here", NOW), Changelog("here", 10, 100), NOW) is None


def test_what_was_stamped_is_read_again() -> None:
    assert read_copy(7, stamp("here", NOW)) == Copy(7, "here", NOW)
    assert read_copy(None, stamp("here", NOW)) is None


@pytest.mark.parametrize("stamped", [None, b"", b"{", b"[]", b"7", b'{"at": "soon"}', b'{"at": null}'])
def test_a_stamp_that_cannot_be_read_is_none(stamped: bytes | None) -> None:
    assert read_copy(7, stamped) == Copy(7)
