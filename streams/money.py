"""Money: decimals with nine places of one currency, as text in JSON and never as a float. Pure.

What one call costs is rounded to a billionth of the currency, half to even; sums of such amounts are exact, in any
order and whatever the process's decimal context is.
"""

from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer, StringConstraints, WithJsonSchema

QUANTUM = Decimal("0.000000001")
NANOS = 10**9
"""Of the smallest amounts in one of the currency."""
MOST_MONEY = 10**15
USUAL_CURRENCY = "USD"
NONE = Decimal(0)

_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)


def rounded(amount: Decimal) -> Decimal:
    """To nine places, half to even. Raises ValueError for what is no amount of money.

    >>> rounded(Decimal("0.0000000025")), rounded(Decimal("0.0000000035"))
    (Decimal('2E-9'), Decimal('4E-9'))
    """
    try:
        return _EXACT.quantize(amount, QUANTUM)
    except InvalidOperation:
        raise ValueError(f"{str(amount)[:40]} is no amount of money") from None


def total(amounts: Iterable[Decimal]) -> Decimal:
    """Their exact sum.

    >>> text_of(total([Decimal("0.1"), Decimal("0.2")]))
    '0.3'
    """
    whole = NONE
    for amount in amounts:
        whole = _EXACT.add(whole, amount)
    return whole


def product(amount: Decimal, count: int) -> Decimal:
    """An amount so many times."""
    return _EXACT.multiply(amount, Decimal(count))


def text_of(amount: Decimal) -> str:
    """As it stands in JSON and CSV: no exponent, no needless zeros.

    >>> text_of(Decimal("2E-9")), text_of(Decimal("1.50")), text_of(Decimal("100"))
    ('0.000000002', '1.5', '100')
    """
    text = f"{rounded(amount):f}"
    return text.rstrip("0").rstrip(".") or "0"


def nanos_of(amount: Decimal) -> int:
    """In billionths, for limits, which count in whole numbers.

    >>> nanos_of(Decimal("0.000000002")), nanos_of(Decimal("1.5"))
    (2, 1500000000)
    """
    return int(_EXACT.multiply(rounded(amount), Decimal(NANOS)))


def of_nanos(nanos: int) -> Decimal:
    """The amount of so many billionths.

    >>> text_of(of_nanos(1_500_000_000))
    '1.5'
    """
    return _EXACT.multiply(Decimal(nanos), QUANTUM)


def no_truth(value: object) -> object:
    """Pydantic takes `true` for 1."""
    if isinstance(value, bool):
        raise ValueError("must be an amount, and true and false are none")
    return value


Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
"""Its three letters of ISO 4217."""
Money = Annotated[
    Decimal,
    BeforeValidator(no_truth),
    Field(ge=0, le=MOST_MONEY),
    PlainSerializer(text_of, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]+(\.[0-9]{1,9})?$"}),
]
