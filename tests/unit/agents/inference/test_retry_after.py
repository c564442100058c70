from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.agents.inference.retry_after import MOST_SECONDS, retry_after

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("99999999", MOST_SECONDS),
        ("9" * 40, MOST_SECONDS),
        (formatdate(NOW + 30, usegmt=True), 30.0),
        (formatdate(NOW - 30, usegmt=True), 0.0),
        ("Tue, 14 Nov 2023 22:13:50 -0000", 30.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MOST_SECONDS),
    ],
)
def test_both_forms_are_read_and_bounded(header: str, seconds: float) -> None:
    assert retry_after(header, NOW) == seconds


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        " ",
        "-1",
        "+1",
        "1e3",
        "nan",
        "inf",
        "tomorrow",
        "0x10",
        "٣",
        "9" * 65,
        "Mon, 99 Foo 2023 00:00:00 GMT",
    ],
)
def test_nonsense_is_no_wish(header: str | None) -> None:
    assert retry_after(header, NOW) is None


@given(st.text(max_size=80), st.floats(0, 4e9))
def test_whatever_it_says_the_wait_is_bounded(header: str, now: float) -> None:
    seconds = retry_after(header, now)

    assert seconds is None or 0 <= seconds <= MOST_SECONDS


@given(st.integers(0, 2 * int(MOST_SECONDS)))
def test_a_date_means_the_same_as_its_seconds(seconds: int) -> None:
    date = formatdate(NOW + seconds, usegmt=True)

    assert retry_after(date, NOW) == retry_after(str(seconds), NOW)
