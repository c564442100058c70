from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from callstream.streams.retry_budget import MOST_BUDGETS, SLICES, Budget, BudgetOptions, Budgets

FIFTH = BudgetOptions(share=0.2, a_second=0.0)


def taken(budget: Budget, now: float, asked: int) -> int:
    return sum(budget.take(now) for _ in range(asked))


def test_one_call_in_five_may_be_a_retry() -> None:
    budget = Budget(FIFTH)
    for _ in range(100):
        budget.call(50.0)
    assert taken(budget, 50.5, 100) == 20


def test_who_calls_rarely_may_retry_too_and_saves_nothing() -> None:
    budget = Budget(BudgetOptions(share=0.2, a_second=0.5))
    assert [taken(budget, now, 100) for now in (0.0, 5.0, 12.0, 500.0)] == [5, 0, 5, 5]


def test_calls_and_retries_are_forgotten_with_their_window() -> None:
    budget = Budget(FIFTH)
    for _ in range(100):
        budget.call(50.0)
    assert budget.left(50.0 + FIFTH.window_seconds) == 20
    assert budget.left(51.1 + FIFTH.window_seconds) == 0


def test_a_retry_that_succeeds_lets_another_one_go() -> None:
    budget = Budget(BudgetOptions(share=0.2, a_second=0.1))
    assert [budget.take(1.0), budget.take(1.0)] == [True, False]
    budget.give_back(1.0)
    assert [budget.take(1.0), budget.take(1.0)] == [True, False]


def test_a_clock_that_goes_back_begins_anew() -> None:
    budget = Budget(BudgetOptions(share=0.0, a_second=0.1))
    assert budget.take(1_000.0)
    assert [budget.take(5.0), budget.take(6.0)] == [True, False]


@given(
    st.lists(st.tuples(st.floats(0, 30), st.integers(0, 40), st.integers(0, 60)), max_size=40),
    st.floats(0, 1),
    st.floats(0, 3),
)
def test_retries_are_never_more_than_a_share_of_calls_and_so_many_a_second(
    steps: Sequence[tuple[float, int, int]], share: float, a_second: float
) -> None:
    budget = Budget(BudgetOptions(share=share, a_second=a_second))
    now, calls, retries = 1.0, 0, 0
    for pause, new, asked in steps:
        now += pause
        for _ in range(new):
            budget.call(now)
        calls += new
        retries += taken(budget, now, asked)
        assert retries <= share * calls + a_second * (now - 1.0 + 10.0) + 1e-6
        assert len(budget._slices) <= SLICES + 1


def test_names_are_bounded_and_those_in_use_stay() -> None:
    budgets = Budgets(lambda: BudgetOptions(share=0.0, a_second=0.1))
    assert budgets["busy"].take(0.0)
    for number in range(3 * MOST_BUDGETS):
        assert budgets[f"tenant-{number}"].take(0.0)
        assert not budgets["busy"].take(0.0)
    assert len(budgets) == MOST_BUDGETS


def test_other_options_count_from_the_next_retry_on() -> None:
    options = [BudgetOptions(share=0.0, a_second=0.0)]
    budgets = Budgets(lambda: options[0])
    assert not budgets["a"].take(0.0)
    options[0] = BudgetOptions(share=0.0, a_second=1.0)
    assert budgets["a"].take(0.0)


@pytest.mark.parametrize(
    "wrong", [{"share": -0.1}, {"share": float("nan")}, {"a_second": float("inf")}, {"window_seconds": 0}, {"most": 1}]
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        BudgetOptions.model_validate(wrong)
