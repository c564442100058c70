"""From what is seen to incidents: the pure core of alarms.

`due` says what is to be told now; what was told, and is on the log, is given to `heard`, and is only then so. Whoever
judges next starts from the same log, so that nothing is told anew: an incident that is open there is open here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from callstream.agents.alarms.incident import MOST_SUBJECT, OVER, Incident
from callstream.agents.alarms.options import COUNTED, Kind, Rule
from callstream.agents.alarms.windows import Known, Windows
from callstream.streams.event import MAX_LINE

Place = tuple[str, str]
"""Rule and subject."""

KNOWN_SECONDS = 3_600.0
"""As long as the longest window: so long what comes again is known."""

_SAYS = {
    Kind.DEAD_LETTERS: "dead letters a minute",
    Kind.LATE: "missed deadlines a minute",
    Kind.LAG: "events wait",
    Kind.BREAKER: "replicas have its breaker open",
    Kind.SPENDING: "is how far the budget has come (1 warns, 2 slows down, 3 stops)",
    Kind.BUDGET: "retries a minute refused",
}


@dataclass(frozen=True, slots=True)
class Sighting:
    """Something that is counted: of whom, when (epoch seconds), how often. `id` tells it from others, `labels` are
    what filters go by.
    """

    kind: Kind
    subject: str
    id: str
    at: float
    labels: Mapping[str, str] = field(default_factory=dict)
    count: int = 1


@dataclass(frozen=True, slots=True)
class Level:
    """Something that is measured, as it is now."""

    subject: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


Levels = Mapping[Kind, Sequence[Level]]
"""What was measured, by kind; a kind that is not there is not known now."""


class Judge:
    """Judges by these rules. `began` is since when (epoch seconds) what is not read back was heard: refusals.

    Of no rule and subject is more than one incident open, nor of all more than `most_open`; `kept_out` counts those
    that did not begin for that.
    """

    def __init__(self, rules: Sequence[Rule], most_open: int, began: float) -> None:
        self._rules = {rule.name: rule for rule in rules}
        self._most_open = most_open
        self._began = began
        self._windows = {rule.name: Windows(rule.window_seconds) for rule in rules if rule.kind in COUNTED}
        self._known = Known(KNOWN_SECONDS)
        self._latest: dict[Place, Incident] = {}
        self._over_since: dict[Place, float] = {}
        self._under_since: dict[Place, float] = {}
        self.kept_out: set[Place] = set()

    @property
    def open(self) -> list[Incident]:
        """Incidents that are open."""
        return [incident for incident in self._latest.values() if incident.is_open]

    def heard(self, incident: Incident) -> None:
        """An incident as the log has it. What it has said before changes nothing."""
        if incident.follows(self._latest.get(incident.place)):
            self._latest[incident.place] = incident

    def saw(self, sighting: Sighting, now: float) -> None:
        """Count something, once for its id."""
        if not self._known.is_new(sighting.id, now):
            return
        for rule in self._rules.values():
            if rule.kind is sighting.kind and _fits(rule, sighting.labels):
                self._windows[rule.name].add(sighting.subject[:MOST_SUBJECT], sighting.at, sighting.count, now)

    def due(self, now: float, levels: Levels) -> list[Incident]:
        """What is to be told now: incidents that begin, and those that are over."""
        found = list(self._of_no_rule(now))
        room = self._most_open - len(self.open)
        kept_out: set[Place] = set()
        for rule in self._rules.values():
            values = self._values(rule, now, levels)
            if values is None:
                continue
            for place in sorted(self._places(rule, values)):
                told = self._judged(rule, place, values.get(place[1], 0.0), now)
                if told is None:
                    continue
                if told.is_open and room <= 0:
                    kept_out.add(place)
                    continue
                room -= told.is_open
                found.append(told)
        self.kept_out = kept_out
        return found

    def _judged(self, rule: Rule, place: Place, value: float, now: float) -> Incident | None:
        """What there is to tell of one rule and subject, which has that value."""
        latest = self._latest.get(place)
        is_over = value >= rule.threshold
        (self._under_since if is_over else self._over_since).pop(place, None)
        if latest is not None and latest.is_open:
            if is_over or not self._may_end(rule, now):
                self._under_since.pop(place, None)
                return None
            since = self._under_since.setdefault(place, now)
            return _ended(latest, value, since) if now - since >= rule.quiet_seconds else None
        self._under_since.pop(place, None)
        if not is_over:
            return None
        since = self._over_since.setdefault(place, now)
        if now - since < rule.for_seconds:
            return None
        message = f"{place[1]}: {value:,.6g} {_SAYS[rule.kind]}, {rule.threshold:,.6g} or more"
        return Incident(
            rule=rule.name,
            kind=rule.kind,
            subject=place[1],
            number=latest.number + 1 if latest is not None else 1,
            value=value,
            threshold=rule.threshold,
            started=since,
            rang=now,
            message=message[:MAX_LINE],
        )

    def _may_end(self, rule: Rule, now: float) -> bool:
        """Whether few are few: of what is not read back, not before a whole window was heard."""
        return rule.kind is not Kind.BUDGET or now - self._began >= rule.window_seconds

    def _values(self, rule: Rule, now: float, levels: Levels) -> dict[str, float] | None:
        if rule.kind in COUNTED:
            return self._windows[rule.name].a_minute(now)
        if rule.kind not in levels:
            return None
        return {level.subject[:MOST_SUBJECT]: level.value for level in levels[rule.kind] if _fits(rule, level.labels)}

    def _places(self, rule: Rule, values: Mapping[str, float]) -> set[Place]:
        """Of a rule: what has a value, and what is open or about to be."""
        kept = (*(one.place for one in self.open), *self._over_since, *self._under_since)
        return {(rule.name, subject) for subject in values} | {place for place in kept if place[0] == rule.name}

    def _of_no_rule(self, now: float) -> Iterator[Incident]:
        for incident in self.open:
            if incident.rule not in self._rules:
                yield _ended(incident, 0.0, now, "there is no such rule any more")


def _ended(incident: Incident, value: float, now: float, why: str = "") -> Incident:
    message = why or f"{incident.subject}: {value:,.6g} {_SAYS[incident.kind]}, less than {incident.threshold:,.6g}"
    ended = {"state": OVER, "value": value, "ended": max(now, incident.started), "message": message[:MAX_LINE]}
    return incident.model_copy(update=ended)


def _fits(rule: Rule, labels: Mapping[str, str]) -> bool:
    return all(labels.get(name) == value for name, value in rule.filters.items())
