"""What model calls have cost, by the prices of the endpoints that answered. Pure."""

from collections.abc import Iterable, Mapping
from decimal import Decimal

from callstream.streams.event import Usage

Prices = Mapping[str, tuple[Decimal, Decimal]]
"""Of a million tokens of requests and of answers, by endpoint."""

MILLION = 1_000_000


def cost_of(usages: Iterable[Usage], prices: Prices) -> float | None:
    """In the prices' currency; None where nothing was called, or an endpoint has no price (any more).

    >>> cost_of([Usage(endpoint="stub", tokens_in=1_000_000, tokens_out=500_000)], {"stub": (Decimal(3), Decimal(15))})
    10.5
    """
    whole, known = Decimal(0), False
    for usage in usages:
        if usage.endpoint not in prices:
            return None
        price_in, price_out = prices[usage.endpoint]
        whole += (usage.tokens_in * price_in + usage.tokens_out * price_out) / MILLION
        known = True
    return float(whole) if known else None
