"""What replicas tell of their gates, and what is known of all of them together. Pure: `now` is an argument.

A replica says what it has every `TELL_SECONDS`; whoever has said nothing for `SILENT_SECONDS` is gone. A report is
bounded: of the calls that wait it names the first `MOST_CALLS`, and as many of those in flight.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from callstream.agents.inference.admission.decide import Reason
from callstream.streams.event import Json
from callstream.streams.money import text_of, total

TELL_SECONDS = 1.0
SILENT_SECONDS = 10.0
MOST_CALLS = 2_000
STANDINGS = ("within", "warn", "slow", "stopped")
"""How a budget is, from good to bad."""
MOST_REPLICAS = 1_000


@dataclass(slots=True)
class Reports:
    """The latest report of each replica, by its name, with when it came (seconds of a monotonic clock)."""

    _latest: dict[str, tuple[float, Json]] = field(default_factory=dict)

    def hear(self, replica: str, report: Any, now: float) -> None:
        """Take a report in. One that is none is ignored."""
        if not isinstance(report, dict) or not isinstance(report.get("pools"), list):
            return
        self._latest[replica] = (now, report)
        if len(self._latest) > MOST_REPLICAS:
            self.alive(now)
            while len(self._latest) > MOST_REPLICAS:
                del self._latest[min(self._latest, key=lambda name: self._latest[name][0])]

    def alive(self, now: float) -> Mapping[str, Json]:
        """Reports of replicas that are there, by name."""
        self._latest = {name: kept for name, kept in self._latest.items() if now - kept[0] <= SILENT_SECONDS}
        return {name: report for name, (_, report) in sorted(self._latest.items())}

    def why(self, tenant: str, task: str, now: float) -> Json | None:
        """Why a task's call waits, as its replica says; None if none of them has it waiting."""
        return self._find("calls", tenant, task, now)

    def calling(self, tenant: str, task: str, now: float) -> Json | None:
        """Which endpoint has a task's call, and since when, as its replica says; None if none of them has sent it."""
        return self._find("calling", tenant, task, now)

    def _find(self, part: str, tenant: str, task: str, now: float) -> Json | None:
        for name, report in self.alive(now).items():
            calls = report.get(part)
            found = calls.get(f"{tenant}/{task}") if isinstance(calls, dict) else None
            if isinstance(found, dict):
                return {**found, "replica": name}
        return None

    def aside(self, tenant: str, pool: str, lane: str, now: float) -> Json | None:
        """That tasks of a tenant wait before a pool's gate, which has enough of it; None if no replica says so."""
        for name, report in self.alive(now).items():
            for one in report["pools"]:
                if not isinstance(one, dict) or one.get("pool") != pool:
                    continue
                for group in one.get("aside") or ():
                    if (group["tenant"], group["lane"]) == (tenant, lane):
                        waits_for = f"its turn among {group['events']:,} tasks of {tenant} that were put aside"
                        return {
                            "pool": pool,
                            "reason": str(Reason.FAIR_SHARE),
                            "waits_for": waits_for,
                            "lane": lane,
                            "put_aside": group["events"],
                            "replica": name,
                        }
        return None


def used_up(reports: Mapping[str, Json], tenant: str, chain: str) -> Json:
    """What joins the reason of a task that was put aside, if a budget of its tenant or chain is used up."""
    for one in budgets_in(reports):
        if one["state"] == STANDINGS[-1] and one["budget"] in (f"tenant {tenant}", f"chain {chain}"):
            words = budget_words(one["budget"], one["ceiling"], one["currency"], one["period"])
            return {"reason": str(Reason.BUDGET), "waits_for": words, "resets": one["resets"]}
    return {}


def budget_words(budget: str, ceiling: str | None, currency: str, period: str) -> str:
    """What a call waits for whose budget is used up.

    >>> budget_words("tenant acme", "12", "EUR", "day")
    'budget of tenant acme: 12 EUR a day'
    """
    return f"budget of {budget}: {ceiling} {currency} a {period}"


def budgets_in(reports: Mapping[str, Json]) -> list[Json]:
    """Each budget over all replicas: what they have spent of it together, and the worst that one of them says.

    What cannot be read is left out.
    """
    found: dict[tuple[str, str], Json] = {}
    for report in reports.values():
        told = report.get("budgets")
        for one in told if isinstance(told, list) else ():
            with suppress(KeyError, TypeError, ValueError, ArithmeticError):
                key = one["budget"], one["period"]
                found[key] = _with_another(found.get(key), one)
    return [found[key] for key in sorted(found)]


def _with_another(known: Json | None, one: Json) -> Json:
    spent = [Decimal(one["spent"])] + ([Decimal(known["spent"])] if known is not None else [])
    states = [one["state"]] + ([known["state"]] if known is not None else [])
    shown = {name: one[name] for name in ("budget", "period", "currency", "resets", "warn_at", "slow_at", "ceiling")}
    return shown | {
        "state": max(states, key=STANDINGS.index),
        "spent": text_of(total(spent)),
        "waiting": one["waiting"] + (known["waiting"] if known is not None else 0),
    }
