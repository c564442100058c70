"""Calls outlive a rebalance: a call runs in a task of its own, and who asks for it again joins it.

When the caller is cancelled, the call goes on for a grace time. An event that comes back to this worker within it
joins the call under way, or finds its answer, in place of paying a second time. What nobody claims is cancelled.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, replace

from callstream.agents.inference.call import Call, CallFailed, Model, Reply
from callstream.agents.inference.failures import Kind, failed
from callstream.agents.inference.options import FlightOptions


@dataclass(eq=False, slots=True)
class _Flight:
    task: asyncio.Task[Reply]
    owner: tuple[str, str]
    waiters: int = 0
    grace: asyncio.TimerHandle | None = None


@dataclass(frozen=True, slots=True)
class FlightsSnapshot:
    """Calls in flight with somebody waiting for them, and calls that nobody waits for."""

    claimed: int
    unclaimed: int


class Flights:
    """The calls under way in this process, by call id; `run` names the process. An instance is a Layer."""

    def __init__(self, options: FlightOptions, run: str) -> None:
        self._options = options
        self._run = run
        self._departed = 0
        self._flights: dict[str, _Flight] = {}
        self._unclaimed: dict[str, _Flight] = {}

    def __call__(self, inner: Model) -> Model:
        """The layer."""

        async def fly(call: Call) -> Reply:
            while True:
                flight = self._flights.get(call.id)
                joined = flight is not None
                flight = flight or self._depart(inner, call)
                await self._ride(call.id, flight)
                if flight.task.cancelled():
                    raise failed(Kind.STOPPING, "the worker is being stopped")
                error = flight.task.exception()
                # Joined calls hold the row of their first caller; if that one has lost it, we still own ours.
                if joined and error is not None and not isinstance(error, CallFailed):
                    continue
                return flight.task.result()

        return fly

    def tasks(self) -> Counter[tuple[str, str]]:
        """How many calls each task has under way, by tenant and id."""
        return Counter(flight.owner for flight in self._flights.values())

    def cut(self, tenant: str, task: str) -> None:
        """Cancel the calls of a task that nobody waits for any more, without a grace time."""
        for call_id, flight in list(self._flights.items()):
            if flight.owner == (tenant, task) and flight.waiters == 0:
                self._forget(call_id, flight)

    def snapshot(self) -> FlightsSnapshot:
        """What is under way."""
        return FlightsSnapshot(len(self._flights) - len(self._unclaimed), len(self._unclaimed))

    async def close(self) -> None:
        """Cancel every call and wait until it is gone."""
        flights = list(self._flights.values())
        for call_id, flight in list(self._flights.items()):
            self._forget(call_id, flight)
        await asyncio.gather(*(flight.task for flight in flights), return_exceptions=True)

    def _depart(self, inner: Model, call: Call) -> _Flight:
        self._departed += 1
        named = replace(call, flight=f"{self._run}.{self._departed}")
        flight = _Flight(asyncio.ensure_future(inner(named)), (call.tenant, call.task))
        self._flights[call.id] = flight
        flight.task.add_done_callback(lambda task: self._landed(call.id, flight, task))
        return flight

    async def _ride(self, call_id: str, flight: _Flight) -> None:
        """Wait until the flight has landed. Cancelling the waiter leaves the flight alone."""
        flight.waiters += 1
        self._claim(call_id, flight)
        try:
            await asyncio.wait((flight.task,))
        except asyncio.CancelledError:
            flight.waiters -= 1
            if flight.waiters == 0:
                self._leave(call_id, flight)
            raise
        flight.waiters -= 1
        if flight.waiters == 0:
            self._forget(call_id, flight)

    def _claim(self, call_id: str, flight: _Flight) -> None:
        self._unclaimed.pop(call_id, None)
        if flight.grace is not None:
            flight.grace.cancel()
            flight.grace = None

    def _leave(self, call_id: str, flight: _Flight) -> None:
        if self._flights.get(call_id) is not flight:
            return
        self._unclaimed[call_id] = flight
        loop = asyncio.get_running_loop()
        flight.grace = loop.call_later(self._options.grace_seconds, self._forget, call_id, flight)
        while len(self._unclaimed) > self._options.most_unclaimed:
            self._forget(*next(iter(self._unclaimed.items())))

    def _landed(self, call_id: str, flight: _Flight, task: "asyncio.Task[Reply]") -> None:
        """An answer waits for its claimant until the grace ends; a failure is worth nothing to anybody later."""
        if (task.cancelled() or task.exception() is not None) and flight.waiters == 0:
            self._forget(call_id, flight)

    def _forget(self, call_id: str, flight: _Flight) -> None:
        self._claim(call_id, flight)
        flight.task.cancel()
        if self._flights.get(call_id) is flight:
            del self._flights[call_id]
