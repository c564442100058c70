"""The gate of one pool on one replica: calls wait here, in a fair order, until an endpoint may have them.

Only the call whose turn it is is decided upon (`decide`). While it waits, all wait behind it; nothing is sent that
would be refused. A call that is let through holds a Permit: what it was reserved and where it may go, for about a
second. Whoever holds one gives it back with what came of the call.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from callstream.agents.inference.admission.allowance import Amount, Room
from callstream.agents.inference.admission.decide import Decision, Go, Never, Reason, Wait, decide
from callstream.agents.inference.admission.desk import Desk
from callstream.agents.inference.admission.fairness import FairQueue, Waiting
from callstream.agents.inference.admission.permit import Permit, Stale
from callstream.agents.inference.admission.purse import Purse
from callstream.agents.inference.admission.tokens import Estimator, Reservation
from callstream.agents.inference.call import Call, Reply
from callstream.agents.inference.failures import Kind, failed
from callstream.streams.event import Json
from callstream.streams.ownership import LostOwnership

LOOK_SECONDS = 0.5
PACE_SECONDS = 2.0
MOST_OVERRUN = 8
"""A usage beyond so many times the reservation is nonsense; a tenant would wait for ever behind it."""
SEND_SPARE_SECONDS = 0.5
"""Of the windows' margin, what is left for the network: the rest is how long a permit is good for."""


@dataclass(eq=False, slots=True)
class _Seat:
    call: Call
    estimate: Reservation
    amount: Amount
    since: float
    granted: "asyncio.Future[Permit]"


@dataclass(eq=False, slots=True)
class Pace:
    """How many calls were let through a second, of late."""

    _a_second: float = 0.0
    _since: float | None = None
    _counted: int = 0

    def count(self, now: float) -> None:
        """One more."""
        self._roll(now)
        self._counted += 1

    def a_second(self, now: float) -> float:
        """The pace."""
        self._roll(now)
        return self._a_second

    def _roll(self, now: float) -> None:
        if self._since is None:
            self._since = now
        elif (passed := now - self._since) >= PACE_SECONDS:
            latest = self._counted / passed
            self._a_second = latest if not self._a_second else self._a_second * 0.6 + latest * 0.4
            self._since, self._counted = now, 0


@dataclass(frozen=True, slots=True)
class Fittings:
    """What a gate works with: what may be spent, whose turn it is, what a call will take, and two clocks.

    `clock` gives seconds that never go back, `wall` epoch seconds. A permit is `good_for` so many.
    """

    purse: Purse
    queue: FairQueue
    estimator: Estimator
    clock: Callable[[], float]
    wall: Callable[[], float]
    good_for: float


class Gate:
    """Calls that wait for one pool, and what its endpoints may have."""

    def __init__(self, name: str, desks: Sequence[Desk], fittings: Fittings) -> None:
        self.name = name
        self.desks = tuple(desks)
        self._purse = fittings.purse
        self._queue = fittings.queue
        self._estimator = fittings.estimator
        self._clock, self._wall = fittings.clock, fittings.wall
        self._good_for = fittings.good_for
        self._seats: dict[str, _Seat] = {}
        self._numbers = 0
        self._timer: asyncio.TimerHandle | None = None
        self._blocked: Wait | None = None
        self._blocked_head: Waiting | None = None
        self._pace = Pace()
        self.paused: Callable[[], bool] = lambda: False
        self.looks = 0
        """Grows while calls wait for a reason that is known: this replica is alive, however long that takes."""
        self.decided: Counter[str] = Counter()
        """How often it was `go` or `never`, and for each reason how often a call whose turn it was had to wait."""

    def __len__(self) -> int:
        """Calls that wait."""
        return len(self._seats)

    async def admit(self, call: Call) -> Permit:
        """Wait until the call may go. Raises CallFailed where it never may, Stale, LogUnavailable."""
        if not self._purse.shares and all(self._purse.limited(desk.accounts) for desk in self.desks):
            raise failed(
                Kind.REFUSED, f"pool {self.name} has limits, of which only service infer has shares: run the step there"
            )
        now = self._clock()
        estimate = self._estimator.reserve(self.desks[0].options.model, call.request)
        amount = Amount(estimate.tokens_in, estimate.tokens_out)
        self._numbers += 1
        place = f"{call.id}#{self._numbers}"
        deadline = None if call.deadline is None else now + call.deadline - self._wall() - call.needs_seconds
        granted: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        seat = self._seats[place] = _Seat(call, estimate, amount, now, granted)
        tokens = max(1, estimate.total)
        self._queue.put(Waiting(place, call.tenant, str(call.priority), tokens, now, deadline, call.first))
        if not self._is_behind(deadline, now):
            self.pump()
        try:
            return await seat.granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                granted.result().abandoned()
            raise
        finally:
            self._seats.pop(place, None)
            if self._queue.discard(place) is not None:
                self.pump()

    def owners(self) -> Iterator[tuple[str, str]]:
        """Tenant and task of each call that waits."""
        return ((seat.call.tenant, seat.call.task) for seat in self._seats.values() if not seat.granted.done())

    def reconfigured(self, desks: Sequence[Desk], good_for: float) -> None:
        """Other endpoints, or the same with other settings, from now on."""
        self.desks = tuple(desks)
        self._good_for = good_for
        self.pump()

    def close(self) -> None:
        """The pool is gone: whoever waits for it fails."""
        for place in self._seats:
            self._refuse(place, Never(Kind.UNKNOWN_POOL, f"pool {self.name} is no longer configured"))

    def pump(self) -> None:
        """Let through whoever may go, and come back when the next one may."""
        self._purse.refresh()
        now = self._clock()
        self.looks += 1
        for late in self._queue.expired(now):
            self._refuse(late.id, Never(Kind.DEADLINE, _late(self._seats[late.id].call)))
        before, self._blocked = self._blocked, None
        while (head := self._queue.peek()) is not None:
            seat = self._seats[head.id]
            decision = self._decide(seat, head, now)
            if isinstance(decision, Wait):
                if before is None or self._blocked_head is not head or before.reason != decision.reason:
                    self.decided[str(decision.reason)] += 1
                self._blocked, self._blocked_head = decision, head
                break
            if isinstance(decision, Never):
                self.decided["never"] += 1
                self._queue.discard(head.id)
                self._refuse(head.id, decision)
            else:
                self.decided["go"] += 1
                self._queue.take()
                self._let_through(seat, head, decision, now)
        self._come_back(now)

    def waiting(self, most: int) -> dict[str, Json]:
        """Why each call waits, by tenant and task: the first `most` of them, in the order in which they are due.

        `reason` is what is in the way of the call itself if its turn is next; of the others, that it is not.
        """
        blocked, head = self._blocked, self._queue.peek()
        if blocked is None or head is None:
            return {}
        now = self._clock()
        before: dict[tuple[str, str], tuple[int, int]] = {}
        found: dict[str, Json] = {}
        calls_waiting = [(self._queue.get(place), seat) for place, seat in self._seats.items()]
        there = [(waiting, seat) for waiting, seat in calls_waiting if waiting is not None]
        for waiting, seat in sorted(there, key=lambda one: one[0].due):
            own = (waiting.lane, waiting.tenant)
            calls, tokens = before.get(own, (0, 0))
            before[own] = (calls + 1, tokens + waiting.tokens)
            if len(found) < most:
                found[f"{seat.call.tenant}/{seat.call.task}"] = {
                    "pool": self.name,
                    "reason": str(
                        blocked.reason if waiting is head or blocked.reason is Reason.PAUSED else Reason.FAIR_SHARE
                    ),
                    "waits_for": f"{blocked.reason} of {blocked.endpoint}" if blocked.endpoint else str(blocked.reason),
                    "lane": waiting.lane,
                    "tokens": waiting.tokens,
                    "calls_before": calls,
                    "tokens_before": tokens,
                    "waited_seconds": round(now - seat.since, 3),
                    **self._estimate(calls + 1),
                }
        return found

    def _estimate(self, calls: int) -> Json:
        """When a call with so many of its kind up to it will go, from how many went lately; none without a pace."""
        pace = self._pace.a_second(self._clock())
        if pace <= 0:
            return {"estimate_seconds": None, "estimate_within_seconds": None}
        waits = len(self._queue)
        soonest, latest = calls / pace, max(calls, waits) / pace
        middle = (soonest + latest) / 2
        return {"estimate_seconds": round(middle, 1), "estimate_within_seconds": round(latest - middle, 1)}

    def snapshot(self) -> Json:
        """What it shows of itself: endpoints with their windows and rooms, and who waits."""
        now = self._clock()
        blocked = self._blocked
        return {
            "pool": self.name,
            "share": self._purse.share,
            "waiting": [
                {"lane": lane, "tenant": tenant, "calls": calls, "tokens": tokens}
                for (lane, tenant), (calls, tokens) in sorted(self._queue.waiting().items())[:100]
            ],
            "reason": None if blocked is None else str(blocked.reason),
            "until_seconds": None if blocked is None or blocked.until is None else round(blocked.until - now, 3),
            "endpoints": [self._shown(desk, now) for desk in self.desks],
        }

    def _shown(self, desk: Desk, now: float) -> Json:
        rooms = [(name, room) for name in desk.accounts for room in self._purse.rooms(name)]
        return {
            "endpoint": desk.options.name,
            "model": desk.options.model,
            "window": desk.window.limit,
            "in_flight": desk.window.in_flight,
            "breaker": str(desk.breaker.state(now)),
            "closed_seconds": round(max(0.0, desk.closed_until - now), 3),
            "limits": [_shown_room(name, room) for name, room in rooms],
        }

    def _is_behind(self, deadline: float | None, now: float) -> bool:
        """Whether a call that came now waits behind another one that cannot go yet: nothing is new for that one."""
        blocked = self._blocked
        return (
            blocked is not None
            and (blocked.until is None or now < blocked.until)
            and (deadline is None or now < deadline)
            and self._queue.peek() is self._blocked_head
        )

    def _decide(self, seat: _Seat, head: Waiting, now: float) -> Decision:
        if self.paused():
            return Wait(Reason.PAUSED)
        desks = (desk for desk in self.desks if desk.options.name not in seat.call.avoid)
        views = [desk.view(*self._purse.opens(desk.accounts, seat.amount, now), now) for desk in desks]
        return decide(seat.amount, head.deadline, views, seat.call.tried, now)

    def _let_through(self, seat: _Seat, head: Waiting, decision: Go, now: float) -> None:
        desk = next(desk for desk in self.desks if desk.options.name == decision.endpoint)
        self._pace.count(now)
        reserved = self._purse.reserve(desk.accounts, seat.amount, now)
        settle = partial(self._settle, seat, head)
        permit = Permit(desk, desk.let_through(now), seat.amount, reserved, self._is_good, settle)
        written = self._purse.written(reserved)
        if written is None:
            seat.granted.set_result(permit)
        else:
            written.add_done_callback(lambda done: _grant(seat, permit, done))

    def _is_good(self, permit: Permit) -> bool:
        """Whether what was reserved for it is still this replica's to spend, and young enough."""
        self._purse.refresh()
        return self._clock() - permit.sending.admitted <= self._good_for and self._purse.holds(permit.reserved)

    def _settle(self, seat: _Seat, head: Waiting, permit: Permit, took: Amount | None, reply: Reply | None) -> None:
        """Correct what was reserved, learn from what it took, and let the next one through."""
        self._purse.settle(permit.reserved, took or Amount(0, 0), took is not None)
        if reply is not None and took is not None:
            model = permit.desk.options.model
            self._estimator.learn(model, seat.call.request, seat.estimate, took.tokens_in, took.tokens_out)
        used = 0 if took is None else min(took.total, head.tokens * MOST_OVERRUN)
        self._queue.settle(head.tenant, head.lane, head.tokens, used)
        self.pump()

    def _refuse(self, place: str, never: Never) -> None:
        seat = self._seats.get(place)
        if seat is not None and not seat.granted.done():
            seat.granted.set_exception(failed(never.kind, never.message))

    def _come_back(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._blocked is not None:
            until = self._blocked.until
            pause = LOOK_SECONDS if until is None else min(LOOK_SECONDS, max(0.001, until - now))
            self._timer = asyncio.get_running_loop().call_later(pause, self.pump)


def _late(call: Call) -> str:
    if not call.needs_seconds:
        return "the task's deadline passed while the call waited"
    return f"the call waited until less was left to the task's deadline than the {call.needs_seconds:.1f} s it takes"


def _grant(seat: _Seat, permit: Permit, written: "asyncio.Future[None]") -> None:
    error = None if written.cancelled() else written.exception()
    if seat.granted.done() or written.cancelled() or error is not None:
        permit.abandoned()
    if not seat.granted.done():
        if isinstance(error, LostOwnership):
            seat.granted.set_exception(Stale(str(error)))
        elif error is not None:
            seat.granted.set_exception(error)
        elif written.cancelled():
            seat.granted.set_exception(failed(Kind.STOPPING, "the worker is being stopped"))
        else:
            seat.granted.set_result(permit)


def _shown_room(account: str, room: Room) -> Json:
    return {
        "account": account,
        "limit": room.limit.name,
        "most": room.limit.most,
        "share": room.share,
        "spent": room.spent,
    }
