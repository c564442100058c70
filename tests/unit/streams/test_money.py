"""Money is decimal: rounded in one way, summed exactly, never a float."""

import decimal
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from callstream.streams.money import Currency, Money, nanos_of, of_nanos, rounded, text_of, total
from callstream.streams.spend import MOST_SPENDS, Spend, SpendKind, summed, totals

AMOUNTS = st.decimals(min_value=0, max_value=10**12, places=9, allow_nan=False)


class Bill(BaseModel):
    amount: Money
    currency: Currency = "USD"


@pytest.mark.parametrize(
    ("given_", "text"), [("0.0000000005", "0"), ("0.0000000015", "0.000000002"), ("10", "10"), ("1.250", "1.25")]
)
def test_amounts_are_rounded_half_to_even_and_written_without_exponents(given_: str, text: str) -> None:
    assert text_of(rounded(Decimal(given_))) == text


@given(st.lists(AMOUNTS, max_size=50), st.randoms())
def test_a_sum_is_exact_in_any_order_and_context(amounts: list[Decimal], rng: object) -> None:
    with decimal.localcontext() as context:
        context.prec = 3
        whole = total(amounts)
        assert total(reversed(amounts)) == whole
    assert sum(map(nanos_of, amounts)) == nanos_of(whole)
    assert of_nanos(nanos_of(whole)) == whole


@given(AMOUNTS)
def test_json_brings_back_the_same_amount_as_text(amount: Decimal) -> None:
    raw = Bill(amount=amount).model_dump(mode="json")
    assert isinstance(raw["amount"], str)
    assert Bill.model_validate(raw).amount == amount


@pytest.mark.parametrize("wrong", ["-1", -0.01, "nan", "inf", True, "much", "1e40", None])
def test_what_is_no_amount_is_refused(wrong: object) -> None:
    with pytest.raises(ValidationError, match="amount"):
        Bill.model_validate({"amount": wrong})


@pytest.mark.parametrize("wrong", ["usd", "US", "EURO", "", "€"])
def test_a_currency_has_three_letters(wrong: str) -> None:
    with pytest.raises(ValidationError, match="currency"):
        Bill.model_validate({"amount": "1", "currency": wrong})


def spend(kind: SpendKind = SpendKind.ANSWER, cost: str = "0.1", **more: object) -> Spend:
    return Spend.model_validate({"kind": kind, "cost": cost, "tokens_in": 10, "tokens_out": 2, **more})


def test_entries_of_one_sort_are_summed_and_others_stay_apart() -> None:
    entries = [spend(), spend(at=5.0), spend(kind=SpendKind.REPAIR), spend(estimated=True), spend(currency="EUR")]
    whole = summed(entries)
    assert [one.calls for one in whole] == [2, 1, 1, 1]
    assert (text_of(whole[0].cost), whole[0].tokens_in, whole[0].at) == ("0.2", 20, 5.0)
    assert summed(whole) == whole


def test_however_many_there_are_nothing_is_lost() -> None:
    entries = [spend(endpoint=f"e-{number}") for number in range(200)]
    whole = summed(entries)
    assert len(whole) <= MOST_SPENDS
    assert totals(whole) == totals(entries)


def test_totals_name_each_currency_and_what_is_estimated() -> None:
    assert totals([spend(), spend(currency="EUR", estimated=True)]) == {
        "tokens": {"in": 20, "out": 4, "cached": 0},
        "cost": {"EUR": "0.1", "USD": "0.1"},
        "estimated": {"EUR": "0.1"},
    }
    assert totals([]) == {"tokens": {"in": 0, "out": 0, "cached": 0}, "cost": {}}
