"""What calls have cost: known only where every endpoint has a price."""

from decimal import Decimal

import pytest

from callstream.agents.inference.options import InferenceOptions
from callstream.agents.letters.cost import cost_of
from callstream.streams.event import Usage

PRICES = {"stub": (Decimal("0.15"), Decimal("0.6"))}
STUB = Usage(endpoint="stub", calls=1, tokens_in=1_000, tokens_out=500)


@pytest.mark.parametrize(
    ("usages", "cost"),
    [([], None), ([STUB], 0.00045), ([STUB, STUB], 0.0009), ([STUB, STUB.model_copy(update={"endpoint": "x"})], None)],
)
def test_a_cost_is_told_where_it_is_known(usages: list[Usage], cost: float | None) -> None:
    assert cost_of(usages, PRICES) == cost


def test_an_endpoint_without_a_price_has_none() -> None:
    plain = {"base_url": "http://127.0.0.1:1/v1", "model": "m"}
    priced = {**plain, "name": "b", "price_out_per_million": "0.6"}
    options = InferenceOptions.model_validate({"pools": {"p": {"endpoints": [{**plain, "name": "a"}, priced]}}})
    assert options.prices() == {"b": (Decimal(0), Decimal("0.6"))}
