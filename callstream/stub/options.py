"""What the stub can be told: at the start (StubOptions) and while it runs (Behaviour)."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from callstream.stub.faults import FaultKind
from callstream.stub.limits import Quota, RetryAfterStyle

Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Behaviour(BaseModel):
    """How calls are limited, delayed and failed; can be changed at run time through `POST /stub/control`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    concurrency: int = Field(default=1000, ge=1, le=100_000, description="Calls served at the same time.")
    queue: int = Field(default=0, ge=0, le=100_000, description="Calls that may wait for a place; beyond that: 429.")
    rpm: int | None = Field(
        default=None, ge=1, le=100_000_000, description="Requests in any 60 seconds; unset: no limit."
    )
    tpm: int | None = Field(
        default=None, ge=1, le=10_000_000_000, description="Tokens in any 60 seconds; unset: no limit."
    )
    median_ms: float = Field(default=200.0, ge=0, le=600_000, description="Median latency of a call, in milliseconds.")
    sigma: float = Field(
        default=0.5, ge=0, le=2, description="Spread of the log-normal latency; 0: every call the same."
    )
    fail: dict[FaultKind, Probability] = Field(
        default_factory=dict, description="Probability of each kind of fault, such as 503=0.1; may be repeated."
    )
    retry_after_style: RetryAfterStyle = Field(
        default="seconds", description="Form of Retry-After: seconds, date or none."
    )
    retry_after_seconds: float = Field(
        default=1.0,
        ge=0,
        le=3600,
        description="Retry-After of a 429 for concurrency or by fault; of a rate limit: the real wait.",
    )
    hang_seconds: float = Field(default=600.0, ge=0, le=86_400, description="How long a hanging call holds its place.")
    drip_seconds: float = Field(default=20.0, ge=0, le=3600, description="How long a dripping answer takes.")

    @model_validator(mode="after")
    def _one_fault_a_call(self) -> Self:
        if (total := sum(self.fail.values())) > 1 + 1e-9:
            given = ", ".join(f"{kind}={probability:g}" for kind, probability in self.fail.items())
            raise ValueError(f"the probabilities in fail ({given}) add up to {total:g}; at most 1 is possible")
        return self

    @property
    def quota(self) -> Quota:
        """The limits of a minute."""
        return Quota(self.rpm, self.tpm)

    def changed(self, changes: dict[str, object]) -> "Behaviour":
        """A copy with some fields changed. Raises pydantic.ValidationError."""
        return Behaviour.model_validate({**self.model_dump(), **changes})


class StubOptions(Behaviour):
    """Everything the stub is started with."""

    host: str = Field(default="127.0.0.1", min_length=1, max_length=253, description="Address to listen on.")
    port: int = Field(default=0, ge=0, le=65_535, description="Port to listen on; 0: any free one.")
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="Seed of latency, faults, copy and vectors.")
    key: str | None = Field(
        default=None, min_length=1, max_length=512, description="Bearer key to ask for; unset: none."
    )
    idempotent: bool = Field(
        default=False, description="Replay the paid answer for a repeated Idempotency-Key, without paying."
    )
    remember: int = Field(
        default=1_000_000, ge=1, le=100_000_000, description="Call ids and tasks counted before the oldest go."
    )
    calls_kept: int = Field(default=100_000, ge=1, le=10_000_000, description="Calls kept for /stub/calls.")
    answers_kept: int = Field(default=10_000, ge=1, le=1_000_000, description="Answers kept to be replayed.")
    body_limit_bytes: int = Field(default=20 * 2**20, ge=1024, le=2**30, description="Largest request body, in bytes.")
    parent: int | None = Field(
        default=None, ge=1, description="Process id to end with; unset: runs until it is stopped."
    )

    @property
    def behaviour(self) -> Behaviour:
        """The part that can change at run time."""
        return Behaviour.model_validate(self.model_dump(include=set(Behaviour.model_fields)))
