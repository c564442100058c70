from datetime import UTC, datetime
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from callstream.agents.inference.admission.ratelimit import MOST_COUNT, Told, told
from callstream.agents.inference.retry_after import MOST_SECONDS

NOW = 1_700_000_000.0
NAMES = [f"x-ratelimit-{what}-{unit}" for what in ("remaining", "reset", "limit") for unit in ("requests", "tokens")]
NONSENSE = [
    "",
    " ",
    "-1",
    "+1",
    "NaN",
    "inf",
    "1e999",
    "1e3",
    "tomorrow",
    "0x10",
    "٣",
    "1,5",
    "99, 100;w=60",
    "\udcff",
    "9" * 65,
    "1" * 1_000_000,
    "1h" * 500_000,
    " " * 1_000_000,
]


def reset(text: str, now: float | None = None) -> float | None:
    found = told({"x-ratelimit-reset-tokens": text, "x-ratelimit-remaining-tokens": "0"}, now)
    assert found is not None
    return found.tokens_reset_seconds


def test_what_a_server_says_is_read_whatever_the_case_of_its_names() -> None:
    headers = CIMultiDict(
        {
            "Content-Type": "application/json",
            "X-RateLimit-Limit-Requests": "10000",
            "x-ratelimit-limit-tokens": "150000",
            "X-RATELIMIT-REMAINING-REQUESTS": "9999",
            "x-ratelimit-remaining-tokens": " 149984 ",
            "x-ratelimit-reset-requests": "8.64s",
            "x-ratelimit-reset-tokens": "6m0s",
        }
    )

    expected = Told(9999, 149_984, 8.64, 360.0, 10_000, 150_000)
    assert told(headers) == told(dict(headers)) == expected


def test_one_that_says_nothing_has_told_nothing() -> None:
    assert told({}) is None
    assert told({"Retry-After": "7", "x-ratelimit-remaining": "7"}) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("20ms", 0.02),
        ("1h2m3.5s", MOST_SECONDS),
        ("2m59.56s", 179.56),
        ("59.001s", 59.001),
        ("17h46m", MOST_SECONDS),
        ("1d", MOST_SECONDS),
        ("1m30s250ms", 90.25),
        ("500us", 0.0005),
        ("500µs", 0.0005),
        ("12ns", 12e-9),
        ("0s", 0.0),
        ("0", 0.0),
        ("0.25", 0.25),
        (" 60 ", 60.0),
        ("999999999", MOST_SECONDS),
        ("999999999999999999h", MOST_SECONDS),
    ],
)
def test_spans_and_seconds_are_read_and_bounded(text: str, seconds: float) -> None:
    assert reset(text) == pytest.approx(seconds, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (f"{NOW + 30:.0f}", 30.0),
        (f"{NOW + 30.5}", 30.5),
        (f"{NOW * 1000 + 1500:.0f}", 1.5),
        (f"{NOW - 30:.0f}", 0.0),
        ("9" * 40, MOST_SECONDS),
        (datetime.fromtimestamp(NOW + 30, UTC).isoformat(), 30.0),
        ("2023-11-14T22:13:50Z", 30.0),
        ("2023-11-14T22:13:50", 30.0),
        ("9999-12-31T23:59:59-23:59", MOST_SECONDS),
        ("0001-01-01T00:00:00+23:59", 0.0),
        (formatdate(NOW + 30, usegmt=True), 30.0),
    ],
)
def test_a_moment_is_understood_only_by_one_who_knows_the_time(text: str, seconds: float) -> None:
    assert reset(text) is None
    assert reset(text, NOW) == pytest.approx(seconds)


@pytest.mark.parametrize("text", NONSENSE)
@pytest.mark.parametrize("name", NAMES)
def test_nonsense_says_nothing_and_spoils_nothing_else(name: str, text: str) -> None:
    assert told({name: text}) is None
    assert told({name: text}, NOW) is None
    beside = {other: "5" for other in NAMES if other != name}
    found = told({name: text, **beside})
    assert found is not None
    assert sorted(map(str, (found.requests_left, found.tokens_left)))[0] == "5"


@pytest.mark.parametrize("text", ["1", "0.5", "7 s", "s", "1s2", "1x", "-1s", "1.s", ".5s", "1 2", "1s-1s"])
def test_a_count_is_a_whole_number_and_a_span_has_units(text: str) -> None:
    found = told({"x-ratelimit-remaining-requests": text, "x-ratelimit-reset-requests": text})
    expected = {"1": Told(requests_left=1, requests_reset_seconds=1.0), "0.5": Told(requests_reset_seconds=0.5)}
    assert found == expected.get(text)


def test_a_count_is_bounded_and_of_two_the_first_counts() -> None:
    name = "x-ratelimit-remaining-tokens"
    assert told({name: "9" * 40}) == Told(tokens_left=MOST_COUNT)
    assert told(CIMultiDict([(name, "1"), (name, "2")])) == Told(tokens_left=1)


@given(
    st.dictionaries(
        st.sampled_from([*NAMES, *map(str.upper, NAMES)]) | st.text(max_size=5),
        st.text(max_size=70) | st.text("0123456789.hmsdnu-+:TZ ", max_size=70),
    ),
    st.none() | st.floats(0, 4e9),
)
def test_whatever_stands_there_nothing_raises_and_all_is_bounded(headers: dict[str, str], now: float | None) -> None:
    found = told(headers, now)

    if found is None:
        return
    assert found != Told()
    for count in (found.requests_left, found.tokens_left, found.requests_limit, found.tokens_limit):
        assert count is None or 0 <= count <= MOST_COUNT
    for seconds in (found.requests_reset_seconds, found.tokens_reset_seconds):
        assert seconds is None or 0 <= seconds <= MOST_SECONDS


@given(st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_a_span_is_the_sum_of_its_parts(minutes: int, seconds: int, millis: int) -> None:
    total = min(minutes * 60 + seconds + millis / 1000, MOST_SECONDS)

    assert reset(f"{minutes}m{seconds}s{millis}ms") == pytest.approx(total)
    assert reset(f"{minutes}m{seconds}.{millis:03}s") == pytest.approx(total)
