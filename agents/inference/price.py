"""What a request costs, by the price of its endpoint. Pure."""

from dataclasses import dataclass
from decimal import Decimal

from callstream.agents.inference.options import EndpointOptions, InferenceOptions
from callstream.streams.money import NONE, USUAL_CURRENCY, product, rounded, total

_MILLION_PLACES = 6


@dataclass(frozen=True, slots=True)
class Price:
    """Of a million tokens of requests, of those of them that the endpoint had in its cache, and of answers."""

    tokens_in: Decimal = NONE
    tokens_cached: Decimal = NONE
    tokens_out: Decimal = NONE
    currency: str = USUAL_CURRENCY
    model: str = ""

    def cost(self, tokens_in: int, tokens_out: int, tokens_cached: int = 0) -> Decimal:
        """Of one request, rounded to a billionth, half to even.

        >>> Price(Decimal("0.15"), Decimal("0.075"), Decimal("0.6")).cost(1_000_000, 500_000, tokens_cached=400_000)
        Decimal('0.420000000')
        """
        cached = min(tokens_cached, tokens_in)
        parts = (
            product(self.tokens_in, tokens_in - cached),
            product(self.tokens_cached, cached),
            product(self.tokens_out, tokens_out),
        )
        return rounded(total(part.scaleb(-_MILLION_PLACES) for part in parts))


def price_of(endpoint: EndpointOptions, currency: str) -> Price:
    """The price of an endpoint as its settings say."""
    cached = endpoint.price_cached_per_million
    return Price(
        endpoint.price_in_per_million,
        endpoint.price_in_per_million if cached is None else cached,
        endpoint.price_out_per_million,
        currency,
        endpoint.model,
    )


def prices_of(options: InferenceOptions) -> dict[str, Price]:
    """The price of each endpoint, by name; one without a price costs nothing."""
    return {name: price_of(one, options.currency) for name, one in options.endpoints().items()}
