"""What records and reports say that alarms go by. Pure; what cannot be read says nothing.

A process tells of the attempts that its budgets refused on the topic `pools`, as a record of its own:

    {"refused": [{"budget": "retries", "service": "infer", "count": 3},
                 {"budget": "retries", "pool": "copywriter", "endpoint": "mini", "count": 1}]}

The budget is that of retries; how those of money are is in the reports.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from callstream.agents.alarms.judge import Level, Sighting
from callstream.agents.alarms.options import Kind
from callstream.agents.inference.admission.report import STANDINGS, budgets_in
from callstream.streams.chain import Chains, UnknownChain
from callstream.streams.errorclass import ErrorClass, class_of
from callstream.streams.event import Event, Json
from callstream.streams.lag import Lag
from callstream.streams.letters import is_unreadable
from callstream.streams.topics import INFER, group_of
from callstream.streams.wire import BadEvent, decode
from callstream.tables.letters import kind_of

Headers = Sequence[tuple[str, bytes | None]]
NO_CHAIN = "unknown"
"""Stands for chains and steps that are not this program's: names of others are anybody's, and without bound."""
UNREADABLE = "unreadable"
MOST_REFUSALS = 2_000
MOST_NAME = 100


def of_letter(value: bytes | None, headers: Headers, at: float, chains: Chains) -> list[Sighting]:
    """What a record of dead letters counts for: a letter, and a missed deadline if it is one.

    The same letter, sent again after a crash, has the same id. What was done in a sandbox does not count.
    """
    if is_unreadable(headers):
        origin = dict(headers).get("ce_id") or b""
        place = origin.decode("utf-8", "replace")[:400]
        service = place.partition("/")[0].partition(".")[2].partition(".")[0][:MOST_NAME]
        labels = {"service": service}
        return [Sighting(Kind.DEAD_LETTERS, f"{UNREADABLE}/{service}", f"{UNREADABLE}|{place}", at, labels)]
    bare = value == b""
    try:
        # Of a body that is a claim check, the step that failed is known all the same.
        event = decode(_BARE if bare else value, headers)
    except BadEvent:
        return []
    if event.sandbox:
        return []
    failure, trail = event.body.failure, event.body.trail
    chain, step, service = _step_of(event, chains)
    if not bare:
        step = failure.step if failure is not None and failure.step and chain != NO_CHAIN else step
        service = trail[-1].service if trail else service
    kind = failure.kind if failure is not None else ""
    name = f"{event.id}|{'' if bare else kind_of(event)}|{kind}"
    labels = {"chain": chain, "step": step, "service": service, "tenant": event.tenant}
    found = [Sighting(Kind.DEAD_LETTERS, f"{chain}/{step}", name, at, labels)]
    if kind and class_of(kind) is ErrorClass.DEADLINE:
        found.append(Sighting(Kind.LATE, f"{chain}/{step}", f"{name}|late", at, labels))
    return found


def of_refusals(told: Any, place: str, at: float) -> list[Sighting]:
    """What a record of refusals at a place (topic, partition, offset) counts for; nothing if it is no such record."""
    refused = told.get("refused") if isinstance(told, dict) else None
    if not isinstance(refused, list):
        return []
    found = []
    for number, one in enumerate(refused[:MOST_REFUSALS]):
        if not isinstance(one, dict) or not isinstance(count := one.get("count"), int) or not 0 < count < 10**9:
            continue
        names = [one[name][:MOST_NAME] for name in ("budget", "service", "pool", "endpoint") if _is_name(one.get(name))]
        labels = {name: one[name] for name in ("service", "pool") if _is_name(one.get(name))}
        found.append(Sighting(Kind.BUDGET, "/".join(names), f"{place}/{number}", at, labels, count))
    return found


def breakers(reports: Mapping[str, Json]) -> list[Level]:
    """For each endpoint that a replica tells of, how many of them have its breaker open, or half open."""
    found: dict[tuple[str, str], int] = {}
    for pool in _pools(reports):
        for endpoint in _objects(pool.get("endpoints")):
            place = str(pool.get("pool")), str(endpoint.get("endpoint"))
            found[place] = found.get(place, 0) + (endpoint.get("breaker") != "closed")
    return [Level(f"{pool}/{endpoint}", count, {"pool": pool}) for (pool, endpoint), count in found.items()]


def budgets(reports: Mapping[str, Json]) -> list[Level]:
    """For each budget of money, how far it has come: 1 it warns, 2 it slows down, 3 it is used up."""
    found: list[Level] = []
    for one in budgets_in(reports):
        kind, _, name = one["budget"].partition(" ")
        found.append(Level(f"{kind}-{name}/{one['period']}", STANDINGS.index(one["state"]), {kind: name}))
    return found


def waiting(rows: Iterable[Lag], reports: Mapping[str, Json]) -> list[Level]:
    """For each service, the events that it has not committed, and of infer those that it has put aside."""
    prefix = group_of("")
    found: dict[str, int] = {}
    for row in rows:
        service = row.group.removeprefix(prefix)
        found[service] = found.get(service, 0) + row.lag
    aside = sum(_count(one.get("events")) for pool in _pools(reports) for one in _objects(pool.get("aside")))
    if INFER in found or aside:
        found[INFER] = found.get(INFER, 0) + aside
    return [Level(service, count, {"service": service}) for service, count in found.items()]


def _step_of(event: Event, chains: Chains) -> tuple[str, str, str]:
    """Chain, step and service of an event, as its number has them."""
    try:
        chain = chains.current(event.chain)
    except UnknownChain:
        return NO_CHAIN, NO_CHAIN, ""
    with suppress(UnknownChain):
        chain = chains.get(event.chain, event.version)
    step = chain.step(event.sequence)
    if step is None:
        return event.chain, "intake" if event.sequence == 0 else "end", ""
    return event.chain, step.name, step.service


def _pools(reports: Mapping[str, Json]) -> Iterable[Json]:
    return (pool for report in reports.values() for pool in _objects(report["pools"]))


def _objects(value: Any) -> Iterable[Json]:
    """The JSON objects in a list; none in what is no list."""
    return (one for one in value if isinstance(one, dict)) if isinstance(value, list) else ()


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != ""


_BARE = b'{"submission": {"chain": "unknown", "input": {}}, "digest": "%s"}' % (b"0" * 64)
