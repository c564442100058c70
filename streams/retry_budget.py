"""Retries are a share of calls, so that an outage is not met by a multiple of its load. Pure: `now` is an argument.

With three attempts a call, what is down gets three times the load, and with a second layer of three nine times. A
budget lets so many retries through as are a share of the calls of the latest seconds, and a few more, so that who
calls rarely may retry too. The defaults are those of Finagle's `RetryBudget` (20 % of requests and 10 a second,
credits expire after 10 s: finagle.github.io/blog/2016/02/08/retry-budgets); Envoy's `retry_budget` has 20 % and at
least 3 under way (envoyproxy.io, config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget).

Unlike theirs, a retry that succeeds gives back what it took. Here what cannot be retried waits instead of failing, and
once the outage is over what waits must not trickle: each success lets the next one go, and the share of new calls lets
it grow.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field

SLICES = 10
"""Of a window: what is counted expires up to a tenth of it late."""
MOST_BUDGETS = 1_000


class BudgetOptions(BaseModel):
    """How many of all calls may be retries."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    share: float = Field(default=0.2, ge=0, le=10, description="Retries for each call of the window; 0.2: one in five.")
    a_second: float = Field(
        default=10.0, ge=0, le=10_000, description="Retries beside that, each second on average, however few calls."
    )
    window_seconds: float = Field(default=10.0, ge=1, le=600, description="How long a call counts.")


@dataclass(slots=True)
class _Slice:
    number: int
    calls: int = 0
    retries: int = 0


@dataclass(slots=True, eq=False)
class Budget:
    """What may be retried at one place. Moments are seconds of a clock; one that goes back begins a new window.

    >>> budget = Budget(BudgetOptions(share=0.2, a_second=0.1))
    >>> for _ in range(10):
    ...     budget.call(now=5.0)
    >>> [budget.take(now=5.0) for _ in range(4)], budget.take(now=30.0)
    ([True, True, True, False], True)
    """

    options: BudgetOptions
    _slices: deque[_Slice] = field(default_factory=deque)

    def call(self, now: float) -> None:
        """Count a call that is no retry."""
        self._latest(now).calls += 1

    def left(self, now: float) -> float:
        """How many retries may be made now; below 1: none."""
        self._latest(now)
        calls, retries = sum(one.calls for one in self._slices), sum(one.retries for one in self._slices)
        return self.options.share * calls + self.options.a_second * self.options.window_seconds - retries

    def take(self, now: float) -> bool:
        """Take one retry, if there is one."""
        if self.left(now) < 1:
            return False
        self._latest(now).retries += 1
        return True

    def give_back(self, now: float) -> None:
        """A retry has succeeded."""
        self._latest(now).retries -= 1

    def _latest(self, now: float) -> _Slice:
        number = int(now / self.options.window_seconds * SLICES)
        slices = self._slices
        if slices and slices[-1].number > number:
            slices.clear()
        while slices and slices[0].number < number - SLICES:
            slices.popleft()
        if not slices or slices[-1].number != number:
            slices.append(_Slice(number))
        return slices[-1]


class Budgets:
    """A budget for each name. Of more than `MOST_BUDGETS` names those are forgotten that were asked for least lately.

    `options` is asked when a budget is made.
    """

    def __init__(self, options: Callable[[], BudgetOptions]) -> None:
        self._options = options
        self._budgets: OrderedDict[str, Budget] = OrderedDict()

    def __getitem__(self, name: str) -> Budget:
        """The budget of that name, a new one if there is none or the options have changed."""
        options, budget = self._options(), self._budgets.get(name)
        if budget is None or budget.options != options:
            budget = self._budgets[name] = Budget(options)
            while len(self._budgets) > MOST_BUDGETS:
                self._budgets.popitem(last=False)
        self._budgets.move_to_end(name)
        return budget

    def __len__(self) -> int:
        """How many there are."""
        return len(self._budgets)
