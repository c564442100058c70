"""What tenants and chains may spend, as the settings say it."""

from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from callstream.streams.keys import Name, Tenant
from callstream.streams.money import Currency, no_truth

MOST_BUDGET = 10**9


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Budget = Annotated[
    Decimal,
    Field(ge=0, le=MOST_BUDGET),
    BeforeValidator(no_truth),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": MOST_BUDGET}),
]


class MoneyLimits(_Options):
    """What may be spent within a day or month of the calendar, UTC, by all processes together."""

    warn_at: Budget | None = Field(default=None, description="From here on it is told: metric, `callstream pools`.")
    slow_at: Budget | None = Field(default=None, description="From here on calls go in the low lane.")
    ceiling: Budget | None = Field(
        default=None, description="Never passed by more than calls in flight cost beyond their estimates: others wait."
    )

    @model_validator(mode="after")
    def _in_their_order(self) -> Self:
        named = [(name, getattr(self, name)) for name in ("warn_at", "slow_at", "ceiling")]
        given = [(name, amount) for name, amount in named if amount is not None]
        if not given:
            raise ValueError("none of warn_at, slow_at and ceiling is set: set one of them, or leave the budget out")
        for (name, amount), (next_name, next_amount) in pairwise(given):
            if amount > next_amount:
                raise ValueError(f"{name} ({amount}) is more than {next_name} ({next_amount})")
        return self


class MoneyBudget(_Options):
    """A budget of a tenant or a chain."""

    day: MoneyLimits | None = Field(default=None, description="Of each day, UTC.")
    month: MoneyLimits | None = Field(default=None, description="Of each month, UTC.")
    currency: Currency | None = Field(
        default=None, description="The amounts' currency, to be checked against inference.currency; unset: that one."
    )


class MoneyBudgets(_Options):
    """Budgets by whose they are; who is not named has none."""

    tenants: dict[Tenant, MoneyBudget] = Field(
        default_factory=dict, max_length=1000, description="Budgets of tenants, by name."
    )
    chains: dict[Name, MoneyBudget] = Field(
        default_factory=dict, max_length=1000, description="Budgets of chains, by name."
    )
