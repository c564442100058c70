"""Which models may be called, where, and within what bounds."""

import re
from collections import Counter
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    field_validator,
    model_validator,
)
from yarl import URL

from callstream.streams.keys import Name

OURS = frozenset({"content-type", "accept-encoding", "idempotency-key", "traceparent", "host", "content-length"})
HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,4096}\Z")


def _free_header(name: str) -> str:
    if name.lower() in OURS or name.lower().startswith("x-callstream-"):
        raise ValueError("this header is set by callstream itself")
    return name


HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$"), AfterValidator(_free_header)]


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class EndpointOptions(_Options):
    """One OpenAI-compatible base URL and model. Its name is unique over all pools: metrics and receipts go by it."""

    name: Name = Field(description="What the endpoint is called in metrics, traces and receipts.")
    base_url: str = Field(max_length=2000, description="Up to and without /chat/completions; http or https.")
    model: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        description="The model's name as the endpoint knows it."
    )
    api_key: SecretStr | None = Field(
        default=None, description="Sent as a bearer token; unset: no Authorization header."
    )
    headers: dict[HeaderName, SecretStr] = Field(
        default_factory=dict, max_length=16, description="Further headers of each request, by name."
    )
    concurrency: int = Field(default=16, ge=1, le=10_000, description="Calls in flight at once, from this process.")
    most_waiting: int = Field(
        default=1000, ge=0, le=100_000, description="Calls that may wait for a place in this process."
    )
    timeout_seconds: float = Field(
        default=60.0, gt=0, le=3600, description="From sending a request to the end of its answer."
    )
    connect_timeout_seconds: float = Field(default=10.0, gt=0, le=300, description="To open a connection.")

    @field_validator("base_url")
    @classmethod
    def _usable_url(cls, value: str) -> str:
        try:
            url = URL(value)
            usable = url.scheme in ("http", "https") and bool(url.host) and url.port != 0
        except ValueError:
            usable = False
        if not usable or not value.isascii() or not value.isprintable() or " " in value:
            raise ValueError("must be an http or https URL such as https://api.openai.com/v1")
        if url.user is not None or url.password is not None:
            raise ValueError("must hold no user or password; use api_key")
        if "?" in value or "#" in value:
            raise ValueError("must have no query and no fragment")
        return value.rstrip("/").removesuffix("/chat/completions")

    def secret_headers(self) -> dict[str, str]:
        """The headers that carry secrets, in the clear. Raises ValueError for a value that no header can hold.

        This is not checked as a field is: an error there would quote what it refuses.
        """
        secrets = {name: secret.get_secret_value().strip() for name, secret in self.headers.items()}
        if self.api_key is not None and (key := self.api_key.get_secret_value().strip()):
            secrets["Authorization"] = f"Bearer {key}"
        for name, value in secrets.items():
            if not HEADER_VALUE.match(value):
                where = "api_key" if name == "Authorization" else f"header {name}"
                raise ValueError(f"endpoint {self.name}: {where} must be printable ASCII, at most 4,096 characters")
        return secrets


class PoolOptions(_Options):
    """Endpoints that can stand in for each other."""

    endpoints: tuple[EndpointOptions, ...] = Field(
        min_length=1, max_length=100, description="At least one; calls go round them in turn."
    )


class RetryOptions(_Options):
    """How often one call is sent before the step hears of its failure, and how long the pauses are."""

    attempts: int = Field(default=3, ge=1, le=20, description="Requests in all, the first one included.")
    first_pause_seconds: float = Field(
        default=0.5, ge=0, le=60, description="Ceiling of the first pause; each next one doubles."
    )
    longest_pause_seconds: float = Field(default=10.0, ge=0, le=600, description="Ceiling that the doubling stops at.")
    longest_asked_seconds: float = Field(
        default=60.0,
        ge=0,
        le=600,
        description="Most of an endpoint's Retry-After that is waited here; beyond: the step retries.",
    )


class FlightOptions(_Options):
    """What happens to a call in flight whose caller was cancelled, as by a rebalance."""

    grace_seconds: float = Field(
        default=30.0, ge=0, le=600, description="How long it goes on, to be joined by a redelivery."
    )
    most_unclaimed: int = Field(
        default=100, ge=0, le=10_000, description="Such calls at once; the oldest are cancelled."
    )


class InferenceOptions(_Options):
    """Everything that model calls are configured by."""

    pools: dict[Name, PoolOptions] = Field(default_factory=dict, description="Pools of endpoints by name.")
    retry: RetryOptions = Field(default_factory=RetryOptions, description="Retries of one call.")
    flights: FlightOptions = Field(default_factory=FlightOptions, description="Calls whose caller was cancelled.")
    max_response_bytes: int = Field(
        default=8 * 2**20, ge=1024, le=2**30, description="Largest HTTP body taken as an answer."
    )
    max_text_bytes: int = Field(
        default=256 * 1024, ge=1, le=256 * 1024, description="Longest text of an answer, UTF-8; receipts hold it."
    )

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        counted = Counter(endpoint.name for pool in self.pools.values() for endpoint in pool.endpoints)
        if twice := sorted(name for name, count in counted.items() if count > 1):
            raise ValueError(f"endpoint names must be unique over all pools; used more than once: {', '.join(twice)}")
        return self

    def endpoints(self) -> dict[str, EndpointOptions]:
        """Every endpoint of every pool, by name."""
        return {endpoint.name: endpoint for pool in self.pools.values() for endpoint in pool.endpoints}
