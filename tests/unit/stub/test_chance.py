"""Seeded chance and latency."""

import statistics

import pytest

from callstream.stub.chance import digest, pick, uniform
from callstream.stub.latency import FURTHEST_SIGMAS, latency_seconds


def test_parts_do_not_run_together() -> None:
    assert digest(1, "ab", "c") != digest(1, "a", "bc")
    assert digest(1, "a") != digest(11, "a")


def test_lone_surrogates_are_hashed_like_any_text() -> None:
    assert len(digest(1, "\ud800")) == 32


def test_numbers_are_the_same_again_and_evenly_spread() -> None:
    numbers = [uniform(7, "x", n) for n in range(2000)]

    assert numbers == [uniform(7, "x", n) for n in range(2000)]
    assert all(0 < number < 1 for number in numbers)
    assert statistics.mean(numbers) == pytest.approx(0.5, abs=0.03)
    assert {pick(3, 7, n) for n in range(50)} == {0, 1, 2}


def test_latency_is_reproducible_and_has_the_median_asked_for() -> None:
    seen = [latency_seconds(0.2, 0.5, 7, f"task-{n}", 0) for n in range(2000)]

    assert latency_seconds(0.2, 0.5, 7, "task-3", 0) == seen[3]
    assert latency_seconds(0.2, 0.5, 7, "task-3", 1) != seen[3]
    assert latency_seconds(0.2, 0.5, 8, "task-3", 0) != seen[3]
    assert statistics.median(seen) == pytest.approx(0.2, rel=0.1)


def test_latency_without_spread_is_the_median_and_the_tail_is_bounded() -> None:
    assert latency_seconds(0.2, 0.0, 7, "task", 0) == 0.2
    assert max(latency_seconds(1.0, 1.0, 7, str(n), 0) for n in range(3000)) < 2.72**FURTHEST_SIGMAS
