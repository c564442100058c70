"""The gate of one pool on one replica: calls wait here, in a fair order, until an endpoint may have them.

Only the call whose turn it is is decided upon (`decide`). While it waits, all wait behind it; nothing is sent that
would be refused. A call that is let through holds a Permit: what it was reserved and where it may go, for about a
second. Whoever holds one gives it back with what came of the call.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from callstream.agents.inference.admission.allowance import Amount, Limit, Room, Unit
from callstream.agents.inference.admission.breaker import Breaker
from callstream.agents.inference.admission.decide import Decision, Endpoint, Go, Never, Reason, Wait, decide
from callstream.agents.inference.admission.fairness import FairQueue, Waiting
from callstream.agents.inference.admission.purse import Purse, Reserved
from callstream.agents.inference.admission.ratelimit import Told
from callstream.agents.inference.admission.tokens import Estimator, Reservation
from callstream.agents.inference.admission.window import ConcurrencyWindow
from callstream.agents.inference.call import Call, CallFailed, Reply
from callstream.agents.inference.failures import Kind, failed
from callstream.agents.inference.options import EndpointOptions, LimitOptions
from callstream.streams.event import Json
from callstream.streams.ownership import LostOwnership

LOOK_SECONDS = 0.5
PACE_SECONDS = 2.0
SEND_SPARE_SECONDS = 0.5
"""Of the windows' margin, what is left for the network: the rest is how long a permit is good for."""
REFUSALS_THAT_CLOSE = 3
NOT_HEALTH = frozenset(
    {Kind.REFUSED, Kind.REFUSED_BY_POLICY, Kind.CONTEXT_TOO_LONG, Kind.REPLY_TOO_LONG, Kind.DEADLINE, Kind.STOPPING}
)


class Stale(Exception):
    """The call was not sent, or was turned away: its permit is too old, its share is gone, or the endpoint is full.

    It has to wait anew.
    """

    def __init__(self, message: str, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


@dataclass(eq=False, slots=True)
class Desk:
    """One endpoint of the pool, as this replica sees it."""

    options: EndpointOptions
    window: ConcurrencyWindow
    breaker: Breaker
    closed_until: float = 0.0
    shrunk: float = -math.inf
    refusals: int = 0

    @property
    def accounts(self) -> tuple[str, ...]:
        """The names of its own limits and of its account's."""
        own = own_account(self.options.name)
        return (own,) if self.options.account is None else (own, self.options.account)


@dataclass(eq=False, slots=True)
class _Seat:
    call: Call
    estimate: Reservation
    amount: Amount
    since: float
    granted: "asyncio.Future[Permit]"
    wait: Wait | None = None


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


@dataclass(eq=False, slots=True)
class Permit:
    """Leave to send one call to one endpoint."""

    gate: "Gate"
    desk: Desk
    amount: Amount
    reserved: Reserved
    started: float
    lane: str
    tenant: str
    request: Json
    estimate: Reservation
    in_flight: int = 0
    sent: bool = False
    late: bool = False
    _given_back: bool = field(default=False)

    @property
    def endpoint(self) -> str:
        """Where it may go."""
        return self.desk.options.name

    def require(self) -> None:
        """Raises Stale if the call must not be sent any more. Asked when its last byte is about to leave."""
        if self.late or not (self.sent or self.gate.is_good(self)):
            self.late = True
            raise Stale(f"{self.endpoint}: the call was not sent in time after it was admitted")
        self.sent = True

    def answered(self, reply: Reply) -> None:
        """The call was answered."""
        if self._back():
            self.gate.on_answer(self, reply)

    def refused(self, failure: CallFailed, told: Told | None) -> None:
        """The call failed; `told` is what the endpoint said of its limits."""
        if self._back():
            self.gate.on_failure(self, failure, told)

    def abandoned(self, sent: bool) -> None:
        """Nothing is known of it. What was `sent` counts as spent."""
        if self._back():
            self.gate.on_loss(self, sent)

    def _back(self) -> bool:
        given, self._given_back = self._given_back, True
        return not given


class Gate:
    """Calls that wait for one pool, and what its endpoints may have."""

    def __init__(
        self,
        name: str,
        desks: Sequence[Desk],
        purse: Purse,
        queue: FairQueue,
        estimator: Estimator,
        clocks: tuple[Callable[[], float], Callable[[], float]],
        good_for: float,
    ) -> None:
        self.name = name
        self.desks = tuple(desks)
        self._purse = purse
        self._queue = queue
        self._estimator = estimator
        self._clock, self._wall = clocks
        self._good_for = good_for
        self._seats: dict[str, _Seat] = {}
        self._numbers = 0
        self._timer: asyncio.TimerHandle | None = None
        self._blocked: Wait | None = None
        self._pace = Pace()
        self.looks = 0
        """Grows while calls wait for a reason that is known: this replica is alive, however long that takes."""

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
        deadline = None if call.deadline is None else now + call.deadline - self._wall()
        granted: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        seat = self._seats[place] = _Seat(call, estimate, amount, now, granted)
        self._queue.put(Waiting(place, call.tenant, str(call.priority), max(1, estimate.total), now, deadline))
        self.pump()
        try:
            return await seat.granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                granted.result().abandoned(sent=False)
            raise
        finally:
            self._seats.pop(place, None)
            if self._queue.discard(place) is not None:
                self.pump()

    def reconfigured(self, desks: Sequence[Desk], good_for: float) -> None:
        """Other endpoints, or the same with other settings, from now on."""
        self.desks = tuple(desks)
        self._good_for = good_for
        self.pump()

    def close(self) -> None:
        """The pool is gone: whoever waits for it fails."""
        for seat in list(self._seats.values()):
            if not seat.granted.done():
                seat.granted.set_exception(failed(Kind.UNKNOWN_POOL, f"pool {self.name} is no longer configured"))

    def pump(self) -> None:
        """Let through whoever may go, and come back when the next one may."""
        self._purse.refresh()
        now = self._clock()
        self.looks += 1
        for late in self._queue.expired(now):
            self._refuse(late.id, Never(Kind.DEADLINE, "the task's deadline passed while the call waited"))
        self._blocked = None
        while (head := self._queue.peek()) is not None:
            seat = self._seats[head.id]
            decision = self._decide(seat, head, now)
            if isinstance(decision, Wait):
                self._blocked = seat.wait = decision
                break
            if isinstance(decision, Never):
                self._queue.discard(head.id)
                self._refuse(head.id, decision)
            else:
                self._queue.take()
                self._let_through(seat, head, decision, now)
        self._come_back(now)

    def is_good(self, permit: Permit) -> bool:
        """Whether what was reserved for it is still this replica's to spend, and young enough."""
        self._purse.refresh()
        return self._clock() - permit.started <= self._good_for and self._purse.holds(permit.reserved)

    def on_answer(self, permit: Permit, reply: Reply) -> None:
        """Settle what it took, and learn from it."""
        now, desk, usage = self._clock(), permit.desk, reply.usage
        desk.window.answered(now, now - permit.started)
        desk.breaker.succeeded(now, permit.started)
        desk.refusals = 0
        took = permit.amount
        if usage.tokens_in or usage.tokens_out:
            took = Amount(usage.tokens_in, usage.tokens_out)
            self._estimator.learn(
                desk.options.model, permit.request, permit.estimate, usage.tokens_in, usage.tokens_out
            )
        self._settle(permit, took)

    def on_failure(self, permit: Permit, failure: CallFailed, told: Told | None) -> None:
        """Learn what it says of the endpoint."""
        now, desk = self._clock(), permit.desk
        if failure.kind == Kind.OVERLOADED:
            self._refused(permit, failure, told, now)
            self._settle(permit, Amount(0, 0))
            return
        if failure.kind in NOT_HEALTH:
            desk.window.abandoned()
            desk.breaker.succeeded(now, permit.started)
        else:
            if failure.kind in (Kind.UNAVAILABLE, Kind.TIMEOUT):
                desk.window.overloaded(now, permit.in_flight)
            else:
                desk.window.abandoned()
            desk.breaker.failed(now, permit.started)
            if failure.after_seconds:
                desk.closed_until = max(desk.closed_until, now + failure.after_seconds)
        # It may have been paid for: what was reserved stays spent.
        self._settle(permit, permit.amount)

    def on_loss(self, permit: Permit, sent: bool) -> None:
        """Give back its place; what may have been sent stays spent."""
        permit.desk.window.abandoned()
        permit.desk.breaker.abandoned(self._clock(), permit.started)
        self._settle(permit, permit.amount if sent else Amount(0, 0), requests=sent)

    def waiting(self, most: int) -> dict[str, Json]:
        """Why each call waits, by tenant and task: the first `most` of them, in the order in which they came.

        `reason` is what is in the way of the call itself if its turn is next; of the others, that it is not.
        """
        blocked, head = self._blocked, self._queue.peek()
        if blocked is None or head is None:
            return {}
        now = self._clock()
        before: dict[tuple[str, str], tuple[int, int]] = {}
        found: dict[str, Json] = {}
        for place, seat in self._seats.items():
            waiting = self._queue.get(place)
            if waiting is None:
                continue
            own = (waiting.lane, waiting.tenant)
            calls, tokens = before.get(own, (0, 0))
            before[own] = (calls + 1, tokens + waiting.tokens)
            if len(found) < most:
                found[f"{seat.call.tenant}/{seat.call.task}"] = {
                    "pool": self.name,
                    "reason": str(blocked.reason if place == head.id else Reason.FAIR_SHARE),
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

    def _decide(self, seat: _Seat, head: Waiting, now: float) -> Decision:
        views = [self._view(desk, seat, now) for desk in self.desks if desk.options.name not in seat.call.avoid]
        return decide(seat.amount, head.deadline, views, seat.call.tried, now)

    def _view(self, desk: Desk, seat: _Seat, now: float) -> Endpoint:
        opens, unit = self._purse.opens(desk.accounts, seat.amount, now)
        return Endpoint(
            name=desk.options.name,
            weight=desk.options.weight,
            in_flight=desk.window.in_flight,
            places=desk.window.limit - desk.window.in_flight,
            context_tokens=desk.options.context_tokens,
            opens=opens,
            unit=unit,
            closed_until=desk.closed_until,
            breaker_opens=desk.breaker.opens_at(now),
        )

    def _let_through(self, seat: _Seat, head: Waiting, decision: Go, now: float) -> None:
        desk = next(desk for desk in self.desks if desk.options.name == decision.endpoint)
        desk.breaker.may(now)
        self._pace.count(now)
        desk.window.started(now)
        reserved = self._purse.reserve(desk.accounts, seat.amount, now)
        permit = Permit(
            self,
            desk,
            seat.amount,
            reserved,
            now,
            head.lane,
            head.tenant,
            seat.call.request,
            seat.estimate,
            desk.window.in_flight,
        )
        written = self._purse.written(reserved)
        if written is None:
            seat.granted.set_result(permit)
        else:
            written.add_done_callback(lambda done: _grant(seat, permit, done))

    def _refused(self, permit: Permit, failure: CallFailed, told: Told | None, now: float) -> None:
        """A 429. While others are answered it is about how many may run at once; else about what a minute may hold."""
        desk = permit.desk
        desk.breaker.abandoned(now, permit.started)
        used_up = told is not None and (told.requests_left == 0 or told.tokens_left == 0)
        if used_up:
            desk.window.abandoned()
        else:
            desk.window.overloaded(now, permit.in_flight)
        if permit.started >= desk.shrunk:
            desk.shrunk = now
            desk.refusals += 1
        alone = desk.window.in_flight == 0
        if used_up or alone or desk.refusals >= REFUSALS_THAT_CLOSE:
            after = failure.after_seconds or _reset(told) or LOOK_SECONDS
            desk.closed_until = max(desk.closed_until, now + after)

    def _settle(self, permit: Permit, took: Amount, requests: bool = True) -> None:
        self._purse.settle(permit.reserved, took, requests)
        used = took.tokens_in + took.tokens_out
        reserved = permit.amount.tokens_in + permit.amount.tokens_out
        self._queue.settle(permit.tenant, permit.lane, max(1, reserved), used)
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


def own_account(endpoint: str) -> str:
    """The name that an endpoint's own limits are kept under; no account can be called so."""
    return f"@{endpoint}"


def limits_of(options: LimitOptions) -> tuple[Limit, ...]:
    """The limits that are set."""
    known: Mapping[str, tuple[Unit, float]] = {
        "requests_per_minute": (Unit.REQUESTS, 60.0),
        "tokens_per_minute": (Unit.TOKENS, 60.0),
        "tokens_in_per_minute": (Unit.TOKENS_IN, 60.0),
        "tokens_out_per_minute": (Unit.TOKENS_OUT, 60.0),
        "requests_per_day": (Unit.REQUESTS, 86_400.0),
        "tokens_per_day": (Unit.TOKENS, 86_400.0),
    }
    return tuple(
        Limit(unit, most, seconds)
        for name, (unit, seconds) in known.items()
        if (most := getattr(options, name)) is not None
    )


def _grant(seat: _Seat, permit: Permit, written: "asyncio.Future[None]") -> None:
    error = None if written.cancelled() else written.exception()
    if seat.granted.done() or written.cancelled() or error is not None:
        permit.abandoned(sent=False)
    if not seat.granted.done():
        if isinstance(error, LostOwnership):
            seat.granted.set_exception(Stale(str(error)))
        elif error is not None:
            seat.granted.set_exception(error)
        elif written.cancelled():
            seat.granted.set_exception(failed(Kind.STOPPING, "the worker is being stopped"))
        else:
            seat.granted.set_result(permit)


def _reset(told: Told | None) -> float | None:
    if told is None:
        return None
    resets = [one for one in (told.requests_reset_seconds, told.tokens_reset_seconds) if one is not None]
    return max(resets) if resets else None


def _shown_room(account: str, room: Room) -> Json:
    return {
        "account": account,
        "limit": room.limit.name,
        "most": room.limit.most,
        "share": room.share,
        "spent": room.spent,
    }
