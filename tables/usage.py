"""What model calls took and cost, by day (UTC), tenant, chain, endpoint, model and currency. Pure.

A row sums up one day's spends of its key, by kind. It remembers which steps it has counted lately, so that a step that
is told of again, after a crash between two writes, is not counted twice (`usage_book` says how).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import blake2b
from typing import Any

from callstream.streams.event import Hop, Json
from callstream.streams.money import text_of, total
from callstream.streams.spend import Spend

COUNTS = ("calls", "tokens_in", "tokens_out", "tokens_cached")
AMOUNTS = ("cost", "estimated")
BY = ("day", "tenant", "chain", "endpoint", "model", "kind")
"""What sums may be told apart by, beside the currency, which always is."""
OTHERS = "(others)"
"""In place of tenant, chain, endpoint and model, beyond the most rows of a day."""
CLOCKS_APART_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class UsageKey:
    """Whose, of which day, at which endpoint, in which currency."""

    day: str
    tenant: str
    chain: str
    endpoint: str
    model: str
    currency: str

    def encode(self) -> bytes:
        """Its key in the table: rows of a day lie together. Only a model's name may hold the sign between its parts."""
        return "|".join((self.day, self.tenant, self.chain, self.endpoint, self.currency, self.model)).encode()

    @property
    def as_others(self) -> "UsageKey":
        """That of the row for all that has no row of its own."""
        return UsageKey(self.day, OTHERS, OTHERS, OTHERS, OTHERS, self.currency)


def decode_key(raw: bytes) -> UsageKey:
    """The key that `UsageKey.encode` wrote."""
    day, tenant, chain, endpoint, currency, model = raw.decode().split("|", 5)
    return UsageKey(day, tenant, chain, endpoint, model, currency)


def day_of(moment: float) -> str:
    """The day of a moment (epoch seconds), UTC.

    >>> day_of(1_700_000_000.0)
    '2023-11-14'
    """
    return datetime.fromtimestamp(moment, UTC).date().isoformat()


def day_after(day: str) -> str:
    """The next one; the last day that can be written down has none, and is its own."""
    one = date.fromisoformat(day)
    return (one + timedelta(days=1)).isoformat() if one < date.max else day


def expired(raw: bytes, days: int, now: float) -> bool:
    """Whether a row is of a day more than so many ago."""
    return decode_key(raw).day < day_of(max(0.0, now - days * 86_400.0))


def mark_of(key: bytes, run: int, position: int, hop: Hop) -> str:
    """What a row remembers of a step that it has counted: of which task, run, place in the trail, and when it ended."""
    text = f"{key.decode()}|{run}|{position}|{hop.ended}"
    return blake2b(text.encode(), digest_size=8).hexdigest()


def keys_of(tenant: str, chain: str, spends: Iterable[Spend], now: float) -> Iterator[tuple[UsageKey, Spend]]:
    """The row that each spend belongs to, by when it was over; what a wrong clock dated later is of today."""
    for spend in spends:
        day = day_of(min(spend.at, now + CLOCKS_APART_SECONDS))
        yield UsageKey(day, tenant, chain, spend.endpoint, spend.model, spend.currency), spend


def added(kinds: Mapping[str, Json], spend: Spend) -> dict[str, Json]:
    """Sums by kind, with one more spend."""
    one = {name: getattr(spend, name) for name in COUNTS} | {
        "cost": text_of(spend.cost),
        "estimated": text_of(spend.cost) if spend.estimated else "0",
    }
    return {**kinds, str(spend.kind): sum_of((kinds.get(str(spend.kind)), one))}


def sum_of(sums: Iterable[Mapping[str, Any] | None]) -> Json:
    """Several sums as one."""
    found = [one for one in sums if one is not None]
    counts: Json = {name: sum(one[name] for one in found) for name in COUNTS}
    return counts | {name: text_of(total(Decimal(one[name]) for one in found)) for name in AMOUNTS}


def grouped(rows: Iterable[tuple[UsageKey, Mapping[str, Json]]], by: Iterable[str]) -> list[Json]:
    """Sums of rows (each with its sums by kind) told apart by some of `BY`, in their order, and by currency."""
    names = tuple(by)
    groups: dict[tuple[str, ...], list[Json]] = {}
    for key, kinds in rows:
        for kind, one in kinds.items():
            parts = {name: kind if name == "kind" else getattr(key, name) for name in names}
            groups.setdefault((*parts.values(), key.currency), []).append(one)
    return [
        dict(zip((*names, "currency"), place, strict=True)) | sum_of(sums) for place, sums in sorted(groups.items())
    ]


def regrouped(rows: Iterable[Json], by: Iterable[str]) -> list[Json]:
    """The same sums of several gateways as one."""
    names = (*by, "currency")
    groups: dict[tuple[str, ...], list[Json]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return [dict(zip(names, place, strict=True)) | sum_of(sums) for place, sums in sorted(groups.items())]
