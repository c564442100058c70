"""The gate of one pool on one replica: calls wait here, in a fair order, until an endpoint may have them.

Only the call whose turn it is is decided upon (`decide`). While it waits, all wait behind it; nothing is sent that
would be refused. Calls for which rules have chosen endpoints stand in a line of their own, so that the others do not
wait for those; the lines take turns, and within each the order is as fair as in one.

A call that is let through holds a Permit: what it was reserved and where it may go, for about a second. Whoever holds
one gives it back with what came of the call.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

from callstream.agents.inference.admission.allowance import Amount, Room
from callstream.agents.inference.admission.budgets import Budgets
from callstream.agents.inference.admission.decide import Decision, Go, Never, Reason, Wait, decide
from callstream.agents.inference.admission.desk import Desk
from callstream.agents.inference.admission.fairness import FairQueue, Waiting
from callstream.agents.inference.admission.line import Line, Lines, Picks, open_to, picks_of
from callstream.agents.inference.admission.pace import PACE_SECONDS, Pace
from callstream.agents.inference.admission.permit import Permit, Stale
from callstream.agents.inference.admission.purse import Purse
from callstream.agents.inference.admission.stopped import Accounts, Stopped, shown
from callstream.agents.inference.admission.tokens import Estimator, Reservation
from callstream.agents.inference.call import Call, Reply
from callstream.agents.inference.failures import Kind, failed
from callstream.agents.inference.going_on import reserved
from callstream.streams.event import Json
from callstream.streams.ownership import LostOwnership

LOOK_SECONDS = 0.5
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
    budgets: Accounts
    granted: "asyncio.Future[Permit]"
    line: Line


@dataclass(frozen=True, slots=True)
class Fittings:
    """What a gate works with: what may be spent, what makes a queue, what a call will take, budgets, and two clocks.

    `clock` gives seconds that never go back, `wall` epoch seconds. A permit is `good_for` so many.
    """

    purse: Purse
    queue: Callable[[], FairQueue]
    estimator: Estimator
    clock: Callable[[], float]
    wall: Callable[[], float]
    good_for: float
    budgets: Budgets


class Gate:
    """Calls that wait for one pool, and what its endpoints may have."""

    def __init__(self, name: str, desks: Sequence[Desk], fittings: Fittings) -> None:
        self.name = name
        self.desks = tuple(desks)
        self._purse = fittings.purse
        self._lines = Lines(fittings.queue)
        self._estimator = fittings.estimator
        self._clock, self._wall = fittings.clock, fittings.wall
        self._good_for = fittings.good_for
        self._budgets = fittings.budgets
        self._stopped = Stopped()
        self._seats: dict[str, _Seat] = {}
        self._under_way: dict[Permit, Call] = {}
        self._numbers = 0
        self._timer: asyncio.TimerHandle | None = None
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
        budgets = self._budgets.accounts(call)
        limited = budgets or all(self._purse.limited(desk.accounts) for desk in self.desks)
        if not self._purse.shares and limited:
            raise failed(
                Kind.REFUSED, f"pool {self.name} has limits, of which only service infer has shares: run the step there"
            )
        now = self._clock()
        model = self.desks[0].options.model
        estimate = reserved(self._estimator, model, call, (desk.options for desk in self.desks))
        amount = Amount(estimate.tokens_in, estimate.tokens_out)
        self._numbers += 1
        place = f"{call.id}#{self._numbers}"
        deadline = None if call.deadline is None else now + call.deadline - self._wall() - call.needs_seconds
        granted: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        line = self._lines.of(picks_of(call.choice))
        seat = self._seats[place] = _Seat(call, estimate, amount, now, budgets, granted, line)
        tokens = max(1, estimate.total)
        lane = "low" if self._budgets.is_slowed(budgets) else str(call.priority)
        line.queue.put(Waiting(place, call.tenant, lane, tokens, now, deadline, call.first))
        if not line.is_behind(deadline, now):
            self.pump()
        try:
            return await seat.granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                granted.result().abandoned()
            raise
        finally:
            call.waits.seconds += self._clock() - seat.since
            self._seats.pop(place, None)
            self._stopped.discard(place)
            if seat.line.queue.discard(place) is not None:
                self.pump()

    @property
    def models(self) -> dict[str, str]:
        """The model of each endpoint, by its name."""
        return {desk.options.name: desk.options.model for desk in self.desks}

    def owners(self) -> Iterator[tuple[str, str]]:
        """Tenant and task of each call that waits."""
        return ((seat.call.tenant, seat.call.task) for seat in self._seats.values() if not seat.granted.done())

    def reconfigured(self, desks: Sequence[Desk], good_for: float) -> None:
        """Other endpoints, or the same with other settings, from now on."""
        self.desks = tuple(desks)
        self._good_for = good_for
        for seat in self._seats.values():
            seat.budgets = self._budgets.accounts(seat.call)
        for waiting in self._stopped.all():
            self._line_up(waiting)
        self.pump()

    def close(self) -> None:
        """The pool is gone: whoever waits for it fails."""
        for place in self._seats:
            self._refuse(place, Never(Kind.UNKNOWN_POOL, f"pool {self.name} is no longer configured"))

    def turn_out(self, is_outdated: Callable[[Call], bool]) -> None:
        """Have calls go that wait and are outdated: whoever waits for them gets Stale."""
        for seat in list(self._seats.values()):
            if not seat.granted.done() and is_outdated(seat.call):
                seat.granted.set_exception(Stale("other rules hold by now"))

    def pump(self) -> None:
        """Let through whoever may go, and come back when the next one may."""
        self._purse.refresh()
        now = self._clock()
        self.looks += 1
        for paid_again in self._stopped.ready(lambda one: self._is_within(self._seats[one.id], now), now):
            self._line_up(paid_again)
        for late in self._stopped.late(now):
            self._refuse(late.id, Never(Kind.DEADLINE, _late(self._seats[late.id].call)))
        for line in self._lines:
            for late in line.queue.expired(now):
                self._refuse(late.id, Never(Kind.DEADLINE, _late(self._seats[late.id].call)))
            line.look()
        # One that was let through puts its line behind the others. What a line before it waits for is not its to take:
        # else a large call of that one would wait for ever behind small ones of this one.
        going, held = deque(self._lines), set[str]()
        while going:
            line = going.popleft()
            if (head := line.queue.peek()) is not None and self._is_done_with(line, head, now, held):
                going.append(line)
                self._lines.put_last(line)
        self._lines.drop_empty()
        self._come_back(now)

    def _is_done_with(self, line: Line, head: Waiting, now: float, held: set[str]) -> bool:
        """Whether the next one of a line is done with, so that another is next. It may not have what is `held`."""
        seat = self._seats[head.id]
        if not self._is_within(seat, now):
            self.decided[str(Reason.BUDGET)] += 1
            line.queue.discard(head.id)
            self._stopped.put(seat.budgets, head)
            return True
        decision = self._decide(seat, head, now, held)
        if isinstance(decision, Wait):
            if line.is_news(head, decision):
                self.decided[str(decision.reason)] += 1
            line.blocked, line.blocked_head = decision, head
            if decision.endpoint:
                held.add(decision.endpoint)
            return False
        if isinstance(decision, Never):
            self.decided["never"] += 1
            line.queue.discard(head.id)
            self._refuse(head.id, decision)
        else:
            self.decided["go"] += 1
            line.queue.take()
            self._let_through(seat, head, decision, now)
        return True

    def waiting(self, most: int) -> dict[str, Json]:
        """Why each call waits, by tenant and task: the first `most` of them, in the order in which they are due.

        `reason` is what is in the way of the call itself if its turn is next; of the others, that it is not. Those come
        last whose budget is used up.
        """
        now = self._clock()
        before: dict[tuple[Picks, str, str], tuple[int, int]] = {}
        found: dict[str, Json] = {}
        calls_waiting = [(seat.line.queue.get(place), seat) for place, seat in self._seats.items()]
        there = [(waiting, seat) for waiting, seat in calls_waiting if waiting is not None and seat.line.blocked]
        for waiting, seat in sorted(there, key=lambda one: one[0].due):
            own = (seat.line.picks, waiting.lane, waiting.tenant)
            calls, tokens = before.get(own, (0, 0))
            before[own] = (calls + 1, tokens + waiting.tokens)
            if len(found) < most:
                ahead = {"calls_before": calls, "tokens_before": tokens}
                found[f"{seat.call.tenant}/{seat.call.task}"] = self._told(waiting, seat, ahead, now)
        return found | self._waiting_for_budgets(most - len(found))

    def _waiting_for_budgets(self, most: int) -> dict[str, Json]:
        """Why calls wait whose budget is used up: which, and when it resets (epoch seconds)."""
        now = self._clock()
        found: dict[str, Json] = {}
        for accounts, waiting in islice(self._stopped, most):
            seat = self._seats[waiting.id]
            call, (words, resets) = seat.call, self._budgets.used_up(accounts, self._dearest(seat))
            waited = round(call.waits.seconds + now - seat.since, 3)
            found[f"{call.tenant}/{call.task}"] = {
                "pool": self.name,
                "waits_for": words,
                **shown(waiting, resets, waited),
            }
        return found

    def accounts_waited_for(self) -> Iterator[str]:
        """The budgets that calls wait for, each as often as one does."""
        return (name for accounts, _ in self._stopped for name in accounts)

    def _told(self, waiting: Waiting, seat: _Seat, ahead: Json, now: float) -> Json:
        """Why one call waits: what is in the way of itself if its turn is next, else that it is not."""
        blocked = seat.line.blocked or Wait(Reason.FAIR_SHARE)
        own = waiting is seat.line.queue.peek() or blocked.reason is Reason.PAUSED
        return {
            "pool": self.name,
            "reason": str(blocked.reason if own else Reason.FAIR_SHARE),
            "waits_for": f"{blocked.reason} of {blocked.endpoint}" if blocked.endpoint else str(blocked.reason),
            "lane": waiting.lane,
            "tokens": waiting.tokens,
            **ahead,
            "waited_seconds": round(seat.call.waits.seconds + now - seat.since, 3),
            **self._estimate(ahead["calls_before"] + 1, seat.line),
            **_rule_of(seat.call),
        }

    def calling(self, most: int) -> dict[str, Json]:
        """Where each call in flight is, by tenant and task: the first `most`. `since` is in epoch seconds."""
        now, wall = self._clock(), self._wall()
        sent = ((permit, call, permit.sending.placed) for permit, call in self._under_way.items())
        there = ((permit, call, now - placed) for permit, call, placed in sent if placed is not None)
        return {
            f"{call.tenant}/{call.task}": {
                "pool": self.name,
                "endpoint": permit.endpoint,
                "lane": str(call.priority),
                **_rule_of(call),
                "since": round(wall - seconds, 3),
                "seconds": round(seconds, 3),
            }
            for permit, call, seconds in islice(there, most)
        }

    def _estimate(self, calls: int, line: Line) -> Json:
        """When a call with so many of its kind up to it will go, from how many went lately; none without a pace.

        Not before the moment until which the next one is known to wait, when as many may go at once as in the last
        minute; and if those may be all that a minute allows, as late as that moment and as many minutes as they take.
        """
        now = self._clock()
        least, most = self._pace.a_second(now)
        if least <= 0:
            return {"estimate_seconds": None, "estimate_within_seconds": None}
        opens = 0.0 if line.opens is None else max(0.0, line.opens - now)
        at_once = least * PACE_SECONDS if opens else 0.0
        soonest = opens + max(0.0, calls - at_once) / most
        ahead = max(calls, len(line.queue)) / least
        latest = max(soonest, ahead if least == most else opens + ahead)
        middle = (soonest + latest) / 2
        return {"estimate_seconds": round(middle, 1), "estimate_within_seconds": round(latest - middle, 1)}

    def snapshot(self) -> Json:
        """What it shows of itself: endpoints with their windows and rooms, and who waits."""
        now = self._clock()
        blocked = self._lines.blocked
        return {
            "pool": self.name,
            "share": self._purse.share,
            "waiting": [
                {"lane": lane, "tenant": tenant, "calls": calls, "tokens": tokens}
                for (lane, tenant), (calls, tokens) in sorted(self._lines.groups().items())[:100]
            ],
            "over_budget": len(self._stopped),
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

    def _line_up(self, waiting: Waiting) -> None:
        """Have a call wait in its line again, which may be gone meanwhile."""
        seat = self._seats[waiting.id]
        seat.line = self._lines.of(seat.line.picks)
        seat.line.queue.put(waiting)

    def _decide(self, seat: _Seat, head: Waiting, now: float, held: Collection[str]) -> Decision:
        if self.paused():
            return Wait(Reason.PAUSED)
        desks = (desk for desk in self.desks if desk.options.name not in seat.call.avoid)
        views = [desk.view(*self._purse.opens(desk.accounts, seat.amount, now), now) for desk in desks]
        may = open_to(seat.call.choice, views, seat.amount, seat.call.tried, now)
        if views and not may:
            return Never(Kind.OVERLOADED, f"no endpoint of pool {self.name} that its rules choose may be asked now")
        free = [one for one in may if one.name not in held]
        if may and not free:
            return Wait(Reason.FAIR_SHARE)
        return decide(seat.amount, head.deadline, free, seat.call.tried, now)

    def _is_within(self, seat: _Seat, now: float) -> bool:
        """Whether its budgets have room for a call, wherever it goes."""
        if not seat.budgets:
            return True
        return self._budgets.opens(seat.budgets, self._dearest(seat), now) <= now

    def _dearest(self, seat: _Seat) -> int:
        """What it may cost at most, in billionths."""
        return max(self._money(seat, desk) for desk in self.desks)

    def _money(self, seat: _Seat, desk: Desk) -> int:
        """What it may cost there."""
        return self._budgets.cost(desk.options.name, seat.amount.tokens_in, seat.amount.tokens_out, 0)

    def _let_through(self, seat: _Seat, head: Waiting, decision: Go, now: float) -> None:
        desk = next(desk for desk in self.desks if desk.options.name == decision.endpoint)
        self._pace.count(now)
        amount = replace(seat.amount, money=self._money(seat, desk)) if seat.budgets else seat.amount
        reserved = self._purse.reserve((*desk.accounts, *seat.budgets), amount, now)
        settle = partial(self._settle, seat, head)
        cost = partial(self._budgets.cost, desk.options.name)
        permit = Permit(desk, desk.let_through(now), amount, reserved, self._is_good, settle, cost)
        self._under_way[permit] = seat.call
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
        self._under_way.pop(permit, None)
        self._purse.settle(permit.reserved, took or Amount(0, 0), took is not None)
        if reply is not None and took is not None and seat.estimate.size is not None:
            model = permit.desk.options.model
            self._estimator.learn(model, seat.call.request, seat.estimate, took.tokens_in, took.tokens_out)
        used = 0 if took is None else min(took.total, head.tokens * MOST_OVERRUN)
        seat.line.queue.settle(head.tenant, head.lane, head.tokens, used)
        self.pump()

    def _refuse(self, place: str, never: Never) -> None:
        seat = self._seats.get(place)
        if seat is not None and not seat.granted.done():
            seat.granted.set_exception(failed(never.kind, never.message))

    def _come_back(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._lines.blocked is not None or self._stopped:
            until = self._lines.opens
            pause = LOOK_SECONDS if until is None else min(LOOK_SECONDS, max(0.001, until - now))
            self._timer = asyncio.get_running_loop().call_later(pause, self.pump)


def _rule_of(call: Call) -> Json:
    return {"rule": call.choice.rule} if call.choice is not None and call.choice.rule else {}


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
