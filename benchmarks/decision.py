"""What does it cost to decide upon a call? CPU time that admission adds to each, with many calls waiting.

    python -m benchmarks.decision --waiting 10000 --tenants 100 --calls 20000

No broker, no sockets: the real queue, purse and gate over rows in memory, and clocks set by hand. Ten thousand calls
wait all the time (whoever goes is replaced), their tenants' weights and sizes differ, and the windows of a minute are
full. First the parts one after the other, as the gate calls them; then the gate itself, with a coroutine for each call,
beside the same coroutines with a bare semaphore. Times are of this process alone (`time.process_time`), in µs a call;
garbage is collected as often as in a worker.
"""

import argparse
import asyncio
import gc
import statistics
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from benchmarks.harness import write_json
from callstream.agents.inference.admission.allowance import Amount
from callstream.agents.inference.admission.decide import Go, decide
from callstream.agents.inference.admission.desk import Desk, Sending
from callstream.agents.inference.admission.fairness import FairQueue, Waiting
from callstream.agents.inference.admission.fakes import MemorySpending
from callstream.agents.inference.admission.gates import Gates, limits_of
from callstream.agents.inference.admission.permit import Permit
from callstream.agents.inference.admission.purse import Purse, Reserved
from callstream.agents.inference.admission.tokens import Estimator, Reservation
from callstream.agents.inference.call import Call, Reply
from callstream.agents.inference.fakes import a_call
from callstream.agents.inference.options import InferenceOptions
from callstream.app import GC_THRESHOLD
from callstream.streams.event import Priority, Usage

PARTITIONS = 8
IN_FLIGHT = 32
TOGETHER = 8
"""So many calls are answered, and so many go, before the log takes their rows."""
GAP_SECONDS = 0.004
"""Between two calls: 250 a second, so that 15,000 of them are in a minute's window."""
EPOCH = 1_764_000_000.0
LANES = (Priority.HIGH, Priority.NORMAL, Priority.NORMAL, Priority.LOW)
ACCOUNT = {"requests_per_minute": 1_000_000, "tokens_per_minute": 1_000_000_000}
PARTS = ("estimate", "put", "decide and reserve", "rows", "settle")

Figures = dict[str, float]


class Clock:
    """A monotonic clock and one of epoch seconds, both set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now

    def wall(self) -> float:
        """Epoch seconds."""
        return self.now + EPOCH


class Watch:
    """CPU time by part."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Count what runs inside for that part."""
        began = time.process_time()
        try:
            yield
        finally:
            self.seconds[part] += time.process_time() - began


def options(tenants: int) -> InferenceOptions:
    """A pool of two endpoints of one account, and tenants of weights 1 to 5."""
    endpoint = {
        "base_url": "http://localhost/v1",
        "model": "m",
        "account": "acme",
        "concurrency": IN_FLIGHT,
        "start_concurrency": IN_FLIGHT,
    }
    return InferenceOptions.model_validate(
        {
            "accounts": {"acme": ACCOUNT},
            "tenants": {f"tenant-{number}": 1 + number % 5 for number in range(tenants)},
            "pools": {"pool": {"endpoints": [{"name": name, **endpoint} for name in ("a", "b")]}},
        }
    )


def calls_of(tenants: int) -> Iterator[Call]:
    """Calls without end: of all tenants in turn, in all lanes, of many sizes."""
    number = 0
    while True:
        words = "sturdy " * (5 + number * 7 % 60)
        yield a_call(
            id=f"call-{number}",
            task=f"task-{number}",
            tenant=f"tenant-{number * 13 % tenants}",
            pool="pool",
            priority=LANES[number // tenants % len(LANES)],
            request={"messages": [{"role": "user", "content": words}], "max_tokens": 50 + number * 11 % 200},
        )
        number += 1


def took(estimate: Reservation) -> Amount:
    """What a call turns out to take: less than was reckoned with."""
    return Amount(estimate.tokens_in * 4 // 5, max(1, estimate.tokens_out // 2))


@dataclass(frozen=True, slots=True)
class Gone:
    """A call that was let through."""

    waiting: Waiting
    desk: Desk
    sending: Sending
    reserved: Reserved


class Parts:
    """What the gate does with a call, part by part, each part for some calls together."""

    def __init__(self, given: InferenceOptions, waiting: int, tenants: int) -> None:
        self.clock, self.watch = Clock(), Watch()
        clocks = (self.clock.monotonic, self.clock.wall)
        accounts = {name: limits_of(limits) for name, limits in given.accounts.items()}
        accounts |= {f"@{name}": () for name in given.endpoints()}
        self.purse = Purse(accounts, PARTITIONS, 1.5, MemorySpending(owned=frozenset(range(PARTITIONS))), clocks)
        self.desks = Gates(given, clocks)["pool"].desks
        lanes = {str(lane): weight for lane, weight in given.lanes.items()}
        self.queue = FairQueue(lanes, lambda tenant: given.tenants.get(tenant, 1))
        self.estimator = Estimator()
        self.calls = calls_of(tenants)
        self.seats: dict[str, tuple[Call, Reservation, Amount]] = {}
        for _ in range(waiting // TOGETHER):
            self.arrive()

    async def run(self, calls: int) -> Figures:
        """Let so many calls go; µs a call by part."""
        self.watch.seconds.clear()
        for _ in range(calls // TOGETHER):
            went = self.admit()
            await self.write(went)
            self.settle(went)
            self.arrive()
        return {part: seconds / calls * 1e6 for part, seconds in self.watch.seconds.items()}

    def arrive(self) -> None:
        """Calls come, to replace those that went."""
        came = [next(self.calls) for _ in range(TOGETHER)]
        with self.watch.of("estimate"):
            estimates = [self.estimator.reserve("m", call.request) for call in came]
        with self.watch.of("put"):
            for call, estimate in zip(came, estimates, strict=True):
                self.seats[call.id] = call, estimate, Amount(estimate.tokens_in, estimate.tokens_out)
                self.queue.put(Waiting(call.id, call.tenant, str(call.priority), estimate.total, self.clock.now, None))

    def admit(self) -> list[Gone]:
        """Some calls go, all that there is to decide."""
        went = []
        with self.watch.of("decide and reserve"):
            for _ in range(TOGETHER):
                self.clock.now += GAP_SECONDS
                now = self.clock.now
                self.purse.refresh()
                head = self.queue.peek()
                if head is None:
                    raise SystemExit("void: nothing waits")
                call, _, amount = self.seats[head.id]
                views = [desk.view(*self.purse.opens(desk.accounts, amount, now), now) for desk in self.desks]
                decision = decide(amount, head.deadline, views, call.tried, now)
                if not isinstance(decision, Go):
                    raise SystemExit(f"void: a call could not go: {decision}")
                self.queue.take()
                desk = next(desk for desk in self.desks if desk.options.name == decision.endpoint)
                reserved = self.purse.reserve(desk.accounts, amount, now)
                went.append(Gone(head, desk, desk.let_through(now), reserved))
        return went

    async def write(self, went: list[Gone]) -> None:
        """Their reservations, to a log that takes them at once."""
        with self.watch.of("rows"):
            written = [self.purse.written(gone.reserved) for gone in went]
            await asyncio.gather(*(one for one in written if one is not None))

    def settle(self, went: list[Gone]) -> None:
        """They are answered."""
        seats = [self.seats.pop(gone.waiting.id) for gone in went]
        with self.watch.of("settle"):
            for gone, (_, estimate, _) in zip(went, seats, strict=True):
                amount, head = took(estimate), gone.waiting
                gone.desk.answered(gone.sending)
                self.purse.settle(gone.reserved, amount)
                self.queue.settle(head.tenant, head.lane, head.tokens, amount.total)
        with self.watch.of("estimate"):
            for call, estimate, _ in seats:
                amount = took(estimate)
                self.estimator.learn("m", call.request, estimate, amount.tokens_in, amount.tokens_out)


class Whole:
    """A coroutine for each call that waits. `gate` is a pool's; without one a semaphore lets calls through."""

    def __init__(self, gates: Gates | None, clock: Clock, tenants: int) -> None:
        self.gates, self.clock = gates, clock
        self.calls = calls_of(tenants)
        self.places = asyncio.Semaphore(2 * IN_FLIGHT)
        self.sent: deque[asyncio.Future[None]] = deque()
        self.done = 0

    async def caller(self) -> None:
        """Calls without end, each waits, goes, and is answered."""
        for call in self.calls:
            if self.gates is None:
                async with self.places:
                    await self.answer()
            else:
                permit = await self.gates["pool"].admit(call)
                await permit.place()
                permit.require()
                permit.sent = True
                await self.answer()
                permit.answered(self.reply(permit))
            self.done += 1

    def reply(self, permit: Permit) -> Reply:
        """What the endpoint says that it took."""
        amount = took(Reservation(permit.amount.tokens_in, permit.amount.tokens_out))
        return Reply("", usage=Usage(tokens_in=amount.tokens_in, tokens_out=amount.tokens_out))

    async def answer(self) -> None:
        """Wait for the endpoint."""
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sent.append(answered)
        await answered

    async def run(self, calls: int) -> float:
        """Answer so many calls; µs a call."""
        began, target = time.process_time(), self.done + calls
        while self.done < target:
            for _ in range(min(TOGETHER, len(self.sent))):
                self.clock.now += GAP_SECONDS
                self.sent.popleft().set_result(None)
            for _ in range(8):
                await asyncio.sleep(0)
        return (time.process_time() - began) / calls * 1e6


@asynccontextmanager
async def whole(given: InferenceOptions, arguments: argparse.Namespace, decided: bool) -> AsyncIterator[Whole]:
    """Callers that wait, ended afterwards."""
    clock, gates = Clock(), None
    if decided:
        gates = Gates(given, (clock.monotonic, clock.wall))
        gates.share(MemorySpending(owned=frozenset(range(PARTITIONS))), PARTITIONS)
    made = Whole(gates, clock, arguments.tenants)
    callers = [asyncio.create_task(made.caller()) for _ in range(arguments.waiting)]
    await asyncio.sleep(0)
    try:
        yield made
    finally:
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        if gates is not None:
            await gates.close()


async def measure(arguments: argparse.Namespace) -> Figures:
    """Medians over all rounds, by name. A first round fills the windows and is not counted."""
    given = options(arguments.tenants)
    parts = Parts(given, arguments.waiting, arguments.tenants)
    rounds = [await parts.run(arguments.calls) for _ in range(1 + arguments.rounds)][1:]
    figures = {name: statistics.median(each[name] for each in rounds) for name in PARTS}
    figures["decision"] = statistics.median(
        each["put"] + each["decide and reserve"] + each["settle"] for each in rounds
    )
    figures["all parts"] = statistics.median(sum(each.values()) for each in rounds)
    del parts
    for name, decided in (("gate", True), ("bare semaphore", False)):
        async with whole(given, arguments, decided) as running:
            times = [await running.run(arguments.calls) for _ in range(1 + arguments.rounds)][1:]
        figures[name] = statistics.median(times)
    figures["gate adds"] = figures["gate"] - figures["bare semaphore"]
    return {name: round(value, 1) for name, value in figures.items()}


def main() -> None:
    """Run once and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waiting", type=int, default=10_000)
    parser.add_argument("--tenants", type=int, default=100)
    parser.add_argument("--calls", type=int, default=20_000, help="in each round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    gc.set_threshold(*GC_THRESHOLD)
    figures = asyncio.run(measure(arguments))
    for name, value in figures.items():
        print(f"{name:>24}  {value:7.1f} µs")
    write_json("decision", {**vars(arguments), "microseconds_a_call": figures})


if __name__ == "__main__":
    main()
