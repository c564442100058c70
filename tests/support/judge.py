"""The judge of a run with faults: what must have come out follows from what the run itself put in. Pure.

It knows nothing of callstream's own counts. Its input is what was submitted and accepted, which disturbances were
made and how many model calls were under way at each, and what was found afterwards in the database, the status API,
the model server's books and on the log.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

MOST_NAMED = 5
ABRUPT = ("kill", "crash", "freeze", "full", "gone")
"""Kinds of disturbances at which a model call may be repeated: SIGKILL, a process that stood still, a worker whose disk
was full or whose folder was gone. An orderly restart excuses none."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the database about a task: which step wrote or is described by it, and when (epoch seconds)."""

    task: str
    step: str
    product: str = ""
    title: str = ""
    text: str = ""
    accepted: float = 0.0
    written: float = 0.0


@dataclass(frozen=True, slots=True)
class Order:
    """What the run submitted: the task's id, the product and title in its input; when it was accepted, if it was."""

    task: str
    product: str
    title: str
    accepted: float | None


@dataclass(frozen=True, slots=True)
class Disturbance:
    """One fault that the run made at `at` (epoch seconds), with the model calls that were under way then."""

    kind: str
    target: str
    at: float
    in_flight: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that the judge is told. `steps` are those that each task has to leave one row of the chain log for.

    `states` are what the status API says of each task; `paid_again` are calls that the model server was paid for more
    than once; `events` are the ids of the records on all topics, of which a repeat means that a step ran again.
    """

    orders: Sequence[Order]
    disturbances: Sequence[Disturbance]
    states: Mapping[str, str]
    catalogue: Sequence[Row]
    inference: Sequence[Row]
    chain: Sequence[Row]
    steps: Sequence[str]
    model_step: str
    calls: int
    paid_again: int
    events: Mapping[str, Sequence[str]]
    dead_letters: int
    lag: Mapping[str, int]
    ended_by_themselves: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The figures, and each thing that is not as it must be, in a sentence."""

    figures: Mapping[str, Any]
    faults: tuple[str, ...] = field(default=())

    def table(self) -> str:
        """The figures for people, one a line."""
        width = max(map(len, self.figures))
        return "\n".join(f"{name:<{width}}  {_shown(value)}" for name, value in self.figures.items())


def judge(evidence: Evidence) -> Verdict:
    """Compare what is there with what must be."""
    accepted = [order for order in evidence.orders if order.accepted is not None]
    kills = [one for one in evidence.disturbances if one.kind == "kill"]
    lost = _lost(accepted, evidence)
    duplicates = _duplicates(evidence)
    in_flight = sum(one.in_flight for one in evidence.disturbances if one.kind in ABRUPT)
    redelivered = sum(len(ids) - len(set(ids)) for ids in evidence.events.values())
    figures = {
        "tasks submitted": len(evidence.orders),
        "tasks accepted": len(accepted),
        "kills": len(kills),
        "orderly stops": sum(one.kind == "stop" for one in evidence.disturbances),
        "broker restarts": sum(one.target == "broker" for one in evidence.disturbances),
        "lost": len(lost),
        "duplicate rows": len(duplicates),
        "model calls": evidence.calls,
        "repeated calls": evidence.paid_again,
        "in flight at the kills": in_flight,
        "redelivered": redelivered,
        "recovery seconds": [recovery(one, accepted, evidence.catalogue) for one in evidence.disturbances],
        "ended by themselves": evidence.ended_by_themselves,
        "dead letters": evidence.dead_letters,
        "lag": sum(evidence.lag.values()),
        "disturbances": [asdict(one) for one in evidence.disturbances],
    }
    return Verdict(figures, tuple(_faults(figures, lost, duplicates, evidence)))


def recovery(disturbance: Disturbance, accepted: Iterable[Order], catalogue: Iterable[Row]) -> float:
    """Seconds from a disturbance to when everything accepted before it was written."""
    before = {order.task for order in accepted if order.accepted is not None and order.accepted <= disturbance.at}
    last = max((row.written for row in catalogue if row.task in before), default=disturbance.at)
    return round(max(0.0, last - disturbance.at), 1)


def _lost(accepted: Sequence[Order], evidence: Evidence) -> list[str]:
    """Accepted tasks that are not finished in the status API or not in the catalogue as they were handed in."""
    rows = {row.task: row for row in evidence.catalogue}
    lost = []
    for order in accepted:
        row, state = rows.get(order.task), evidence.states.get(order.task)
        if row is None:
            lost.append(f"{order.task} has no row in the catalogue (state {state})")
        elif (row.product, row.title) != (order.product, order.title) or not row.text:
            lost.append(f"{order.task} has a row of another product or without a text")
        elif state != "finished":
            lost.append(f"{order.task} is {state}")
    return lost


def _duplicates(evidence: Evidence) -> list[str]:
    """Rows beyond those that each accepted task has to leave, and rows of tasks that nobody handed in."""
    known = {order.task for order in evidence.orders}
    tables = {
        "catalogue": Counter((row.task, "") for row in evidence.catalogue),
        "inference_log": Counter((row.task, row.step) for row in evidence.inference),
        "chain_log": Counter((row.task, row.step) for row in evidence.chain),
    }
    found = []
    for table, counts in tables.items():
        for (task, step), count in counts.items():
            if count > 1:
                found.append(f"{table} has {count} rows of {task} {step}".rstrip())
            if task not in known:
                found.append(f"{table} has a row of {task}, which was never submitted")
    return found


def _missing(evidence: Evidence) -> list[str]:
    """Log rows that a task in the catalogue lacks."""
    steps = Counter((row.task, row.step) for row in evidence.chain)
    asked = {row.task for row in evidence.inference if row.step == evidence.model_step}
    found = []
    for task in {row.task for row in evidence.catalogue}:
        if absent := [step for step in evidence.steps if not steps[task, step]]:
            found.append(f"{task} lacks {', '.join(absent)} in chain_log")
        if task not in asked:
            found.append(f"{task} lacks its model call in inference_log")
    return sorted(found)


def _faults(figures: Mapping[str, Any], lost: list[str], duplicates: list[str], evidence: Evidence) -> Iterable[str]:
    if not figures["tasks accepted"] or len(lost) == figures["tasks accepted"]:
        yield "nothing succeeded, so nothing is proved"
    if not any(one.kind in (*ABRUPT, "stop") and one.kind != "crash" for one in evidence.disturbances):
        yield "nothing was killed, so nothing is proved"
    if refused := [order.task for order in evidence.orders if order.accepted is None]:
        yield f"{len(refused)} tasks were never accepted: {_some(refused)}"
    if lost:
        yield f"{len(lost)} lost: {_some(lost)}"
    if duplicates:
        yield f"{len(duplicates)} duplicates: {_some(duplicates)}"
    if missing := _missing(evidence):
        yield f"{len(missing)} gaps in the logs: {_some(missing)}"
    if evidence.calls < len({row.task for row in evidence.catalogue}):
        yield f"{evidence.calls} model calls are too few for the rows that are there"
    if evidence.paid_again > figures["in flight at the kills"]:
        yield f"{evidence.paid_again} calls repeated, {figures['in flight at the kills']} were in flight at the kills"
    if evidence.dead_letters:
        yield f"{evidence.dead_letters} dead letters"
    if behind := {group: count for group, count in evidence.lag.items() if count}:
        yield f"lag is left: {behind}"


def _some(sentences: Sequence[str]) -> str:
    rest = len(sentences) - MOST_NAMED
    return "; ".join(sentences[:MOST_NAMED]) + (f"; and {rest} more" if rest > 0 else "")


def _shown(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return ", ".join(f"{one['kind']} {one['target']} ({one['in_flight']} in flight)" for one in value)
    return ", ".join(map(str, value)) if isinstance(value, list) else f"{value:,}"
