"""Admission as a whole: replicas that share limits, an endpoint that counts, and everything that may happen to them.

Gates, queues, purses and rows are the real ones; time is virtual, so that minutes take milliseconds. The endpoint's
judge keeps when each request reached it and what that took, and shares nothing with what it judges.
"""

import asyncio
import selectors
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from callstream.agents.inference.admission.allowance import Amount
from callstream.agents.inference.admission.fakes import MemorySpending
from callstream.agents.inference.admission.gates import Gates
from callstream.agents.inference.admission.permit import Permit, Stale
from callstream.agents.inference.call import Call, Reply
from callstream.agents.inference.failures import Kind, failed
from callstream.agents.inference.fakes import a_call
from callstream.agents.inference.options import InferenceOptions
from callstream.streams.event import Priority, Usage
from callstream.streams.ownership import LostOwnership

EPOCH = 1_764_000_000.0
MINUTE = 60.0
MARGIN = 1.5
SEND_SECONDS = 1.0
"""How long a permit is good for."""
NETWORK_SECONDS = MARGIN - SEND_SECONDS
PARTITIONS = 4
TOKENS, REQUESTS = 600, 40
MOST_OUT = 100
"""With its prompt a call fits in one quota of the smallest share, TOKENS / PARTITIONS."""
PROMPT, MOST_PROMPT = 8, 40
"""What a prompt takes, and the most that is ever reckoned with."""
LOG_SECONDS = 0.02
CALL_SECONDS = 0.3
HOUR = 3600.0


class Skipping(selectors.SelectSelector):
    """Nothing is waited for: time goes on by as much at once."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout > 0:
            self.now += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is virtual."""

    def __init__(self) -> None:
        self._virtual = Skipping()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


class Rows(MemorySpending):
    """Rows under a lease, on a log that takes a while; what was begun before a rebalance is not written after it."""

    lease = True

    def owned(self) -> frozenset[int]:
        return super().owned() if self.lease else frozenset()

    async def write(self, partition: int, key: bytes, value: bytes) -> None:
        epoch = self.epoch
        await asyncio.sleep(LOG_SECONDS)
        if epoch != self.epoch or not self.lease:
            raise LostOwnership(f"partition {partition} was revoked")
        await super().write(partition, key, value)


@dataclass(frozen=True)
class Way:
    """How a call fares: `out` tokens asked for, which part of what was reserved it takes, and how late it is sent.

    `held` is from its permit to its last byte, `network` from there to the endpoint, which turns some away (429).
    """

    tenant: str = "a"
    lane: Priority = Priority.NORMAL
    out: int = 50
    part: float = 1.0
    held: float = 0.0
    network: float = 0.0
    refused: bool = False


@dataclass(frozen=True)
class Seen:
    """A request as the judge has it."""

    at: float
    tokens: int


@dataclass
class Judge:
    """What reached the endpoint."""

    seen: list[Seen] = field(default_factory=list)

    def most(self) -> tuple[int, int]:
        """The most tokens and requests in any 60 s."""
        ordered = sorted(self.seen, key=lambda one: one.at)
        tokens = requests = 0
        for position, first in enumerate(ordered):
            within = [one.tokens for one in ordered[position:] if one.at < first.at + MINUTE]
            tokens, requests = max(tokens, sum(within)), max(requests, len(within))
        return tokens, requests


class Replica:
    """One process: its gates, its clocks, and the calls that it has. `skew` is how far its clock of epoch seconds is
    off, `stepped` by how much somebody has set it wrong."""

    def __init__(self, world: "World", skew: float) -> None:
        self.world, self.skew, self.stepped = world, skew, 0.0
        self.offset = 1e5 * (1 + len(world.made))
        self.rows = Rows(world.log)
        self.gates = Gates(world.options, (self.monotonic, self.wall))
        self.gates.share(self.rows, PARTITIONS)
        self.calls: set[asyncio.Task[None]] = set()
        self.runs = asyncio.Event()
        self.runs.set()
        world.made.append(self)

    def monotonic(self) -> float:
        return self.offset + asyncio.get_running_loop().time()

    def wall(self) -> float:
        return EPOCH + asyncio.get_running_loop().time() + self.skew + self.stepped

    def a_call(self, way: Way) -> Call:
        number = self.world.number()
        return a_call(
            id=f"call-{number}",
            task=f"task-{number}",
            tenant=way.tenant,
            priority=way.lane,
            request={"messages": [], "max_tokens": way.out},
        )

    def arrive(self, way: Way) -> None:
        task = asyncio.create_task(self.go(self.a_call(way), way))
        self.calls.add(task)
        task.add_done_callback(self.calls.discard)

    async def go(self, call: Call, way: Way) -> None:
        """As the layer of admission does: a call whose permit is worth nothing any more waits anew."""
        while True:
            try:
                permit = await self.gates["copywriter"].admit(call)
            except Stale:
                continue
            self.world.booked.append((call.tenant, permit.amount.total))
            try:
                await self.send(permit, way)
            except Stale:
                permit.abandoned()
                way = Way(way.tenant, way.lane, way.out, way.part)
                continue
            await self.sleep(CALL_SECONDS)
            if not way.refused:
                break
            permit.refused(failed(Kind.OVERLOADED, "HTTP 429"), None)
            way = Way(way.tenant, way.lane, way.out, way.part)
        took = self.took(permit.amount, way)
        if took.total < permit.amount.total:
            self.world.booked.append((call.tenant, took.total - permit.amount.total))
        permit.answered(Reply("", usage=Usage(tokens_in=took.tokens_in, tokens_out=took.tokens_out)))

    async def send(self, permit: Permit, way: Way) -> None:
        await self.sleep(way.held)
        await permit.place()
        permit.require()
        permit.sent = True
        tokens = 0 if way.refused else self.took(permit.amount, way).total
        self.world.judge.seen.append(Seen(asyncio.get_running_loop().time() + way.network, tokens))

    def took(self, amount: Amount, way: Way) -> Amount:
        assert PROMPT <= amount.tokens_in <= MOST_PROMPT
        return Amount(PROMPT, round(amount.tokens_out * way.part))

    async def sleep(self, seconds: float) -> None:
        """Wait, and longer if the process is stopped meanwhile."""
        await asyncio.sleep(seconds)
        await self.runs.wait()

    def stop(self) -> None:
        """SIGSTOP, for so long that its lease is over: it does nothing until it goes on."""
        self.runs.clear()
        self.rows.lease = False

    async def kill(self) -> None:
        """SIGKILL: what it did not write is lost, what it sent was sent."""
        self.rows.rebalance(frozenset())
        for task in self.calls:
            task.cancel()
        await asyncio.gather(*self.calls, return_exceptions=True)
        await self.gates.close()


class World:
    """Three replicas, what is on the log, and the judge."""

    def __init__(self, options: InferenceOptions, skews: tuple[float, ...]) -> None:
        self.options = options
        self.log: dict[tuple[int, bytes], bytes] = {}
        self.judge = Judge()
        self.made: list[Replica] = []
        self.booked: list[tuple[str, int]] = []
        self._number = 0
        self.replicas = [Replica(self, skew) for skew in skews]
        self.assign([number % len(skews) for number in range(PARTITIONS)])

    def number(self) -> int:
        self._number += 1
        return self._number

    def revoke(self) -> None:
        for replica in self.replicas:
            if replica.runs.is_set():
                replica.rows.rebalance(frozenset())
                replica.gates.pump()

    def assign(self, owners: list[int]) -> None:
        """Give each partition to one replica; what would go to a stopped one goes to the next."""
        alive = [replica for replica in self.replicas if replica.runs.is_set()]
        given: dict[int, set[int]] = {}
        for partition, owner in enumerate(owners):
            given.setdefault(owner % len(alive), set()).add(partition)
        for number, replica in enumerate(alive):
            replica.rows.lease = True
            replica.rows.rebalance(frozenset(given.get(number, ())))
            replica.gates.pump()

    async def do(self, step: tuple[Any, ...]) -> None:
        match step:
            case ("arrive", who, count, way):
                if (replica := self.replicas[who]).runs.is_set():
                    for _ in range(count):
                        replica.arrive(way)
            case ("rebalance", pause, owners):
                self.revoke()
                await asyncio.sleep(pause)
                self.assign(owners)
            case ("stop", who, pause, owners):
                if sum(replica.runs.is_set() for replica in self.replicas) > 1:
                    self.replicas[who].stop()
                    await asyncio.sleep(pause)
                    self.revoke()
                    self.assign(owners)
            case ("go on", who):
                self.replicas[who].runs.set()
            case ("kill", who, pause, owners):
                await self.replicas[who].kill()
                self.replicas[who] = Replica(self, self.replicas[who].skew)
                await asyncio.sleep(pause)
                self.revoke()
                self.assign(owners)
            case ("step clock", who, seconds):
                self.replicas[who].stepped = seconds
        await asyncio.sleep(0)

    async def quiet(self, most_seconds: float) -> int:
        """Nothing happens until all calls are done, or so long; how many still wait."""
        for replica in self.replicas:
            replica.runs.set()
        self.assign([*range(PARTITIONS)])
        calls = [call for replica in self.replicas for call in replica.calls]
        _, left = await asyncio.wait(calls, timeout=most_seconds) if calls else ((), ())
        return len(left)

    async def close(self) -> None:
        for replica in self.replicas:
            await replica.kill()


def run(world: Coroutine[Any, Any, None]) -> None:
    """Raises what the world raises."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(world)


def options(**limits: int) -> InferenceOptions:
    endpoint = {
        "name": "a",
        "base_url": "http://h/v1",
        "model": "m",
        "concurrency": 50,
        "start_concurrency": 50,
        "limits": limits,
    }
    return InferenceOptions.model_validate(
        {"window_margin_seconds": MARGIN, "tenants": WEIGHTS, "pools": {"copywriter": {"endpoints": [endpoint]}}}
    )


WEIGHTS = {"a": 1, "b": 1, "c": 2, "d": 5}
WHO = st.integers(0, 2)
OWNERS = st.lists(WHO, min_size=PARTITIONS, max_size=PARTITIONS)
PAUSES = st.sampled_from([0.0, 0.0, 0.01, 3.0, 20.0])
WAYS = st.builds(
    Way,
    st.sampled_from([*WEIGHTS]),
    st.sampled_from([*Priority]),
    st.sampled_from([1, 30, MOST_OUT, MOST_OUT]),
    st.sampled_from([1.0, 1.0, 1.0, 0.1]),
    st.sampled_from([0.0, 0.0, 0.3, SEND_SECONDS - LOG_SECONDS - 0.001, 5.0]),
    st.sampled_from([0.0, 0.0, NETWORK_SECONDS]),
    st.sampled_from([False, False, False, True]),
)
STEPS = st.one_of(
    st.tuples(st.just("arrive"), WHO, st.sampled_from([1, 6, 12]), WAYS),
    st.tuples(st.just("arrive"), WHO, st.sampled_from([1, 6, 12]), WAYS),
    st.tuples(st.just("arrive"), WHO, st.sampled_from([1, 6, 12]), WAYS),
    st.tuples(st.just("rebalance"), PAUSES, OWNERS),
    st.tuples(st.just("stop"), WHO, PAUSES, OWNERS),
    st.tuples(st.just("go on"), WHO),
    st.tuples(st.just("kill"), WHO, PAUSES, OWNERS),
    st.tuples(st.just("step clock"), WHO, st.sampled_from([0.0, HOUR, -HOUR])),
)
GAPS = st.sampled_from([0.0, 0.01, 0.4, 2.0, 15.0, 58.0])
SKEWS = st.sampled_from([(0.0, 0.0, 0.0), (-0.7, 0.0, 0.7), (0.7, -0.7, 0.0)])


@settings(max_examples=200)
@given(SKEWS, st.lists(st.tuples(GAPS, STEPS), min_size=8, max_size=30))
def test_no_minute_passes_the_limit_and_every_call_goes_in_the_end(
    skews: tuple[float, ...], steps: list[tuple[float, tuple[Any, ...]]]
) -> None:
    async def story() -> None:
        world = World(options(tokens_per_minute=TOKENS, requests_per_minute=REQUESTS), skews)
        for gap, step in steps:
            await asyncio.sleep(gap)
            await world.do(step)
        left = await world.quiet(3600)
        tokens, requests = world.judge.most()
        assert tokens <= TOKENS
        assert requests <= REQUESTS
        assert left == 0
        await world.close()

    run(story())


@given(
    st.lists(st.tuples(st.floats(0, 30), st.sampled_from([-HOUR, 0.0, HOUR])), min_size=1, max_size=8),
    st.lists(st.tuples(GAPS, WAYS), min_size=4, max_size=12),
)
def test_a_clock_that_is_set_wrong_changes_nothing_within_a_replica(
    clock: list[tuple[float, float]], arrivals: list[tuple[float, Way]]
) -> None:
    async def story(seen: list[Seen], changes: list[tuple[float, float]]) -> None:
        world = World(options(tokens_per_minute=TOKENS, requests_per_minute=REQUESTS), (0.0,))
        changing = asyncio.create_task(change(world, changes))
        for gap, way in arrivals:
            await asyncio.sleep(gap)
            await world.do(("arrive", 0, 3, way))
        assert await world.quiet(3600) == 0
        await changing
        seen += world.judge.seen
        await world.close()

    async def change(world: World, changes: list[tuple[float, float]]) -> None:
        for pause, seconds in changes:
            await asyncio.sleep(pause)
            await world.do(("step clock", 0, seconds))
            await world.do(("rebalance", 0.0, [0] * PARTITIONS))

    right: list[Seen] = []
    wrong: list[Seen] = []
    run(story(right, [(pause, 0.0) for pause, _ in clock]))
    run(story(wrong, clock))
    assert right == wrong


QUANTUM = 1000
LARGE = st.integers(100, 3000)


@given(
    st.fixed_dictionaries({tenant: st.lists(LARGE, min_size=8, max_size=8) for tenant in WEIGHTS}),
    st.fixed_dictionaries({tenant: st.sampled_from([1.0, 0.5, 0.05]) for tenant in WEIGHTS}),
    st.sampled_from([None, 60_000]),
)
def test_no_tenant_with_work_falls_behind_its_share(
    sizes: dict[str, list[int]], parts: dict[str, float], limit: int | None
) -> None:
    """Who falls behind the most is who is last in a round, with a call that does not fit in what it was given.

    When one goes in round r, each tenant was charged at least (r - 1) x quantum x weight less than one call, and at
    most r x quantum x weight. So it is behind its part of all by no more than its largest request and one quantum x
    weight. One largest request alone does not hold: a round is as long as all quanta. What is given back after a call
    puts a tenant behind by as much again, until it has gone so often: that is `owed`. All come before the first one
    goes: who comes in the middle of a round begins with the next, so the rest of that round is not his.
    """

    async def story() -> None:
        world = World(options(**({} if limit is None else {"tokens_per_minute": limit})), (0.0,))
        replica = world.replicas[0]
        (desk,) = replica.gates["copywriter"].desks
        desk.window.set_bounds(1, 4)
        desk.closed_until = replica.monotonic() + 1
        callers = [
            asyncio.create_task(again_and_again(replica, Way(tenant, out=out, part=parts[tenant])))
            for tenant, all_of_it in sizes.items()
            for out in all_of_it
        ]
        await asyncio.sleep(60)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        await world.close()
        served = Counter[str]()
        owed = Counter[str]()
        assert len(world.booked) > 100
        for tenant, tokens in world.booked:
            if tokens > 0:
                check(served, owed)
                owed[tenant] = max(0, owed[tenant] - tokens)
            else:
                owed[tenant] -= tokens
            served[tenant] += tokens

    def check(served: Counter[str], owed: Counter[str]) -> None:
        for tenant, weight in WEIGHTS.items():
            behind = served.total() * weight / sum(WEIGHTS.values()) - served[tenant]
            assert behind <= max(sizes[tenant]) + MOST_PROMPT + QUANTUM * weight + owed[tenant]

    async def again_and_again(replica: Replica, way: Way) -> None:
        while True:
            await replica.go(replica.a_call(way), way)

    run(story())
