"""Requests and tokens a minute, held over any sliding window of 60 seconds. Pure: `now` is an argument.

Time is counted in ticks of a millisecond, so a window holds at most 60,001 entries whatever the load. The limiter's
span is one tick longer than a minute, so that rounding never lets more through; a witness takes exactly a minute, so
that it never overstates.
"""

import math
from collections import deque
from dataclasses import dataclass
from email.utils import formatdate
from typing import Literal

TICKS_A_SECOND = 1000
MINUTE_TICKS = 60 * TICKS_A_SECOND

RetryAfterStyle = Literal["seconds", "date", "none"]


class SlidingWindow:
    """The sum of what was added within the last `span_ticks`."""

    def __init__(self, span_ticks: int) -> None:
        self.span_ticks = span_ticks
        self._entries: deque[tuple[int, int]] = deque()
        self._total = 0

    def total(self, now: float) -> int:
        """The sum at `now` (seconds of a monotonic clock)."""
        oldest = math.floor(now * TICKS_A_SECOND) - self.span_ticks
        entries = self._entries
        while entries and entries[0][0] <= oldest:
            self._total -= entries.popleft()[1]
        return self._total

    def add(self, now: float, amount: int) -> int:
        """Count `amount` at `now`; answers the new sum."""
        self.total(now)
        tick = math.floor(now * TICKS_A_SECOND)
        if self._entries and self._entries[-1][0] == tick:
            amount_before = self._entries.pop()[1]
            self._entries.append((tick, amount_before + amount))
        else:
            self._entries.append((tick, amount))
        self._total += amount
        return self._total

    def seconds_until(self, now: float, room_below: int) -> float:
        """Seconds until the sum is at most `room_below`; 0 if it is now."""
        left = self.total(now)
        for tick, amount in self._entries:
            if left <= room_below:
                return 0.0
            left -= amount
            if left <= room_below:
                return max(0.0, (tick + self.span_ticks) / TICKS_A_SECOND - now)
        return 0.0

    def seconds_until_empty(self, now: float) -> float:
        """Seconds until nothing is left in the window."""
        if not self.total(now):
            return 0.0
        return max(0.0, (self._entries[-1][0] + self.span_ticks) / TICKS_A_SECOND - now)


@dataclass(frozen=True)
class Refusal:
    """Why a call is turned away with 429, and when to come again."""

    limit: Literal["requests", "tokens", "concurrency"]
    message: str
    retry_after_seconds: float


@dataclass(frozen=True)
class Quota:
    """What may pass within a minute; None is without limit."""

    rpm: int | None = None
    tpm: int | None = None


class RateLimiter:
    """Admits a call if both windows have room for all of it, and counts only what it admitted."""

    def __init__(self) -> None:
        self._requests = SlidingWindow(MINUTE_TICKS + 1)
        self._tokens = SlidingWindow(MINUTE_TICKS + 1)

    def admit(self, now: float, tokens: int, quota: Quota) -> Refusal | None:
        """None if admitted and counted; otherwise nothing was counted."""
        if quota.tpm is not None and tokens > quota.tpm:
            text = f"Request too large: it needs {tokens} tokens, the limit is {quota.tpm} tokens per minute."
            return Refusal("tokens", text, 60.0)
        for name, window, amount, limit in (
            ("requests", self._requests, 1, quota.rpm),
            ("tokens", self._tokens, tokens, quota.tpm),
        ):
            if limit is not None and window.total(now) + amount > limit:
                wait = window.seconds_until(now, limit - amount)
                used = window.total(now)
                text = f"Rate limit reached for {name} per minute: limit {limit}, used {used}, asked {amount}."
                return Refusal("requests" if name == "requests" else "tokens", text, wait)
        self._requests.add(now, 1)
        self._tokens.add(now, tokens)
        return None

    def headers(self, now: float, quota: Quota) -> dict[str, str]:
        """The `x-ratelimit-*` headers of every answer, for the limits that are set."""
        found = {}
        for name, window, limit in (("requests", self._requests, quota.rpm), ("tokens", self._tokens, quota.tpm)):
            if limit is not None:
                found[f"x-ratelimit-limit-{name}"] = str(limit)
                found[f"x-ratelimit-remaining-{name}"] = str(max(0, limit - window.total(now)))
                found[f"x-ratelimit-reset-{name}"] = f"{window.seconds_until_empty(now):.3f}s"
        return found


def retry_after(style: RetryAfterStyle, seconds: float, now_unix: float) -> dict[str, str]:
    """The `Retry-After` header; both forms carry whole seconds, so they are rounded up."""
    if style == "none":
        return {}
    if style == "seconds":
        return {"Retry-After": str(math.ceil(seconds))}
    return {"Retry-After": formatdate(math.ceil(now_unix + seconds), usegmt=True)}
