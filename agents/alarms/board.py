"""Every incident that the topic of alarms tells of, as far as it is kept: what each gateway knows, without asking."""

import logging
from collections import Counter, OrderedDict
from collections.abc import Sequence

from callstream.agents.alarms.incident import Incident, read_incident
from callstream.agents.alarms.options import Rule
from callstream.streams.event import Json
from callstream.streams.wire import BadEvent

log = logging.getLogger("callstream.alarms")

MOST_KEPT = 10_000
MOST_RECENT = 100


class Board:
    """The latest incident of each rule and subject, `most` at most, and those that ended lately. `ready` once all that
    the topic holds has been heard.
    """

    def __init__(self, rules: Sequence[Rule] = (), most: int = MOST_KEPT) -> None:
        self.rules = tuple(rules)
        self._most = most
        self._latest: OrderedDict[tuple[str, str], Incident] = OrderedDict()
        self._ended: OrderedDict[str, Incident] = OrderedDict()
        self.ready = False

    def caught_up(self) -> None:
        """All that was there has been told."""
        self.ready = True

    def hear(self, key: str, value: bytes | None) -> None:
        """An incident as it is now. What was heard before changes nothing."""
        try:
            incident = read_incident(value)
        except BadEvent as error:
            log.warning("an alarm that nobody can read is left out: %s: %s", key[:200], error)
            return
        if not incident.follows(self._latest.get(incident.place)):
            return
        self._latest[incident.place] = incident
        self._latest.move_to_end(incident.place)
        if len(self._latest) > self._most:
            self._latest.popitem(last=False)
        if not incident.is_open:
            self._ended[incident.id] = incident
            if len(self._ended) > MOST_RECENT:
                self._ended.popitem(last=False)

    def open(self) -> list[Incident]:
        """Those that go on, the latest first."""
        return sorted((one for one in self._latest.values() if one.is_open), key=lambda one: -one.rang)

    def recent(self) -> list[Incident]:
        """Those that ended lately, the latest first."""
        return sorted(self._ended.values(), key=lambda one: -one.time)

    def counts(self) -> Counter[tuple[str, str]]:
        """How many are open, by rule and kind; those of the rules in force also where none is."""
        found: Counter[tuple[str, str]] = Counter({(rule.name, str(rule.kind)): 0 for rule in self.rules})
        found.update((one.rule, str(one.kind)) for one in self.open())
        return found

    def told(self) -> Json:
        """As a gateway tells of it."""
        rules = [rule.model_dump(mode="json", exclude_none=True) for rule in self.rules]
        return {
            "open": [one.told() for one in self.open()],
            "recent": [one.told() for one in self.recent()],
            "rules": rules,
        }
