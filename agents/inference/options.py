"""Which models may be called, where, and within what bounds."""

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    SecretStr,
    StringConstraints,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from yarl import URL

from callstream.agents.inference.budget_options import MoneyBudgets
from callstream.agents.secret import BAD_IN_HEADER, UnusableSecret, key_of, unfit
from callstream.streams.keys import Name, Tenant
from callstream.streams.money import USUAL_CURRENCY, Currency
from callstream.streams.retry_budget import BudgetOptions

MOST_PRICE = 1_000_000
OURS = frozenset({"content-type", "accept-encoding", "idempotency-key", "traceparent", "host", "content-length"})


def _free_header(name: str) -> str:
    if name.lower() == "authorization":
        raise ValueError("this header is made of the endpoint's key: set api_key or api_key_file, the key alone")
    if name.lower() in OURS or name.lower().startswith("x-callstream-"):
        raise ValueError("this header is set by callstream itself")
    return name


def _no_truth(value: object) -> object:
    """Pydantic takes `true` for 1."""
    if isinstance(value, bool):
        raise ValueError("must be a number, and true and false are none")
    return value


HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$"), AfterValidator(_free_header)]
Weight = Annotated[int, Field(ge=0, le=1000), BeforeValidator(_no_truth)]
Limit = Annotated[int, Field(ge=1, le=10**12), BeforeValidator(_no_truth)]
Tokens = Annotated[int, Field(ge=1, le=10**9), BeforeValidator(_no_truth)]
Places = Annotated[int, Field(ge=1, le=10_000), BeforeValidator(_no_truth)]
Share = Annotated[int, Field(ge=1, le=1000), BeforeValidator(_no_truth)]
Quantile = Annotated[float, Field(ge=0.5, le=0.999), BeforeValidator(_no_truth)]
Part = Annotated[float, Field(ge=0, le=0.5), BeforeValidator(_no_truth)]
Price = Annotated[
    Decimal,
    Field(ge=0, le=MOST_PRICE),
    BeforeValidator(_no_truth),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": MOST_PRICE}),
]
Lane = Literal["high", "normal", "low"]
LANES: tuple[Lane, ...] = ("high", "normal", "low")


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class LimitOptions(_Options):
    """What may be sent in any 60 s or any 24 h, by all processes together; what is unset is not limited."""

    requests_per_minute: Limit | None = Field(default=None, description="Requests sent in any 60 s.")
    tokens_per_minute: Limit | None = Field(default=None, description="Tokens in any 60 s, in and out together.")
    tokens_in_per_minute: Limit | None = Field(default=None, description="Tokens of requests in any 60 s.")
    tokens_out_per_minute: Limit | None = Field(default=None, description="Tokens of answers in any 60 s.")
    requests_per_day: Limit | None = Field(default=None, description="Requests sent in any 24 h.")
    tokens_per_day: Limit | None = Field(default=None, description="Tokens in any 24 h, in and out together.")


class EndpointOptions(_Options):
    """One OpenAI-compatible base URL and model. Its name is unique over all pools: metrics and receipts go by it."""

    name: Name = Field(description="What the endpoint is called in metrics, traces and receipts.")
    base_url: str = Field(max_length=2000, description="Up to and without /chat/completions; http or https.")
    model: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        description="The model's name as the endpoint knows it."
    )
    api_key: SecretStr | None = Field(
        default=None,
        description="Sent as a bearer token; only ever by its variable, never in a file of settings. Unset, and no "
        "api_key_file: no Authorization header.",
    )
    api_key_file: Path | None = Field(
        default=None, description="File that holds the key and nothing else, in place of api_key."
    )
    headers: dict[HeaderName, SecretStr] = Field(
        default_factory=dict,
        max_length=16,
        description="Further headers of each request, by name; Authorization is made of the key.",
    )
    weight: Weight = Field(
        default=1,
        description="Share of the pool's calls, beside the other endpoints' weights; 0: only when no other can.",
    )
    account: Name | None = Field(
        default=None, description="The one of inference.accounts whose limits this endpoint shares; unset: none."
    )
    limits: LimitOptions = Field(
        default_factory=LimitOptions, description="Limits of this endpoint alone; they hold beside its account's."
    )
    price_in_per_million: Price = Field(default=Decimal(0), description="Price of a million tokens of requests.")
    price_out_per_million: Price = Field(default=Decimal(0), description="Price of a million tokens of answers.")
    price_cached_per_million: Price | None = Field(
        default=None,
        description="Price of a million tokens of requests that the endpoint had in its cache; unset: as all others.",
    )
    currency: Currency | None = Field(
        default=None, description="The prices' currency, to be checked against inference.currency; unset: that one."
    )
    context_tokens: Tokens | None = Field(
        default=None, description="Longest request and answer together; unset: not known."
    )
    max_answer_tokens: Tokens = Field(
        default=1024, description="Answer that is reckoned with where a request sets no max_tokens."
    )
    concurrency: Places = Field(
        default=16, description="Calls in flight at once, from this process: the most that is learned."
    )
    least_concurrency: Places = Field(default=1, description="Calls in flight at once that are always allowed.")
    start_concurrency: Places | None = Field(
        default=None, description="Where learning begins; unset: it is chosen between the two bounds."
    )
    continue_with: dict[str, JsonValue] | None = Field(
        default=None,
        max_length=16,
        description="Members of a request that has the endpoint go on from the assistant's last message, such as "
        "continue_final_message; {} where none are needed. Unset: an answer that broke off is asked for anew.",
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
        base = value.rstrip("/")
        for path in ("/chat/completions", "/completions"):
            if base.lower().endswith(path):
                raise ValueError(f"must end before {path}: give {base[: -len(path)]}")
        return base

    @model_validator(mode="after")
    def _that_fits_together(self) -> Self:
        if self.api_key is not None and self.api_key_file is not None:
            raise ValueError("api_key and api_key_file are both set: set one of them")
        if self.least_concurrency > self.concurrency:
            raise ValueError(
                f"least_concurrency ({self.least_concurrency:,}) is more than concurrency ({self.concurrency:,})"
            )
        start = self.start_concurrency
        if start is not None and not self.least_concurrency <= start <= self.concurrency:
            raise ValueError(
                f"start_concurrency ({start:,}) must be from least_concurrency ({self.least_concurrency:,}) to "
                f"concurrency ({self.concurrency:,})"
            )
        return self

    def secret_headers(self) -> dict[str, str]:
        """The headers that carry secrets, in the clear; reads `api_key_file`.

        Raises UnusableSecret for a value that no header can hold and for a file that gives no key. This is not checked
        as a field is: an error there would quote what it refuses, and who has no use for a key may not be able to
        read it.
        """
        secrets = {name: secret.get_secret_value().strip() for name, secret in self.headers.items()}
        for name, value in secrets.items():
            if wrong := unfit(value, BAD_IN_HEADER):
                raise UnusableSecret(f"endpoint {self.name}: header {name} {wrong}", "headers", name)
        if key := key_of(f"endpoint {self.name}", self.api_key, self.api_key_file):
            secrets["Authorization"] = f"Bearer {key}"
        return secrets


class PoolOptions(_Options):
    """Endpoints that can stand in for each other."""

    endpoints: tuple[EndpointOptions, ...] = Field(
        min_length=1, max_length=100, description="At least one; calls are shared out by their weights."
    )
    on_refused_by_policy: Literal["stop", "next"] = Field(
        default="stop",
        description="When an endpoint refuses what a request says: stop, so that the step decides, or ask the next.",
    )
    hedge_after_quantile: Quantile | None = Field(
        default=None,
        description="Ask a second endpoint too once a call takes longer than so many of its kind, such as 0.95; the "
        "slower of the two is cancelled, and what it cost counted. Unset: never.",
    )
    most_hedged: Part = Field(
        default=0.05, description="The part of the pool's requests that a second one is sent for at most; 0: none."
    )

    @model_validator(mode="after")
    def _somewhere_to_go(self) -> Self:
        if not any(endpoint.weight for endpoint in self.endpoints):
            raise ValueError("the weights of the endpoints sum to 0: one at least must be 1 or more")
        return self


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
    budget: BudgetOptions = Field(
        default=BudgetOptions(a_second=2.0),
        description="How many requests may be retries, by endpoint and process; beyond: the step waits and retries.",
    )


class FlightOptions(_Options):
    """What happens to a call in flight whose caller was cancelled, as by a rebalance."""

    grace_seconds: float = Field(
        default=30.0, ge=0, le=600, description="How long it goes on, to be joined by a redelivery."
    )
    most_unclaimed: int = Field(
        default=100, ge=0, le=10_000, description="Such calls at once; the oldest are cancelled."
    )


def _lanes() -> dict[Lane, int]:
    """By default: `high` 16, `normal` 4, `low` 1."""
    return {"high": 16, "normal": 4, "low": 1}


class InferenceOptions(_Options):
    """Everything that model calls are configured by; all of it can change while a worker runs."""

    pools: dict[Name, PoolOptions] = Field(default_factory=dict, description="Pools of endpoints by name.")
    currency: Currency = Field(
        default=USUAL_CURRENCY, description="The currency of all prices and budgets: three letters of ISO 4217."
    )
    accounts: dict[Name, LimitOptions] = Field(
        default_factory=dict, max_length=1000, description="Limits that several endpoints share, by name of account."
    )
    budgets: MoneyBudgets = Field(
        default_factory=MoneyBudgets, description="What tenants and chains may spend: warn, slow down, stop."
    )
    lanes: dict[Lane, Share] = Field(
        default_factory=_lanes,
        description="Shares of a pool that tasks of high, normal and low priority have, all three, each 1 to 1,000.",
    )
    tenants: dict[Tenant, Share] = Field(
        default_factory=dict,
        max_length=10_000,
        description="Shares of a lane that tenants have, by name, each 1 to 1,000; who is not named has 1.",
    )
    window_margin_seconds: Annotated[float, BeforeValidator(_no_truth)] = Field(
        default=1.5,
        ge=0.5,
        le=30,
        description="How much longer than its minute or day a request is counted: for its way and clocks that differ.",
    )
    retry: RetryOptions = Field(default_factory=RetryOptions, description="Retries of one call.")
    flights: FlightOptions = Field(default_factory=FlightOptions, description="Calls whose caller was cancelled.")
    part_seconds: float = Field(
        default=1.0,
        ge=0.1,
        le=60,
        description="How often more of an answer is kept that comes piece by piece: what a crash may lose of it.",
    )
    max_response_bytes: int = Field(
        default=8 * 2**20, ge=1024, le=2**30, description="Largest HTTP body taken as an answer."
    )
    max_text_bytes: int = Field(
        default=256 * 1024, ge=1, le=256 * 1024, description="Longest text of an answer, UTF-8; receipts hold it."
    )

    @field_validator("lanes")
    @classmethod
    def _every_lane(cls, value: dict[Lane, int]) -> dict[Lane, int]:
        if missing := [lane for lane in LANES if lane not in value]:
            raise ValueError(f"all of {', '.join(LANES)} must be there; missing: {', '.join(missing)}")
        return value

    @model_validator(mode="after")
    def _that_fits_together(self) -> Self:
        if found := [*self._used_twice(), *self._undeclared(), *self._mixed()]:
            raise ValueError("; ".join(found[:20]))
        return self

    def _used_twice(self) -> Iterator[str]:
        counted = Counter(endpoint.name for pool in self.pools.values() for endpoint in pool.endpoints)
        if twice := sorted(name for name, count in counted.items() if count > 1):
            yield f"endpoint names must be unique over all pools; used more than once: {', '.join(twice)}"

    def _undeclared(self) -> Iterator[str]:
        declared = ", ".join(sorted(self.accounts)[:50]) or "none"
        for endpoint in self.endpoints().values():
            if endpoint.account is not None and endpoint.account not in self.accounts:
                yield (
                    f"endpoint {endpoint.name} names the account {endpoint.account!r}, which is not declared in "
                    f"inference.accounts; there are: {declared}"
                )

    def _mixed(self) -> Iterator[str]:
        for endpoint in self.endpoints().values():
            if endpoint.currency is not None and endpoint.currency != self.currency:
                yield (
                    f"endpoint {endpoint.name} has its prices in {endpoint.currency}, and inference.currency is "
                    f"{self.currency}: convert them, since money of two currencies has no sum"
                )

        for kind, named in (("tenants", self.budgets.tenants), ("chains", self.budgets.chains)):
            for name, budget in named.items():
                if budget.currency is not None and budget.currency != self.currency:
                    yield (
                        f"budgets.{kind}.{name} is in {budget.currency}, and inference.currency is {self.currency}: "
                        "convert it"
                    )

    def endpoints(self) -> dict[str, EndpointOptions]:
        """Every endpoint of every pool, by name."""
        return {endpoint.name: endpoint for pool in self.pools.values() for endpoint in pool.endpoints}
