"""Faults by chance and by directive."""

from collections import Counter

import pytest

from callstream.stub.faults import FaultKind, UnknownFaultError, choose, directed


def test_faults_come_as_often_as_their_probability_says() -> None:
    probabilities = {FaultKind.UNAVAILABLE: 0.1, FaultKind.HANG: 0.3}

    seen = Counter(choose(probabilities, 7, f"task-{n}", 0) for n in range(4000))

    assert seen[FaultKind.UNAVAILABLE] / 4000 == pytest.approx(0.1, abs=0.02)
    assert seen[FaultKind.HANG] / 4000 == pytest.approx(0.3, abs=0.03)


def test_the_same_attempt_has_the_same_fault() -> None:
    probabilities = {FaultKind.RESET: 0.5}

    assert [choose(probabilities, 7, "t", n) for n in range(20)] == [
        choose(probabilities, 7, "t", n) for n in range(20)
    ]
    assert choose({}, 7, "t", 0) is None
    assert choose({FaultKind.RESET: 1.0}, 7, "t", 0) is FaultKind.RESET


def test_a_directive_names_the_fault() -> None:
    assert directed("no-usage", 5) is FaultKind.NO_USAGE
    assert directed(" 503 * 2 ", 1) is FaultKind.UNAVAILABLE
    assert directed("503*2", 2) is None


@pytest.mark.parametrize("text", ["", "504", "503*", "503*x", "hang hang"])
def test_a_directive_that_names_none_is_told_what_there_is(text: str) -> None:
    with pytest.raises(UnknownFaultError, match="use one of 503, 429"):
        directed(text, 0)
