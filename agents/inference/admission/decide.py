"""Whether a call may go now, and if not, what it waits for: one decision for every call. Pure.

The order of calls is decided elsewhere (`fairness`): this is asked about the one whose turn it is. Nobody overtakes it
because he is smaller, so that a large call is not starved by small ones.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from callstream.agents.inference.admission.allowance import Amount, Unit
from callstream.agents.inference.failures import Kind


class Reason(StrEnum):
    """Why a call waits."""

    TOKENS = "tokens"
    REQUESTS = "requests"
    CONCURRENCY = "concurrency"
    RETRY_AFTER = "retry-after"
    FAIR_SHARE = "fair share"
    BREAKER = "breaker"
    PAUSED = "paused"
    SHARE = "no share"
    """This replica owns no partition, so no part of any limit."""
    BUDGET = "budget"
    """What its tenant or chain may spend is used up, on this replica at least."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint as it is at this moment. Times are seconds of a monotonic clock; None: nothing is in the way.

    `places` is how many more calls it may have in flight; `opens` when its allowance, and that of its account, have
    room for the call, and `unit` which limit that waits for; `closed_until` what it asked for itself; `breaker_opens`
    when its breaker lets a call through.
    """

    name: str
    weight: int
    in_flight: int
    places: int
    context_tokens: int | None = None
    opens: float | None = None
    unit: Unit | None = None
    closed_until: float | None = None
    breaker_opens: float | None = None


@dataclass(frozen=True, slots=True)
class Go:
    """To this endpoint, now."""

    endpoint: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Until that moment at the earliest; None: until a call comes back. `endpoint` is the one that will be first."""

    reason: Reason
    endpoint: str = ""
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Never:
    """It cannot be done: the kind of failure, and why."""

    kind: Kind
    message: str


Decision = Go | Wait | Never


def decide(
    amount: Amount,
    deadline: float | None,
    endpoints: Sequence[Endpoint],
    tried: Collection[str],
    now: float,
) -> Decision:
    """Go to the endpoint with the least load for its weight, of those that may have it now.

    Endpoints that were `tried` for this call and failed are left for the case that no other may have it; those of
    weight 0 likewise.
    """
    if deadline is not None and deadline <= now:
        return Never(Kind.DEADLINE, f"the task's deadline passed {now - deadline:.1f} s before the call could go")
    fitting = [one for one in endpoints if one.context_tokens is None or amount.total <= one.context_tokens]
    if not fitting:
        most = max((one.context_tokens or 0 for one in endpoints), default=0)
        return Never(
            Kind.CONTEXT_TOO_LONG, f"the call needs about {amount.total:,} tokens; no endpoint takes over {most:,}"
        )
    blocks = [(one, _block(one, now)) for one in fitting]
    free = [one for one, block in blocks if block is None]
    if free:
        return Go(min(free, key=lambda one: (one.name in tried, one.weight == 0, _load(one))).name)
    waits = [block for _, block in blocks if block is not None]
    first = min(waits, key=lambda wait: math.inf if wait.until is None else wait.until)
    if deadline is not None and all(wait.until is not None and wait.until >= deadline for wait in waits):
        seconds = (first.until or now) - now
        return Never(
            Kind.DEADLINE,
            f"it would wait {seconds:.0f} s more for {first.reason} of {first.endpoint}, past the task's deadline",
        )
    return next((wait for wait in waits if wait.until is None), first)


def _block(one: Endpoint, now: float) -> Wait | None:
    """What is in its way, the longest wait of all."""
    waits = []
    if one.breaker_opens is not None and one.breaker_opens > now:
        waits.append(Wait(Reason.BREAKER, one.name, one.breaker_opens))
    if one.closed_until is not None and one.closed_until > now:
        waits.append(Wait(Reason.RETRY_AFTER, one.name, one.closed_until))
    if one.opens is not None and one.opens > now:
        waits.append(Wait(_reason(one), one.name, None if math.isinf(one.opens) else one.opens))
    if waits:
        return max(waits, key=lambda wait: math.inf if wait.until is None else wait.until)
    if one.places <= 0:
        return Wait(Reason.CONCURRENCY, one.name)
    return None


def _reason(one: Endpoint) -> Reason:
    if one.unit is None:
        return Reason.SHARE
    return Reason.REQUESTS if one.unit is Unit.REQUESTS else Reason.TOKENS


def _load(one: Endpoint) -> float:
    return (one.in_flight + 1) / max(1, one.weight)
