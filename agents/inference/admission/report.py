"""What replicas tell of their gates, and what is known of all of them together. Pure: `now` is an argument.

A replica says what it has every `TELL_SECONDS`; whoever has said nothing for `SILENT_SECONDS` is gone. A report is
bounded: of the calls that wait it names the first `MOST_CALLS`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from callstream.agents.inference.admission.decide import Reason
from callstream.streams.event import Json

TELL_SECONDS = 1.0
SILENT_SECONDS = 10.0
MOST_CALLS = 2_000
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
        for name, report in self.alive(now).items():
            found = (report.get("calls") or {}).get(f"{tenant}/{task}")
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
