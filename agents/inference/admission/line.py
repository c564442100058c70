"""Calls of one pool that may have the same endpoints: they wait in one line, and nobody else behind them. Pure."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from callstream.agents.inference.admission.allowance import Amount
from callstream.agents.inference.admission.decide import Endpoint, Wait
from callstream.agents.inference.admission.fairness import FairQueue, Waiting
from callstream.agents.inference.choice import Choice

OUT_SECONDS = 120.0
"""An endpoint whose limits have no room for so long is out: a day's limit is used up, not a minute's."""

Picks: TypeAlias = tuple[frozenset[str], bool]
"""Chosen endpoints, and whether no other will do."""
NO_PICKS: Picks = (frozenset(), False)


def picks_of(choice: Choice | None) -> Picks:
    """Which line a call stands in. Weights leave every endpoint open, so they need none."""
    return NO_PICKS if choice is None or not choice.endpoints else (choice.endpoints, choice.only)


def open_to(
    choice: Choice | None, endpoints: Sequence[Endpoint], amount: Amount, tried: Collection[str], now: float
) -> Sequence[Endpoint]:
    """Which of a pool's endpoints a call may have now; none where those that it has to have are not there.

    Those that were chosen, as long as one of them is not out; else all, unless no other will do. Out is what has failed
    the call, what is closed or broken, what takes no call of that size, and what has used up its limits for long.
    """
    if choice is None:
        return endpoints
    if choice.weights:
        weights = dict(choice.weights)
        return [replace(one, weight=weights.get(one.name, one.weight)) for one in endpoints]
    chosen = [one for one in endpoints if one.name in choice.endpoints]
    if choice.only or not choice.endpoints:
        return chosen if choice.only else endpoints
    return [one for one in chosen if one.name not in tried and not _is_out(one, amount, now)] or endpoints


def _is_out(one: Endpoint, amount: Amount, now: float) -> bool:
    if one.context_tokens is not None and amount.total > one.context_tokens:
        return True
    away = one.opens is not None and one.unit is not None and one.opens > now + OUT_SECONDS
    return away or any(until is not None and until > now for until in (one.breaker_opens, one.closed_until))


@dataclass(eq=False, slots=True)
class Line:
    """One line: what its next call waits for, and what that was `before` the latest look."""

    picks: Picks
    queue: FairQueue
    blocked: Wait | None = None
    blocked_head: Waiting | None = None
    before: Wait | None = None

    def look(self) -> None:
        """What its next call waits for is asked anew."""
        self.before, self.blocked = self.blocked, None

    def is_news(self, head: Waiting, wait: Wait) -> bool:
        """Whether its next call did not wait for that at the look before."""
        return self.before is None or self.blocked_head is not head or self.before.reason != wait.reason

    def is_behind(self, deadline: float | None, now: float) -> bool:
        """Whether a call that came now waits behind another one that cannot go yet: nothing is new for that one."""
        blocked = self.blocked
        return (
            blocked is not None
            and (blocked.until is None or now < blocked.until)
            and (deadline is None or now < deadline)
            and self.queue.peek() is self.blocked_head
        )

    @property
    def opens(self) -> float | None:
        """Until when its next call is known to wait."""
        return None if self.blocked is None else self.blocked.until


class Lines:
    """The lines of one gate, in the order of their turns. That of calls without chosen endpoints is always there."""

    def __init__(self, queue: Callable[[], FairQueue]) -> None:
        self._new_queue = queue
        self._lines = {NO_PICKS: Line(NO_PICKS, queue())}

    def __iter__(self) -> Iterator[Line]:
        return iter(self._lines.values())

    def of(self, picks: Picks) -> Line:
        """The line of calls with these picks, made where there is none."""
        line = self._lines.get(picks)
        if line is None:
            line = self._lines[picks] = Line(picks, self._new_queue())
        return line

    def put_last(self, line: Line) -> None:
        """It has had its turn."""
        self._lines[line.picks] = self._lines.pop(line.picks)

    def drop_empty(self) -> None:
        """Forget those in which nobody waits."""
        for line in list(self):
            if line.picks != NO_PICKS and not len(line.queue):
                del self._lines[line.picks]

    @property
    def blocked(self) -> Wait | None:
        """What is waited for: by calls without chosen endpoints, or else by those of another line."""
        first = sorted(self, key=lambda line: line.picks != NO_PICKS)
        return next((line.blocked for line in first if line.blocked is not None), None)

    @property
    def opens(self) -> float | None:
        """Until when a line is known to wait, the soonest of all."""
        return min((line.opens for line in self if line.opens is not None), default=None)

    def groups(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Calls that wait and their tokens, by lane and tenant."""
        found: dict[tuple[str, str], tuple[int, int]] = {}
        for line in self:
            for group, (calls, tokens) in line.queue.waiting().items():
                before = found.get(group, (0, 0))
                found[group] = (before[0] + calls, before[1] + tokens)
        return found
