"""The calls that wait for one pool on one replica, and which of them is next. Pure.

Words: a *lane* is a class of urgency; lanes share by start-time fair queueing: a lane's *start* is the virtual time at
which its next call begins, the lowest start is next, and a call moves it by tokens / weight (Goyal, Vin, Cheng 1996).
Within a lane, tenants share by deficit round robin in tokens (Shreedhar, Varghese 1995): each *round* gives a tenant
quantum × weight tokens, and a call's *turn* is the round in which what the tenant was given covers it. Turns are
computed, not waited for: calls go by (turn, place in the round), so a call of a thousand quanta costs no more than one.

Within a tenant, calls go in the order in which they came, or, those that say so, by their deadlines, the earliest first
(Liu, Layland 1973). A call that says nothing has its turn as if it had a deadline PATIENCE_SECONDS after it came, so
that calls in a hurry which keep coming go before it for that long at most. None of this touches what others get: which
of its calls a tenant sends is its own affair.

Who was away begins beside the lowest start, or in the round after the one that is now: nobody saves up while idle, and
what arrives never comes before the call that its lane has next. What a tenant owes (it used more than was charged)
stays with it when it leaves, until MOST_FORMER others have left after it. What a lane is given back never takes its
start behind the place where another lane came in: else high would wait for what low was charged too much before.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import count, takewhile
from typing import TypeAlias

MOST_FORMER = 4096
"""Accounts of tenants with nothing waiting that a lane keeps: far more than calls can be in flight on a replica."""
PATIENCE_SECONDS = 30.0
SLACK = 64
"""Outdated entries that a heap may hold beyond as many as it has current ones, before it is built anew."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A call that waits. `tokens` is its estimate; `since` and `deadline` are seconds of one monotonic clock.

    `first`: of its tenant's calls in its lane, the one with the earliest deadline goes first.

    Raises ValueError for less than one token and for times that are not numbers.
    """

    id: str
    tenant: str
    lane: str
    tokens: int
    since: float
    deadline: float | None
    first: bool = False

    @property
    def due(self) -> float:
        """By what its tenant's calls in its lane are ordered."""
        patient = self.since + PATIENCE_SECONDS
        return min(self.deadline, patient) if self.first and self.deadline is not None else patient

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ValueError(f"call {self.id} has {self.tokens} tokens; a call has at least 1")
        if math.isnan(self.since) or (self.deadline is not None and math.isnan(self.deadline)):
            raise ValueError(f"call {self.id} has a time that is not a number: {self.since}, {self.deadline}")


@dataclass(frozen=True, slots=True)
class Place:
    """What is before a call in its own tenant and lane: how many calls, and how many tokens they have together."""

    calls_before: int
    tokens_before: int


@dataclass(slots=True)
class _Account:
    """How far a tenant has come: it was given tokens up to `round`, and `credit` of them (< quantum) are left."""

    round: int
    credit: int
    floor: int

    def enter(self, now: int) -> None:
        """Begin to wait in the round `now`: what was left of earlier rounds is gone, a debt stays."""
        if self.round < now:
            self.round, self.credit, self.floor = now, 0, now

    def add(self, tokens: int, quantum: int) -> None:
        """Give tokens back, or charge them if negative; nothing is given back from before the tenant entered."""
        rounds, self.credit = divmod(self.credit + tokens, quantum)
        self.round -= rounds
        if self.round < self.floor or (self.round == self.floor and self.credit):
            self.round, self.credit = self.floor, 0


@dataclass(slots=True, eq=False)
class _Share:
    """A tenant's calls in a lane. `stamp` marks its current entry in the lane's heap; 0: it has none (paused)."""

    tenant: str
    account: _Account
    calls: dict[str, Waiting] = field(default_factory=dict)
    tokens: int = 0
    stamp: int = 0
    served: bool = False
    place: int = 0
    order: list[tuple[float, int, Waiting]] = field(default_factory=list)

    def add(self, waiting: Waiting, number: int) -> None:
        """One more call, the `number`-th of all."""
        self.calls[waiting.id] = waiting
        self.tokens += waiting.tokens
        heappush(self.order, (waiting.due, number, waiting))
        if len(self.order) > 2 * len(self.calls) + SLACK:
            self.order = [entry for entry in self.order if self.calls.get(entry[2].id) is entry[2]]
            heapify(self.order)

    def head(self) -> Waiting:
        """The call that is next of these."""
        while self.calls.get(self.order[0][2].id) is not self.order[0][2]:
            heappop(self.order)
        return self.order[0][2]

    def ordered(self) -> list[Waiting]:
        """All calls, in the order in which they go."""
        return [waiting for *_, waiting in sorted(self.order) if self.calls.get(waiting.id) is waiting]


_Entry: TypeAlias = tuple[int, bool, int, int, _Share]
"""Turn, whether the tenant was served since it entered (who was not goes first in its round), place, stamp, share."""


class _Lane:
    """The tenants of a lane. `step` is the virtual time of one token; `round` is that of the call taken last."""

    def __init__(self, weight: int, step: int, quantum: Callable[[str], int]) -> None:
        self.weight = weight
        self.step = step
        self.start = self.round = 0
        self.served = False
        self.shares: dict[str, _Share] = {}
        self.former: OrderedDict[str, _Account] = OrderedDict()
        self._quantum = quantum
        self._heap: list[_Entry] = []
        self._front: _Entry | None = None
        self._stamps = count(1)

    def front(self) -> _Entry | None:
        """Whose turn it is; None if no call may go. Once found it stays, whatever arrives, until its turn is later."""
        if self._front and self._front[3] == self._front[4].stamp:
            return self._front
        self._front = None
        while self._heap and not self._front:
            entry = heappop(self._heap)
            self._front = entry if entry[3] == entry[4].stamp else None
        return self._front

    def now(self) -> int:
        """The round that is now: that of the call taken last, or of the next if that was given tokens back."""
        front = self.front()
        return min(self.round, front[0]) if front else self.round

    def share(self, tenant: str) -> _Share:
        """The tenant's calls here, none if it is new."""
        if tenant not in self.shares:
            account = self.former.pop(tenant) if tenant in self.former else _Account(-1, 0, -1)
            self.shares[tenant] = _Share(tenant, account)
        return self.shares[tenant]

    def enter(self, share: _Share) -> None:
        """Let a tenant that has calls take part."""
        share.account.enter(self.now())
        share.served, share.place = False, next(self._stamps)
        self.rank(share)

    def rank(self, share: _Share) -> None:
        """Find the turn of the tenant's first call, after that call or the account changed."""
        front, account = self._front, share.account
        turn = account.round - (account.credit - share.head().tokens) // self._quantum(share.tenant)
        stays = front and front[3] == share.stamp and turn <= front[0]
        share.stamp = next(self._stamps)
        entry = (turn, share.served, share.place, share.stamp, share)
        if stays:
            self._front = entry
        else:
            heappush(self._heap, entry)
        if len(self._heap) > 2 * len(self.shares) + SLACK:
            self._heap = [entry for entry in self._heap if entry[3] == entry[4].stamp]
            heapify(self._heap)

    def charge(self, turn: int, share: _Share, tokens: int) -> None:
        """Book the call at the front, which is taken."""
        self.round, self._front = turn, None
        self.start += tokens * self.step
        self.served = share.served = True
        share.account.add(-tokens, self._quantum(share.tenant))

    def correct(self, tenant: str, tokens: int) -> None:
        """Give tokens back to a tenant, or charge them if negative. A stranger is only charged."""
        share = self.shares.get(tenant)
        account = share.account if share else self.former.get(tenant)
        if account is None:
            if tokens > 0:
                return
            account = _Account(self.now(), 0, self.now())
            self.keep(tenant, account)
        account.add(tokens, self._quantum(tenant))
        if share and share.stamp:
            self.rank(share)

    def keep(self, tenant: str, account: _Account) -> None:
        """Remember the account of a tenant with nothing waiting, and forget who left the longest ago."""
        self.former[tenant] = account
        if len(self.former) > MOST_FORMER:
            self.former.popitem(last=False)


class FairQueue:
    """The order of the calls that wait: by lane, then by tenant, then by arrival or deadline.

    Strict: no small call overtakes.

    `lanes` gives each lane's weight. `tenant_weight` is asked whenever it is needed, so that it may change; less than 1
    counts as 1. `quantum` is in tokens: what a tenant of weight 1 is given each round. Raises ValueError if there are
    no lanes, or for a weight or a quantum below 1. Everything costs O(log n) at most, except where told.
    """

    def __init__(self, lanes: Mapping[str, int], tenant_weight: Callable[[str], int], quantum: int = 1000) -> None:
        if not lanes or min(lanes.values()) < 1:
            raise ValueError(f"lanes must be named, with weights of at least 1: {dict(lanes)}")
        if quantum < 1:
            raise ValueError(f"quantum {quantum} must be at least 1 token")

        def quantum_of(tenant: str) -> int:
            return quantum * max(1, tenant_weight(tenant))

        common = math.lcm(*lanes.values())
        self._lanes = {name: _Lane(weight, common // weight, quantum_of) for name, weight in lanes.items()}
        self._start = self._floor = 0
        self._calls: dict[str, Waiting] = {}
        self._deadlines: list[tuple[float, int, Waiting]] = []
        self._stamps = count()
        self._paused: set[str] = set()

    def __len__(self) -> int:
        """Calls that wait, also those of paused tenants."""
        return len(self._calls)

    def get(self, id: str) -> Waiting | None:
        """The call with that id, if it waits."""
        return self._calls.get(id)

    def put(self, waiting: Waiting) -> None:
        """Let a call wait. Raises ValueError for an id that waits already and for an unknown lane."""
        lane = self._lane(waiting.lane)
        if waiting.id in self._calls:
            raise ValueError(f"call {waiting.id} waits already")
        self._calls[waiting.id] = waiting
        if waiting.deadline is not None:
            self._watch(waiting.deadline, waiting)
        share = lane.share(waiting.tenant)
        share.add(waiting, next(self._stamps))
        if share.stamp:
            if share.head() is waiting:
                lane.rank(share)
        elif waiting.tenant not in self._paused:
            self._enter(lane, share)

    def peek(self) -> Waiting | None:
        """The next call; None if none waits or all are paused."""
        lane = self._next()
        front = lane.front() if lane else None
        return front[4].head() if front else None

    def take(self) -> Waiting:
        """Remove what `peek` gives and charge its estimate. Raises LookupError if there is none."""
        lane = self._next()
        front = lane.front() if lane else None
        if lane is None or front is None:
            raise LookupError("no call waits that may go")
        waiting = front[4].head()
        self._start = lane.start
        lane.charge(front[0], front[4], waiting.tokens)
        self._remove(waiting)
        return waiting

    def discard(self, id: str) -> Waiting | None:
        """Remove a call without a charge; None if it does not wait."""
        waiting = self._calls.get(id)
        if waiting is not None:
            self._remove(waiting)
        return waiting

    def expired(self, now: float) -> list[Waiting]:
        """Remove and give the calls whose deadline has come, the earliest first."""
        gone = []
        while self._deadlines and self._deadlines[0][0] <= now:
            waiting = heappop(self._deadlines)[2]
            if self._calls.get(waiting.id) is waiting:
                self._remove(waiting)
                gone.append(waiting)
        return gone

    def settle(self, tenant: str, lane: str, reserved: int, used: int) -> None:
        """Correct the charge of a call that was taken: `reserved` is its estimate, `used` what it used, in tokens.

        Raises ValueError for an unknown lane and for negative tokens. A tenant answers in full for what it used: the
        caller bounds what an endpoint may claim.
        """
        if reserved < 0 or used < 0:
            raise ValueError(f"tenant {tenant} cannot have reserved {reserved} and used {used} tokens")
        one = self._lane(lane)
        one.start = max(self._floor, one.start - (reserved - used) * one.step)
        one.correct(tenant, reserved - used)

    def pause(self, tenant: str) -> None:
        """Skip the tenant's calls, those that wait and those to come, until it is resumed."""
        self._paused.add(tenant)
        for lane in self._lanes.values():
            if tenant in lane.shares:
                lane.shares[tenant].stamp = 0

    def resume(self, tenant: str) -> None:
        """Let a paused tenant's calls go again; it comes back as if it had been idle."""
        if tenant in self._paused:
            self._paused.remove(tenant)
            for lane in self._lanes.values():
                if tenant in lane.shares:
                    self._enter(lane, lane.shares[tenant])

    def place(self, id: str) -> Place:
        """What is before a call in its tenant and lane; O(n log n) of these. Raises KeyError if it does not wait."""
        waiting = self._calls[id]
        calls = self._lanes[waiting.lane].shares[waiting.tenant].ordered()
        before = [one.tokens for one in takewhile(lambda one: one.id != id, calls)]
        return Place(len(before), sum(before))

    def waiting(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Calls and tokens that wait, by lane and tenant; O(n) of the tenants."""
        lanes = self._lanes.items()
        return {
            (name, one.tenant): (len(one.calls), one.tokens) for name, lane in lanes for one in lane.shares.values()
        }

    def _lane(self, name: str) -> _Lane:
        if name not in self._lanes:
            raise ValueError(f"lane {name} is unknown; there are {', '.join(self._lanes)}")
        return self._lanes[name]

    def _next(self) -> _Lane | None:
        """The lane whose turn it is. Among equals: who was not served since it was idle, then the heavier."""
        busy = [lane for lane in self._lanes.values() if lane.front()]
        return min(busy, key=lambda lane: (lane.start, lane.served, -lane.weight), default=None)

    def _enter(self, lane: _Lane, share: _Share) -> None:
        """Let a tenant take part, and its lane, if that was idle."""
        if not lane.front():
            now = min((one.start for one in self._lanes.values() if one.front()), default=self._start)
            self._floor = max(self._floor, now)
            lane.start = max(lane.start, now)
            lane.served = False
        lane.enter(share)

    def _watch(self, deadline: float, waiting: Waiting) -> None:
        """Remember a deadline, and forget those of calls that are gone once they are the most."""
        heappush(self._deadlines, (deadline, next(self._stamps), waiting))
        if len(self._deadlines) > 2 * len(self._calls) + SLACK:
            self._deadlines = [entry for entry in self._deadlines if self._calls.get(entry[2].id) is entry[2]]
            heapify(self._deadlines)

    def _remove(self, waiting: Waiting) -> None:
        del self._calls[waiting.id]
        lane = self._lanes[waiting.lane]
        share = lane.shares[waiting.tenant]
        del share.calls[waiting.id]
        share.tokens -= waiting.tokens
        if not share.calls:
            share.stamp = 0
            del lane.shares[share.tenant]
            lane.keep(share.tenant, share.account)
        elif share.stamp:
            lane.rank(share)
