"""What an OpenAI-compatible server says of its limits: `x-ratelimit-*` headers, in which anything may stand. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from callstream.agents.inference.retry_after import MOST_CHARACTERS, MOST_SECONDS, retry_after

MOST_COUNT = 10**12
"""More requests or tokens than this are taken for as many."""
FIRST_EPOCH = 10**9
"""A plain number from here on (2001) is a moment and no span; a thousand times as much is one in milliseconds."""

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
_PART = rf"([0-9]{{1,18}}(?:\.[0-9]{{1,18}})?)({'|'.join(sorted(_UNITS, key=len, reverse=True))})"
_PARTS = re.compile(_PART)
_SPAN = re.compile(rf"(?:{_PART})+\Z")
_NUMBER = re.compile(r"[0-9]{1,40}(?:\.[0-9]{1,20})?\Z")
_COUNT = re.compile(r"[0-9]{1,40}\Z")


@dataclass(frozen=True, slots=True)
class Told:
    """What is left of the limits, seconds until they are whole again, and the limits; None is not told, or nonsense.

    Counts are 0 to `MOST_COUNT`, seconds 0 to `retry_after.MOST_SECONDS`.
    """

    requests_left: int | None = None
    tokens_left: int | None = None
    requests_reset_seconds: float | None = None
    tokens_reset_seconds: float | None = None
    requests_limit: int | None = None
    tokens_limit: int | None = None


_COUNTS = {
    "x-ratelimit-remaining-requests": "requests_left",
    "x-ratelimit-remaining-tokens": "tokens_left",
    "x-ratelimit-limit-requests": "requests_limit",
    "x-ratelimit-limit-tokens": "tokens_limit",
}
_RESETS = {
    "x-ratelimit-reset-requests": "requests_reset_seconds",
    "x-ratelimit-reset-tokens": "tokens_reset_seconds",
}


def told(headers: Mapping[str, str], now: float | None = None) -> Told | None:
    """What these headers tell, whatever the case of their names; None if that is nothing. Never raises.

    A reset may be a span ("6m0s", "20ms", "1h2m3.5s") or seconds ("0.25"); with `now` (epoch seconds) also a moment:
    Unix time in seconds or milliseconds, ISO 8601, RFC 9110. Of a header that comes twice the first counts.

    >>> told({"X-RateLimit-Remaining-Tokens": "149984", "x-ratelimit-reset-tokens": "6m0s"})
    Told(requests_left=None, tokens_left=149984, requests_reset_seconds=None, tokens_reset_seconds=360.0, \
requests_limit=None, tokens_limit=None)
    """
    counts: dict[str, int | None] = {}
    resets: dict[str, float | None] = {}
    for name, value in headers.items():
        lowered = name.lower()
        if (count := _COUNTS.get(lowered)) is not None:
            counts.setdefault(count, _count(value))
        elif (reset := _RESETS.get(lowered)) is not None:
            resets.setdefault(reset, _reset(value, now))
    found = Told(
        counts.get("requests_left"),
        counts.get("tokens_left"),
        resets.get("requests_reset_seconds"),
        resets.get("tokens_reset_seconds"),
        counts.get("requests_limit"),
        counts.get("tokens_limit"),
    )
    return None if found == Told() else found


def _short(value: str) -> str:
    """Stripped; empty if it is too long to mean anything."""
    return value.strip() if len(value) <= MOST_CHARACTERS else ""


def _count(value: str) -> int | None:
    text = _short(value)
    return min(int(text), MOST_COUNT) if _COUNT.match(text) else None


def _reset(value: str, now: float | None) -> float | None:
    text = _short(value)
    if _SPAN.match(text):
        return min(sum(float(number) * _UNITS[unit] for number, unit in _PARTS.findall(text)), MOST_SECONDS)
    if _NUMBER.match(text):
        number = float(text)
        if number < FIRST_EPOCH:
            return min(number, MOST_SECONDS)
        return None if now is None else _until(number / 1000 if number >= FIRST_EPOCH * 1000 else number, now)
    if now is None or not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return _until((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp(), now)
    except (ValueError, OverflowError):
        return retry_after(text, now)


def _until(moment: float, now: float) -> float:
    return max(0.0, min(moment - now, MOST_SECONDS))
