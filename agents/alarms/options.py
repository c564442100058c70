"""Rules for alarms, and whom they are told to."""

import ipaddress
from collections import Counter
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, field_validator, model_validator
from yarl import URL

from callstream.agents.notification.address import refusal
from callstream.agents.notification.options import check_secret
from callstream.streams.keys import Name, Tenant

MOST_RULES = 100
MOST_WEBHOOKS = 10
FILTERS = ("chain", "step", "service", "pool", "tenant")


class Kind(StrEnum):
    """What a rule looks at, and what its threshold counts."""

    DEAD_LETTERS = "dead_letters"
    """Dead letters a minute, for each step of each chain."""
    LATE = "late"
    """Tasks a minute that missed their deadline, for each step that they were stopped at."""
    LAG = "lag"
    """Events that wait, for each service."""
    BREAKER = "breaker"
    """Replicas whose breaker is not closed, for each endpoint."""
    BUDGET = "budget"
    """Attempts a minute that a budget refused, for each service and each endpoint."""

    SPENDING = "spending"
    """How far each budget of money has come: 1 it warns, 2 it slows down, 3 it is used up."""


COUNTED = frozenset({Kind.DEAD_LETTERS, Kind.LATE, Kind.BUDGET})
"""Kinds of which things are counted within a window; the others are measured."""
TAKES = {
    Kind.DEAD_LETTERS: ("chain", "step", "service", "tenant"),
    Kind.LATE: ("chain", "step", "service", "tenant"),
    Kind.LAG: ("service",),
    Kind.BREAKER: ("pool",),
    Kind.BUDGET: ("service", "pool"),
    Kind.SPENDING: ("tenant", "chain"),
}
"""Which filters a rule of each kind takes."""


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


class Rule(_Options):
    """When an alarm rings: from `threshold` up, for as long as it says; and when it falls silent."""

    name: Name = Field(description="What the alarm is called; unique among the rules.")
    kind: Kind = Field(description="What is looked at.")
    threshold: Annotated[float, Field(gt=0, le=1e12)] = Field(
        description="It rings from here up: letters, misses or refusals a minute; events that wait; replicas; of a "
        "budget of money 1 (warns), 2 (slows down) or 3 (used up)."
    )
    window_seconds: Annotated[float, Field(ge=1, le=3600)] = Field(
        default=60.0,
        description="Over which what is counted is averaged to a minute; of no use for lag, breaker and spending.",
    )
    for_seconds: Annotated[float, Field(ge=0, le=86_400)] = Field(
        default=0.0, description="How long it has to hold before the alarm rings."
    )
    quiet_seconds: Annotated[float, Field(ge=0, le=86_400)] = Field(
        default=60.0, description="How long it has to be below the threshold before the alarm is over."
    )
    chain: Name | None = Field(default=None, description="Only this chain.")
    step: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = Field(
        default=None, description="Only this step."
    )
    service: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = Field(
        default=None, description="Only this service."
    )
    pool: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = Field(
        default=None, description="Only this pool."
    )
    tenant: Tenant | None = Field(default=None, description="Only this tenant.")

    @model_validator(mode="after")
    def _that_its_kind_takes(self) -> Self:
        takes = TAKES[self.kind]
        if wrong := [name for name in self.filters if name not in takes]:
            raise ValueError(f"a rule of kind {self.kind} takes no {wrong[0]!r}; it takes {', '.join(takes)}")
        if {"service", "pool"} <= set(self.filters):
            raise ValueError("a budget is a service's or a pool's: name one of them")
        return self

    @property
    def filters(self) -> dict[str, str]:
        """The filters that are set."""
        return {name: value for name in FILTERS if (value := getattr(self, name)) is not None}


class AlarmWebhook(_Options):
    """Somebody who is told of each alarm, as Standard Webhooks has it."""

    url: Annotated[str, StringConstraints(max_length=2000, pattern=r"^https?://[^\s]+$")] = Field(
        description="Where each ring and each end is sent to, by POST."
    )
    secret: SecretStr = Field(description="Signs it: `whsec_` and the base64 of 24 to 64 random bytes.")

    @field_validator("secret")
    @classmethod
    def _one(cls, secret: SecretStr) -> SecretStr:
        check_secret(secret)
        return secret

    @property
    def private(self) -> bool:
        """Whether its host is written as an address that is not public. Where a name leads is seen at the call."""
        host = URL(self.url).host or ""
        try:
            return refusal(str(ipaddress.ip_address(host))) is not None
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")


STANDARD_RULES = (
    Rule(name="dead-letters", kind=Kind.DEAD_LETTERS, threshold=10, window_seconds=300, quiet_seconds=300),
    Rule(name="late", kind=Kind.LATE, threshold=10, window_seconds=300, quiet_seconds=300),
    Rule(name="lag", kind=Kind.LAG, threshold=100_000, for_seconds=300),
    Rule(name="breaker", kind=Kind.BREAKER, threshold=1, for_seconds=60),
    Rule(name="spending", kind=Kind.SPENDING, threshold=1),
    Rule(name="retry-budget", kind=Kind.BUDGET, threshold=60, for_seconds=60, quiet_seconds=300),
)


class AlarmOptions(_Options):
    """When somebody has to look, and who is told."""

    standard_rules: bool = Field(
        default=True, description="Whether the rules that come with callstream are in force beside yours."
    )
    rules: Annotated[tuple[Rule, ...], Field(max_length=MOST_RULES)] = Field(
        default=(), description="When alarms ring; one with the name of a standard rule takes its place."
    )
    webhooks: Annotated[tuple[AlarmWebhook, ...], Field(max_length=MOST_WEBHOOKS)] = Field(
        default=(), description="Who is told; time-outs, attempts and private addresses are as `notify` has them."
    )
    most_open: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=100, description="Incidents that may be open at once; beyond, none begins, and the log says so."
    )

    @field_validator("rules")
    @classmethod
    def _each_with_a_name_of_its_own(cls, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        twice = [name for name, count in Counter(rule.name for rule in rules).items() if count > 1]
        if twice:
            raise ValueError(f"two rules are called {twice[0]!r}; each has a name of its own")
        return rules

    @property
    def in_force(self) -> tuple[Rule, ...]:
        """All rules: the given ones, and those standard ones whose name none of them has."""
        given = {rule.name for rule in self.rules}
        return self.rules + tuple(one for one in STANDARD_RULES if self.standard_rules and one.name not in given)
