"""Alarms joined to the services of a process: the gateway's board, who judges, and who tells others."""

from collections.abc import Callable, Sequence
from functools import partial

from prometheus_client import REGISTRY

from callstream.agents.alarms.board import Board
from callstream.agents.alarms.collector import AlarmCollector
from callstream.agents.alarms.leader import Leader
from callstream.agents.alarms.options import Rule
from callstream.agents.alarms.webhooks import AlarmWebhooks
from callstream.agents.notification import Notifier
from callstream.settings import Settings
from callstream.streams import topics
from callstream.streams.broadcast import hear_all, hear_since
from callstream.streams.chain import Chains
from callstream.streams.engine import ServiceApp
from callstream.streams.foreseen import Foreseen
from callstream.streams.lag import look
from callstream.streams.topics import topic_of
from callstream.tables.rows import Rows

NOTIFY = "notify"
"""Where the callback of a task fails, as its dead letter has it."""


class BadAlarmRule(Foreseen, ValueError):
    """A rule names what is not there; the message says which rule, and what there is."""


def check_rules(rules: Sequence[Rule], chains: Chains, services: Sequence[str]) -> None:
    """Compare the names in rules with what there is. Raises BadAlarmRule."""
    for rule in rules:
        steps = {step.name for chain in chains if rule.chain in (None, chain.name) for step in chain.steps}
        names: dict[str, Sequence[str]] = {
            "chain": sorted({chain.name for chain in chains}),
            "step": sorted(steps | {topics.INTAKE, NOTIFY}),
            "service": services,
        }
        for name, given in rule.filters.items():
            if name in names and given not in names[name]:
                of = f" of chain {rule.chain}" if name == "step" and rule.chain is not None else ""
                known = ", ".join(names[name])
                raise BadAlarmRule(f"alarms.rules: {rule.name!r} names {name} {given!r}; there are{of}: {known}")


class Alarms:
    """What of alarms is joined to the services of one process. `clock` gives epoch seconds."""

    def __init__(self, settings: Settings, chains: Chains, bootstrap: str, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._chains = chains
        self._bootstrap = bootstrap
        self._clock = clock

    def judge(self, app: ServiceApp, rows: Rows) -> Board:
        """Have a gateway know every alarm, and judge whenever it owns partition 0 of `rows`. Gives its board."""
        options = self._settings.alarms
        board = Board(options.in_force)
        REGISTRY.register(AlarmCollector(board))
        told = board.hear, board.caught_up
        app.background.append(partial(hear_all, self._bootstrap, topic_of(topics.ALARMS), app.partitions, *told))
        leader = Leader(options, self._chains, rows, self._clock)
        hear = partial(hear_since, self._bootstrap, app.partitions)
        app.background.append(partial(leader.run, hear, app.produce, partial(look, self._bootstrap)))
        return board

    def webhooks(self, notifier: Notifier) -> AlarmWebhooks:
        """Who tells others of alarms, over the notifier's connections."""
        settings = self._settings
        return AlarmWebhooks(settings.alarms.webhooks, settings.notify, notifier.sender, REGISTRY, self._clock)
