"""Calls whose budget is used up: they wait apart, so that nobody waits behind them. Pure: `now` is an argument."""

import math
from collections.abc import Callable, Iterator
from itertools import islice

from callstream.agents.inference.admission.decide import Reason
from callstream.agents.inference.admission.fairness import Waiting
from callstream.streams.event import Json

LOOK_SECONDS = 0.5
"""How often their deadlines are looked at, and all groups asked."""
FEW = 2

Accounts = tuple[str, ...]
"""The budgets that a call is paid from."""


def shown(waiting: Waiting, resets: float, waited: float) -> Json:
    """Why one of them waits, as of other calls that wait; `resets` is epoch seconds."""
    return {
        "reason": str(Reason.BUDGET),
        "resets": resets,
        "lane": waiting.lane,
        "tokens": waiting.tokens,
        "calls_before": 0,
        "tokens_before": 0,
        "waited_seconds": waited,
        "estimate_seconds": None,
        "estimate_within_seconds": None,
    }


class Stopped:
    """Those of one gate, by the budgets that they wait for, each in the order in which they came."""

    def __init__(self) -> None:
        self._groups: dict[Accounts, dict[str, Waiting]] = {}
        self._places: dict[str, Accounts] = {}
        self._looked = self._asked = -math.inf

    def __len__(self) -> int:
        """How many there are."""
        return len(self._places)

    def __iter__(self) -> Iterator[tuple[Accounts, Waiting]]:
        """Each with what it waits for."""
        return ((accounts, one) for accounts, group in self._groups.items() for one in group.values())

    def put(self, accounts: Accounts, waiting: Waiting) -> None:
        """Let a call wait for its budgets."""
        self._groups.setdefault(accounts, {})[waiting.id] = waiting
        self._places[waiting.id] = accounts

    def discard(self, place: str) -> None:
        """A call waits no more, if it did."""
        accounts = self._places.pop(place, None)
        if accounts is not None:
            group = self._groups[accounts]
            del group[place]
            if not group:
                del self._groups[accounts]

    def ready(self, may_go: Callable[[Waiting], bool], now: float) -> list[Waiting]:
        """Take out the groups whose first call may go: the others follow it, or are put back.

        A few groups are asked each time, in turns, and all of them every so often: there may be many.
        """
        every = now - self._asked >= LOOK_SECONDS
        asked = list(self._groups) if every else list(islice(self._groups, FEW))
        self._asked = now if every else self._asked
        found: list[Waiting] = []
        for accounts in asked:
            group = self._groups.pop(accounts)
            self._groups[accounts] = group
            if may_go(next(iter(group.values()))):
                found += group.values()
        return self._taken(found)

    def all(self) -> list[Waiting]:
        """Take out every call."""
        return self._taken([one for _, one in self])

    def late(self, now: float) -> list[Waiting]:
        """Take out those whose deadline has passed; looks at them every so often."""
        if now - self._looked < LOOK_SECONDS:
            return []
        self._looked = now
        return self._taken([one for _, one in self if one.deadline is not None and one.deadline <= now])

    def _taken(self, found: list[Waiting]) -> list[Waiting]:
        for one in found:
            self.discard(one.id)
        return found
