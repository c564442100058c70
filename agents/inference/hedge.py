"""A second request where the first takes longer than nearly all of its pool do: the first answer counts.

Two layers that share what is known. `race` stands where a whole call is seen, its retries and the way through
admission: the second request waits at the gate as any other, and limits hold for it. `observe` stands where a request
is sent: from there its time counts, not from when it began to wait. What loses is cancelled; its usage is unknown, so
its reservation stays spent, and it counts among the calls that were paid.
"""

import asyncio
import logging
import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace

from prometheus_client import CollectorRegistry, Counter

from callstream.agents.inference.call import Call, CallFailed, Model, Reply, Waits
from callstream.agents.inference.failures import Kind
from callstream.agents.inference.options import PoolOptions

HEDGES = "callstream_model_hedges"
LEAST_CALLS = 20
"""Of fewer calls nobody can say what takes long."""
MOST_CALLS = 256
MOST_SAVED = 10
"""As many second requests may come in a row after a time in which none was needed."""

STARTED, WON, LOST = "started", "won", "lost"

log = logging.getLogger(__name__)


class RecentSeconds:
    """How long the latest `MOST_CALLS` requests took. Pure.

    >>> recent = RecentSeconds()
    >>> for seconds in range(100):
    ...     recent.add(seconds)
    >>> recent.quantile(0.95)
    94
    """

    def __init__(self) -> None:
        self._latest = deque[float]()
        self._sorted: list[float] = []

    def add(self, seconds: float) -> None:
        """One more."""
        if len(self._latest) == MOST_CALLS:
            del self._sorted[bisect_left(self._sorted, self._latest.popleft())]
        self._latest.append(seconds)
        insort(self._sorted, seconds)

    def quantile(self, share: float) -> float | None:
        """What that share of them took at most; None while there are less than `LEAST_CALLS`."""
        known = len(self._sorted)
        return None if known < LEAST_CALLS else self._sorted[max(0, math.ceil(share * known) - 1)]


class Budget:
    """How many second requests may be sent: a share of all requests, of which little is saved up. Pure."""

    def __init__(self) -> None:
        self._saved = 0.0

    def earn(self, share: float) -> None:
        """A request was sent."""
        self._saved = min(float(MOST_SAVED), self._saved + share)

    def spend(self) -> bool:
        """Take one, if there is one."""
        # Many small shares do not add up to 1 exactly.
        if self._saved < 1 - 1e-9:
            return False
        self._saved -= 1
        return True

    def refund(self) -> None:
        """One that was taken was not sent."""
        self._saved = min(float(MOST_SAVED), self._saved + 1)


@dataclass(eq=False, slots=True)
class _Pool:
    quantile: float
    share: float
    recent: RecentSeconds = field(default_factory=RecentSeconds)
    budget: Budget = field(default_factory=Budget)


@dataclass(eq=False, slots=True)
class _Try:
    """One of the two ways of a call through the layers. `overdue` is done once it takes long; the second has none."""

    pool: _Pool
    overdue: asyncio.Future[None] | None = None
    was_sent: bool = False
    requests: int = 0
    endpoint: str = ""

    def failed(self) -> None:
        """Its request was sent and not answered: the second is one request, and ends with it."""
        if self.overdue is None and (task := asyncio.current_task()) is not None:
            # Once it has come up to the layer that would try it again.
            asyncio.get_running_loop().call_soon(task.cancel)


_current: ContextVar[_Try | None] = ContextVar("try", default=None)
"""All layers between the two run in the try's own task."""


class Hedges:
    """The two layers, `race` and `observe`, and what is known of each pool. `clock` is monotonic, in seconds.

    `pools` may change at any time. One instance for each registry.
    """

    def __init__(
        self, pools: Mapping[str, PoolOptions], registry: CollectorRegistry, clock: Callable[[], float]
    ) -> None:
        self._options = pools
        self._clock = clock
        self._pools: dict[str, _Pool] = {}
        self._counter = Counter(
            HEDGES, "Second requests for calls that took long.", ("pool", "outcome"), registry=registry
        )

    def race(self, inner: Model) -> Model:
        """Ask twice where it takes long, in pools whose settings say so."""

        async def raced(call: Call) -> Reply:
            pool = self._pool(call.pool)
            return await (inner(call) if pool is None else self._race(inner, call, pool))

        return raced

    def observe(self, inner: Model) -> Model:
        """Measure a request from when it is sent, and tell its `race` when it takes long."""

        async def observed(call: Call) -> Reply:
            mine = _current.get()
            return await (inner(call) if mine is None else self._observe(inner, call, mine))

        return observed

    def _pool(self, name: str) -> _Pool | None:
        """What is known of a pool; None if its settings ask for nothing."""
        options = self._options.get(name)
        if options is None or options.hedge_after_quantile is None:
            return None
        pool = self._pools.get(name)
        if pool is None:
            self._pools = {name: known for name, known in self._pools.items() if name in self._options}
            pool = self._pools[name] = _Pool(0.0, 0.0)
        pool.quantile, pool.share = options.hedge_after_quantile, options.most_hedged
        return pool

    async def _race(self, inner: Model, call: Call, pool: _Pool) -> Reply:
        overdue: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        first, second = _Try(pool, overdue), _Try(pool)
        tasks = [asyncio.create_task(_run(inner, call, first))]
        winner = None
        try:
            await asyncio.wait((tasks[0], overdue), return_when=asyncio.FIRST_COMPLETED)
            if tasks[0].done() or not pool.budget.spend():
                return await tasks[0]
            again = replace(call, tried=call.tried | {first.endpoint}, second=True, waits=Waits())
            tasks.append(asyncio.create_task(_run(inner, again, second)))
            winner = await _first_answer(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if len(tasks) == 2:
                self._settle(call.pool, second, winner is tasks[1])
            if winner is not None:
                call.bill.lose(second=winner is not tasks[1])
        loser = first if winner is tasks[1] else second
        return _noted(winner.result(), loser.requests, winner is tasks[1])

    def _settle(self, name: str, second: _Try, won: bool) -> None:
        if second.was_sent:
            self._counter.labels(name, WON if won else LOST).inc()
        else:
            second.pool.budget.refund()

    async def _observe(self, inner: Model, call: Call, mine: _Try) -> Reply:
        pool, began = mine.pool, self._clock()
        timer = _when_overdue(mine) if mine.overdue is not None else None
        if mine.overdue is None and not mine.was_sent:
            self._counter.labels(call.pool, STARTED).inc()
        mine.was_sent, mine.endpoint = True, call.endpoint or ""
        turned_away = answered = False
        try:
            reply = await inner(call)
            answered = True
            pool.recent.add(self._clock() - began)
            return reply
        except CallFailed as failure:
            turned_away = failure.kind == Kind.OVERLOADED
            raise
        except asyncio.CancelledError:
            if mine.overdue is not None and mine.overdue.done():
                # It took so long at least. Without such calls long ones would seem rarer than they are.
                pool.recent.add(self._clock() - began)
            raise
        finally:
            if timer is not None:
                timer.cancel()
            if not turned_away and (call.permit is None or call.permit.sent):
                mine.requests += 1
                if not answered:
                    mine.failed()


def _when_overdue(mine: _Try) -> asyncio.TimerHandle | None:
    """Tell the try when its request takes longer than most; None while nobody can say how long that is."""
    mine.pool.budget.earn(mine.pool.share)
    seconds = mine.pool.recent.quantile(mine.pool.quantile)
    return None if seconds is None else asyncio.get_running_loop().call_later(seconds, _overdue, mine)


def _overdue(mine: _Try) -> None:
    if mine.overdue is not None and not mine.overdue.done():
        mine.overdue.set_result(None)


async def _run(inner: Model, call: Call, mine: _Try) -> Reply:
    _current.set(mine)
    return await inner(call)


async def _first_answer(first: "asyncio.Task[Reply]", second: "asyncio.Task[Reply]") -> "asyncio.Task[Reply]":
    """The one that answered first; `first` where neither does, and where it failed for good.

    The second only ever helps: whatever happens to it, the first is what the call would have been without it.
    """
    await asyncio.wait((first, second), return_when=asyncio.FIRST_COMPLETED)
    if first.done() and not _may_be_mended(first):
        return first
    if not first.done() and not _is_answered(second):
        if not second.cancelled() and not isinstance(error := second.exception(), CallFailed):
            log.warning("the second request of a call ended with %s", type(error).__name__)
        await asyncio.wait((first,))
        return first
    await asyncio.wait((second,))
    return second if _is_answered(second) else first


def _may_be_mended(task: "asyncio.Task[Reply]") -> bool:
    error = None if task.cancelled() else task.exception()
    return isinstance(error, CallFailed) and error.retryable


def _is_answered(task: "asyncio.Task[Reply]") -> bool:
    return not task.cancelled() and task.exception() is None


def _noted(reply: Reply, others: int, second_won: bool) -> Reply:
    """The reply with the requests of the one that lost, which may have been paid, in its usage."""
    if not others:
        return reply
    usage = reply.usage.model_copy(update={"calls": reply.usage.calls + others})
    loser = "its answer" if second_won else "the second answer"
    note = f"asked twice, since the first request took long: {loser} was not waited for"
    return replace(reply, usage=usage, notes=(*reply.notes, note))
