"""Sliding windows and the limits of a minute, against a brute-force judge."""

from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.stub.limits import MINUTE_TICKS, Quota, RateLimiter, SlidingWindow, retry_after

arrivals = st.lists(st.tuples(st.floats(0, 20), st.integers(1, 50)), max_size=80)


def test_the_window_forgets_what_is_older_than_its_span() -> None:
    window = SlidingWindow(MINUTE_TICKS)

    window.add(0.0, 5)
    window.add(30.0, 7)

    assert window.total(59.999) == 12
    assert window.total(60.0) == 7
    assert window.total(90.0) == 0


@given(arrivals)
def test_no_sliding_minute_exceeds_the_limits_whatever_comes(steps: list[tuple[float, int]]) -> None:
    limiter, admitted, now = RateLimiter(), list[tuple[float, int]](), 1000.0

    for pause, tokens in steps:
        now += pause
        if limiter.admit(now, tokens, Quota(rpm=6, tpm=100)) is None:
            admitted.append((now, tokens))

    for start, _ in admitted:
        within = [tokens for at, tokens in admitted if start <= at < start + 60]
        assert len(within) <= 6
        assert sum(within) <= 100


@given(arrivals)
def test_who_waits_as_long_as_told_is_admitted(steps: list[tuple[float, int]]) -> None:
    limiter, now = RateLimiter(), 1000.0

    for pause, tokens in steps:
        now += pause
        refusal = limiter.admit(now, tokens, Quota(tpm=100))
        if refusal is not None:
            assert 0 < refusal.retry_after_seconds <= 60.1
            now += refusal.retry_after_seconds + 0.001
            assert limiter.admit(now, tokens, Quota(tpm=100)) is None


def test_a_call_refused_for_tokens_does_not_count_as_a_request() -> None:
    limiter = RateLimiter()
    limiter.admit(0.0, 90, Quota(rpm=2, tpm=100))

    refusal = limiter.admit(1.0, 20, Quota(rpm=2, tpm=100))
    after = limiter.admit(1.0, 10, Quota(rpm=2, tpm=100))

    assert refusal is not None
    assert refusal.limit == "tokens"
    assert after is None


def test_a_call_larger_than_the_limit_is_never_admitted() -> None:
    refusal = RateLimiter().admit(0.0, 101, Quota(tpm=100))

    assert refusal is not None
    assert "too large" in refusal.message


def test_headers_tell_limits_that_are_set_and_what_remains() -> None:
    limiter = RateLimiter()
    limiter.admit(0.0, 30, Quota(rpm=5, tpm=100))

    assert limiter.headers(1.0, Quota(tpm=100)) == {
        "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": "70",
        "x-ratelimit-reset-tokens": "59.001s",
    }


def test_retry_after_is_rounded_up_in_both_forms() -> None:
    assert retry_after("none", 1.2, 0.0) == {}
    assert retry_after("seconds", 1.2, 0.0) == {"Retry-After": "2"}
    date = parsedate_to_datetime(retry_after("date", 1.2, 1_000_000_000.0)["Retry-After"])
    assert date.timestamp() == pytest.approx(1_000_000_002)


def test_a_window_stays_small_under_load() -> None:
    window = SlidingWindow(MINUTE_TICKS)

    for step in range(200_000):
        window.add(step / 10_000, 1)

    assert window.total(20.0) == 200_000
    assert len(window._entries) <= 20_001
