"""What the stub has seen: the judge of its callers. Pure: `now` is an argument, in seconds of a monotonic clock."""

from collections import deque
from dataclasses import asdict, dataclass
from typing import NamedTuple

from callstream.stub.counters import Counters, Counts
from callstream.stub.limits import MINUTE_TICKS, SlidingWindow

MOST_TENANTS = 10_000
MOST_EXAMPLES = 20
MINUTES_KEPT = 1_440
SECONDS_KEPT = 7_200
CALL_FIELDS = (
    *("at_unix", "seconds", "path", "call_id", "task", "tenant"),
    *("attempt", "tokens", "status", "fault", "abandoned", "replayed"),
)
OTHER_TENANTS = "(others)"
NOTHING = Counts()


@dataclass(frozen=True)
class Caller:
    """Who calls. A call without Idempotency-Key has no `call_id`: it is counted, but not recognised again."""

    task: str
    tenant: str
    call_id: str | None

    @property
    def task_key(self) -> str:
        """Names the task among those of all tenants."""
        return f"{self.tenant}\n{self.task}"


@dataclass(frozen=True)
class Call:
    """One call on its way; `attempt` counts the task's calls before it."""

    caller: Caller
    attempt: int
    path: str
    arrived: float


@dataclass(frozen=True)
class End:
    """How a call ended. `status` is what the caller was told, 0 if nothing; `fault` is the fault's name."""

    status: int
    fault: str | None = None
    abandoned: bool = False
    replayed: bool = False


class Counted(NamedTuple):
    """The new counts of a call's task and of its call id; the latter are all 0 for a call without."""

    task: Counts
    call_id: Counts


@dataclass
class Totals:
    """Sums over all calls since the start or the last reset."""

    calls: int = 0
    answered: int = 0
    refused: int = 0
    admitted: int = 0
    paid: int = 0
    paid_tokens: int = 0
    replayed: int = 0
    abandoned: int = 0
    unkeyed: int = 0
    duplicates: int = 0
    paid_again: int = 0
    paid_again_tokens: int = 0
    most_calls_a_task: int = 0


class Series:
    """Calls, admitted, refused and tokens admitted, by spans of time, for the last `kept` spans with any call."""

    def __init__(self, span_seconds: int, kept: int, origin_unix: float) -> None:
        self._span = span_seconds
        self._origin = origin_unix
        self._rows: deque[list[int]] = deque(maxlen=kept)

    def add(self, now: float, calls: int = 0, admitted: int = 0, refused: int = 0, tokens: int = 0) -> None:
        """Count at `now`."""
        start = int((now + self._origin) // self._span) * self._span
        if not self._rows or self._rows[-1][0] != start:
            self._rows.append([start, 0, 0, 0, 0])
        row = self._rows[-1]
        row[1] += calls
        row[2] += admitted
        row[3] += refused
        row[4] += tokens

    def rows(self, since_unix: float = 0) -> list[dict[str, int]]:
        """The spans that begin at or after `since_unix`, oldest first."""
        names = ("at_unix", "calls", "admitted", "refused", "tokens")
        return [dict(zip(names, row, strict=True)) for row in self._rows if row[0] >= since_unix]


class Ring:
    """The last `kept` rows, each with a number of its own that never comes again."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._rows: list[tuple[object, ...]] = []
        self.next = 0

    def add(self, row: tuple[object, ...]) -> None:
        """Put in a row; the oldest goes if the ring is full."""
        if len(self._rows) < self._kept:
            self._rows.append(row)
        else:
            self._rows[self.next % self._kept] = row
        self.next += 1

    def page(self, offset: int, limit: int) -> list[tuple[int, tuple[object, ...]]]:
        """Up to `limit` rows with their numbers, from number `offset` on; those already gone are left out."""
        start = max(offset, self.next - len(self._rows))
        return [(number, self._rows[number % self._kept]) for number in range(start, min(start + limit, self.next))]


class Witness:
    """Counts every call; `origin_unix` is what added to `now` gives Unix time."""

    def __init__(self, remember: int, calls_kept: int, origin_unix: float) -> None:
        self.totals = Totals()
        self.failed: dict[str, int] = {}
        self.tenants: dict[str, Counts] = {}
        self._call_ids = Counters(remember)
        self._tasks = Counters(remember)
        self._calls = Ring(calls_kept)
        self.seconds = Series(1, SECONDS_KEPT, origin_unix)
        self.minutes = Series(60, MINUTES_KEPT, origin_unix)
        self.duplicate_examples: list[str] = []
        self._origin = origin_unix
        self._requests = SlidingWindow(MINUTE_TICKS)
        self._tokens = SlidingWindow(MINUTE_TICKS)
        self._most_requests = 0
        self._most_tokens = 0

    def arrived(self, caller: Caller, path: str, now: float) -> Call:
        """A call has come in and been understood."""
        self.totals.calls += 1
        if caller.call_id is None:
            self.totals.unkeyed += 1
        calls = self._count(caller, Counts(calls=1)).task.calls
        self.totals.most_calls_a_task = max(self.totals.most_calls_a_task, calls)
        self.seconds.add(now, calls=1)
        self.minutes.add(now, calls=1)
        return Call(caller, calls - 1, path, now)

    def admitted(self, tokens: int, now: float) -> None:
        """A call has passed the limits, which count its tokens from now on."""
        self.totals.admitted += 1
        self._most_requests = max(self._most_requests, self._requests.add(now, 1))
        self._most_tokens = max(self._most_tokens, self._tokens.add(now, tokens))
        self.seconds.add(now, admitted=1, tokens=tokens)
        self.minutes.add(now, admitted=1, tokens=tokens)

    def paid(self, call: Call, tokens: int) -> None:
        """The work is done and costs its tokens, whether or not the answer arrives."""
        self.totals.paid += 1
        self.totals.paid_tokens += tokens
        if self._count(call.caller, Counts(paid=1, tokens=tokens)).call_id.paid > 1:
            self.totals.paid_again += 1
            self.totals.paid_again_tokens += tokens

    def ended(self, call: Call, end: End, tokens: int, now: float) -> None:
        """The last word on a call: 200 counts as answered unless replayed, 429 as refused, a fault by its kind."""
        answered = end.status == 200 and not end.abandoned and not end.replayed
        refused = end.status == 429
        self.totals.answered += answered
        self.totals.refused += refused
        self.totals.replayed += end.replayed
        self.totals.abandoned += end.abandoned
        if end.fault is not None:
            self.failed[end.fault] = self.failed.get(end.fault, 0) + 1
        if answered and self._count(call.caller, Counts(answered=1)).call_id.answered == 2:
            self._notice_duplicate(call.caller)
        if refused:
            self._count(call.caller, Counts(refused=1))
            self.seconds.add(now, refused=1)
            self.minutes.add(now, refused=1)
        self._log(call, end, tokens, now)

    def report(self, now: float) -> dict[str, object]:
        """Everything but the single calls, as JSON."""
        return {
            **asdict(self.totals),
            "failed": dict(self.failed),
            "duplicate_examples": list(self.duplicate_examples),
            "call_ids": len(self._call_ids),
            "tasks": len(self._tasks),
            "forgotten": self._call_ids.forgotten,
            "window": {
                "seconds": 60,
                "most_requests": self._most_requests,
                "most_tokens": self._most_tokens,
                "requests_now": self._requests.total(now),
                "tokens_now": self._tokens.total(now),
            },
            "tenants": {name: counts._asdict() for name, counts in self.tenants.items()},
            "minutes": self.minutes.rows(),
        }

    def task(self, tenant: str, task: str) -> Counts:
        """The counts of a tenant's task."""
        return self._tasks.get(Caller(task, tenant, None).task_key)

    def page(self, offset: int, limit: int) -> dict[str, object]:
        """Single calls in the order in which they ended; `next` is the offset to go on with, `ended` their number."""
        rows = self._calls.page(offset, limit)
        calls = [{"number": number, **dict(zip(CALL_FIELDS, row, strict=True))} for number, row in rows]
        return {"calls": calls, "next": rows[-1][0] + 1 if rows else self._calls.next, "ended": self._calls.next}

    def _count(self, caller: Caller, more: Counts) -> Counted:
        tenant = caller.tenant
        if tenant not in self.tenants and len(self.tenants) >= MOST_TENANTS:
            tenant = OTHER_TENANTS
        self.tenants[tenant] = self.tenants.get(tenant, NOTHING).plus(more)
        task = self._tasks.add(caller.task_key, more)
        return Counted(task, NOTHING if caller.call_id is None else self._call_ids.add(caller.call_id, more))

    def _notice_duplicate(self, caller: Caller) -> None:
        self.totals.duplicates += 1
        if caller.call_id is not None and len(self.duplicate_examples) < MOST_EXAMPLES:
            self.duplicate_examples.append(caller.call_id)

    def _log(self, call: Call, end: End, tokens: int, now: float) -> None:
        caller = call.caller
        row = (
            *(round(call.arrived + self._origin, 6), round(now - call.arrived, 6), call.path),
            *(caller.call_id, caller.task, caller.tenant, call.attempt, tokens),
            *(end.status, end.fault, end.abandoned, end.replayed),
        )
        self._calls.add(row)
