"""One endpoint as a replica sees it: how many calls it bears, whether it is well, and until when it is closed.

A call is let through before it is sent: its receipt goes to the log first. So a few more are let through than there
are places, as many as come free in that time, and each takes its place when it is about to be sent. No place lies idle
while a receipt is written, and no more calls are in flight than the endpoint bears.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from callstream.agents.inference.admission.allowance import Unit
from callstream.agents.inference.admission.breaker import Breaker
from callstream.agents.inference.admission.decide import Endpoint
from callstream.agents.inference.admission.ratelimit import Told
from callstream.agents.inference.admission.window import ConcurrencyWindow
from callstream.agents.inference.call import CallFailed
from callstream.agents.inference.failures import Kind
from callstream.agents.inference.options import EndpointOptions

REFUSALS_THAT_CLOSE = 3
SHORT_SECONDS = 0.5
"""How long an endpoint is left alone that refuses and does not say for how long: at first, and after it answered."""
LONG_SECONDS = 8.0
"""How long at most, if it goes on refusing and answers nothing: it doubles each time."""
MOST_AHEAD = 0.25
"""Of the window, what is let through ahead at most."""
SMOOTH = 0.1
NOT_HEALTH = frozenset(
    {Kind.REFUSED, Kind.REFUSED_BY_POLICY, Kind.CONTEXT_TOO_LONG, Kind.REPLY_TOO_LONG, Kind.DEADLINE, Kind.STOPPING}
)


def own_account(endpoint: str) -> str:
    """The name that an endpoint's own limits are kept under; no account can be called so."""
    return f"@{endpoint}"


@dataclass(eq=False, slots=True)
class Sending:
    """A call from when it is let through to when it comes back. Moments are seconds of a monotonic clock."""

    admitted: float
    placed: float | None = None
    in_flight: int = 0


@dataclass(eq=False, slots=True)
class Desk:
    """Places at one endpoint, and what its answers say of it."""

    options: EndpointOptions
    window: ConcurrencyWindow
    breaker: Breaker
    clock: Callable[[], float]
    closed_until: float = 0.0
    coming: int = 0
    _waiting: deque["asyncio.Future[None]"] = field(default_factory=deque)
    _shrunk: float = -math.inf
    _refusals: int = 0
    _guessed_until: float = 0.0
    _before_seconds: float = 0.0
    _call_seconds: float = 0.0

    @property
    def accounts(self) -> tuple[str, ...]:
        """The names of its own limits and of its account's."""
        own = own_account(self.options.name)
        return (own,) if self.options.account is None else (own, self.options.account)

    @property
    def places(self) -> int:
        """How many more calls may be let through now."""
        limit = self.window.limit
        ahead = 0.0
        if self._call_seconds:
            ahead = min(limit * MOST_AHEAD, limit * self._before_seconds / self._call_seconds)
        return limit + math.ceil(ahead) - self.window.in_flight - self.coming

    def view(self, opens: float, unit: Unit | None, now: float) -> Endpoint:
        """The endpoint as a decision sees it; `opens` is when its accounts have room for the call, and `unit` of what.

        Times are seconds of the desk's clock.
        """
        return Endpoint(
            name=self.options.name,
            weight=self.options.weight,
            in_flight=self.window.in_flight + self.coming,
            places=self.places,
            context_tokens=self.options.context_tokens,
            opens=opens,
            unit=unit,
            closed_until=self.closed_until,
            breaker_opens=self.breaker.opens_at(now),
        )

    def let_through(self, now: float) -> Sending:
        """A call is on its way to be sent."""
        self.breaker.may(now)
        self.coming += 1
        return Sending(now)

    async def place(self, sending: Sending) -> None:
        """Take a place for a call that is ready to be sent; waits for one to come free."""
        ready = self.clock()
        self._before_seconds = _smooth(self._before_seconds, ready - sending.admitted)
        while self.window.in_flight >= self.window.limit:
            free = asyncio.get_running_loop().create_future()
            self._waiting.append(free)
            try:
                await free
            except asyncio.CancelledError:
                self._wake()
                raise
            finally:
                if free in self._waiting:
                    self._waiting.remove(free)
        now = self.clock()
        self.coming -= 1
        self.window.started(now)
        sending.placed, sending.in_flight = now, self.window.in_flight

    def answered(self, sending: Sending) -> None:
        """The endpoint answered."""
        now = self.clock()
        if sending.placed is not None:
            seconds = now - sending.placed
            self._call_seconds = _smooth(self._call_seconds, seconds)
            self.window.answered(now, seconds)
        self.breaker.succeeded(now, sending.admitted)
        self._refusals = 0
        if self.closed_until == self._guessed_until:
            self.closed_until = self._guessed_until = min(self.closed_until, now + SHORT_SECONDS)
        self._left(sending)

    def failed(self, sending: Sending, failure: CallFailed, told: Told | None) -> None:
        """It did not; `told` is what it said of its limits."""
        now = self.clock()
        if failure.kind == Kind.OVERLOADED:
            self._refused(sending, failure, told, now)
        elif failure.kind in NOT_HEALTH:
            self._unknown(sending)
            self.breaker.succeeded(now, sending.admitted)
        else:
            if failure.kind in (Kind.UNAVAILABLE, Kind.TIMEOUT) and sending.placed is not None:
                self.window.overloaded(now, sending.in_flight)
            else:
                self._unknown(sending)
            self.breaker.failed(now, sending.admitted)
            if failure.after_seconds:
                self.closed_until = max(self.closed_until, now + failure.after_seconds)
        self._left(sending)

    def lost(self, sending: Sending) -> None:
        """Nothing is known of the call."""
        self._unknown(sending)
        self.breaker.abandoned(self.clock(), sending.admitted)
        self._left(sending)

    def _refused(self, sending: Sending, failure: CallFailed, told: Told | None, now: float) -> None:
        """A 429. While others are answered it is about how many may run at once; else about what a minute may hold."""
        self.breaker.abandoned(now, sending.admitted)
        used_up = told is not None and 0 in (told.requests_left, told.tokens_left)
        if used_up or sending.placed is None:
            self._unknown(sending)
        else:
            self.window.overloaded(now, sending.in_flight)
        if sending.admitted >= self._shrunk:
            self._shrunk = now
            self._refusals += 1
        if used_up or not self.window.in_flight or self._refusals >= REFUSALS_THAT_CLOSE:
            told_seconds = failure.after_seconds or _reset(told)
            until = now + (told_seconds or self._guess())
            if until > self.closed_until:
                self.closed_until = until
                self._guessed_until = 0.0 if told_seconds else until

    def _guess(self) -> float:
        doublings = max(0, self._refusals - REFUSALS_THAT_CLOSE)
        return float(min(LONG_SECONDS, SHORT_SECONDS * 2 ** min(doublings, 16)))

    def _unknown(self, sending: Sending) -> None:
        if sending.placed is not None:
            self.window.abandoned()

    def _left(self, sending: Sending) -> None:
        if sending.placed is None:
            self.coming -= 1
        self._wake()

    def _wake(self) -> None:
        room = self.window.limit - self.window.in_flight
        while self._waiting and room > 0:
            free = self._waiting.popleft()
            if not free.done():
                free.set_result(None)
                room -= 1


def _smooth(before: float, latest: float) -> float:
    return latest if not before else before + SMOOTH * (latest - before)


def _reset(told: Told | None) -> float | None:
    if told is None:
        return None
    resets = [one for one in (told.requests_reset_seconds, told.tokens_reset_seconds) if one is not None]
    return max(resets) if resets else None
