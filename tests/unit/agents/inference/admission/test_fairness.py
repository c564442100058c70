import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from callstream.agents.inference.admission.fairness import MOST_FORMER, FairQueue, Place, Waiting

LANES = {"high": 16, "normal": 4, "low": 1}
WEIGHTS = {"a": 1, "b": 1, "c": 2, "d": 5}
QUANTUM = 100
LARGEST = 450
TOKENS = st.integers(1, LARGEST)
SETTLED = st.integers(0, 2000)
SEQUENCE = count()


def weight(tenant: str) -> int:
    return WEIGHTS.get(tenant, 1)


def call(
    tenant: str = "a", tokens: int = 10, lane: str = "low", id: str = "", deadline: float | None = None, **more: Any
) -> Waiting:
    return Waiting(id or f"call-{next(SEQUENCE)}", tenant, lane, tokens, more.pop("since", 0.0), deadline, **more)


def queue(*waiting: Waiting, weigh: Callable[[str], int] = weight) -> FairQueue:
    made = FairQueue(LANES, weigh, QUANTUM)
    for one in waiting:
        made.put(one)
    return made


def drain(fair: FairQueue) -> Iterator[Waiting]:
    while fair.peek():
        yield fair.take()


def ids(fair: FairQueue) -> str:
    return " ".join(one.id for one in drain(fair))


def serve(fair: FairQueue, tokens: int) -> Counter[str]:
    """Take at least so many tokens; those taken, by tenant."""
    taken: Counter[str] = Counter()
    while taken.total() < tokens:
        one = fair.take()
        taken[one.tenant] += one.tokens
    return taken


def backlog(tenant: str, tokens: int = 60, calls: int = 400, lane: str = "low") -> list[Waiting]:
    return [call(tenant, tokens, lane) for _ in range(calls)]


def due(one: Waiting) -> float:
    """When it is due, said once more."""
    if one.first and one.deadline is not None and one.deadline < one.since + 30:
        return one.deadline
    return one.since + 30


class Model(RuleBasedStateMachine):
    """The queue beside one plain list of what waits, in the order of arrival, and when each is due."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = queue()
        self.all: list[Waiting] = []
        self.paused: set[str] = set()
        self.now = 0.0

    def of(self, one: Waiting) -> list[Waiting]:
        own = [other for other in self.all if (other.tenant, other.lane) == (one.tenant, one.lane)]
        return sorted(own, key=lambda other: due(other))

    @rule(
        tenant=st.sampled_from([*WEIGHTS]),
        lane=st.sampled_from([*LANES]),
        tokens=TOKENS,
        left=st.none() | st.floats(0, 9) | st.floats(0, 60),
        first=st.booleans(),
    )
    def put(self, tenant: str, lane: str, tokens: int, left: float | None, first: bool) -> None:
        before = self.queue.peek()
        deadline = None if left is None else self.now + left
        one = call(tenant, tokens, lane, deadline=deadline, since=self.now, first=first)
        self.queue.put(one)
        self.all.append(one)
        if before is not None and before.lane == lane and not (before.tenant == tenant and due(one) < due(before)):
            assert self.queue.peek() is before, "a put displaced the head of its lane"

    @precondition(lambda self: any(one.tenant not in self.paused for one in self.all))
    @rule()
    def take(self) -> None:
        head = self.queue.peek()
        one = self.queue.take()
        assert one is head
        assert one.tenant not in self.paused
        assert self.of(one)[0] is one, "not the first of its tenant and lane"
        self.all.remove(one)

    @precondition(lambda self: all(one.tenant in self.paused for one in self.all))
    @rule()
    def take_nothing(self) -> None:
        assert self.queue.peek() is None
        with pytest.raises(LookupError):
            self.queue.take()

    @precondition(lambda self: self.all)
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.all))
        assert self.queue.discard(one.id) is one
        assert self.queue.discard(one.id) is None
        self.all.remove(one)

    @rule(tenant=st.sampled_from([*WEIGHTS, "gone"]), lane=st.sampled_from([*LANES]), reserved=TOKENS, used=TOKENS)
    def settle(self, tenant: str, lane: str, reserved: int, used: int) -> None:
        self.queue.settle(tenant, lane, reserved, used)

    @rule(tenant=st.sampled_from([*WEIGHTS]))
    def pause_or_resume(self, tenant: str) -> None:
        (self.queue.resume if tenant in self.paused else self.queue.pause)(tenant)
        self.paused ^= {tenant}

    @rule(seconds=st.floats(0, 3))
    def expire(self, seconds: float) -> None:
        self.now += seconds
        late = [one for one in self.all if one.deadline is not None and one.deadline <= self.now]
        gone = self.queue.expired(self.now)
        assert sorted(one.id for one in gone) == sorted(one.id for one in late)
        assert [one.deadline for one in gone] == sorted(one.deadline for one in late if one.deadline is not None)
        self.all = [one for one in self.all if one not in late]

    @invariant()
    def agrees(self) -> None:
        assert len(self.queue) == len(self.all)
        assert self.queue.peek() is self.queue.peek()
        held = {(one.lane, one.tenant): self.of(one) for one in self.all}
        assert self.queue.waiting() == {key: (len(of), sum(one.tokens for one in of)) for key, of in held.items()}
        for one in self.all:
            before = self.of(one)[: self.of(one).index(one)]
            assert self.queue.get(one.id) is one
            assert self.queue.place(one.id) == Place(len(before), sum(other.tokens for other in before))

    def teardown(self) -> None:
        for tenant in self.paused:
            self.queue.resume(tenant)
        assert sorted(one.id for one in drain(self.queue)) == sorted(one.id for one in self.all)
        assert (len(self.queue), self.queue.waiting()) == (0, {})


TestTheQueueAgainstItsModel = Model.TestCase
TestTheQueueAgainstItsModel.settings = settings(max_examples=60, stateful_step_count=30)


@given(
    st.dictionaries(st.sampled_from([*WEIGHTS]), st.lists(TOKENS, min_size=60, max_size=60), min_size=2),
    st.sampled_from([*WEIGHTS]),
)
def test_a_tenant_in_a_hurry_takes_nothing_from_others(sizes: dict[str, list[int]], hurried: str) -> None:
    # given tenants with a backlog, of which one sends what is due first, the latest that came
    fair = queue(
        *(
            call(tenant, tokens, deadline=29.0 - number / 3, first=tenant == hurried)
            for tenant, all_of_it in sizes.items()
            for number, tokens in enumerate(all_of_it)
        )
    )
    served = dict.fromkeys(sizes, 0.0)
    # then each has its share, as ever
    while {tenant for _, tenant in fair.waiting()} == set(sizes):
        one = fair.take()
        served[one.tenant] += one.tokens / weight(one.tenant)
        assert max(served.values()) - min(served.values()) <= LARGEST + QUANTUM


def test_the_earliest_deadline_of_a_tenants_calls_goes_first_where_they_say_so() -> None:
    fair = queue(
        call(id="plain"),
        call(id="late", deadline=20.0, first=True),
        call(id="soon", deadline=5.0, first=True),
        call(id="quiet", deadline=1.0),
        call("b", id="other"),
        call(id="low", lane="low", deadline=9.0, first=True),
    )
    assert fair.place("plain") == Place(3, 30)
    assert [one.id for one in drain(fair) if one.tenant == "a"] == ["soon", "low", "late", "plain", "quiet"]


def test_what_is_in_no_hurry_goes_before_what_keeps_coming() -> None:
    # given a call without a deadline, and calls in a hurry that come each second with three seconds left
    fair = queue(call(id="patient"))
    order = []
    for second in range(60):
        for _ in range(2):
            fair.put(call(id=f"{second}-{next(SEQUENCE)}", since=float(second), deadline=second + 3.0, first=True))
        order.append(fair.take().id)
        fair.expired(float(second))
    # then it goes when it has waited for as long as it is patient
    assert 25 <= order.index("patient") <= 31


def test_a_call_that_goes_first_is_judged_by_its_own_size() -> None:
    # given a tenant with a large call, and another whose turn is before it
    fair = queue(call("c", id="small"), call("a", 3 * QUANTUM, id="large"), call("b", 2 * QUANTUM, id="other"))
    assert fair.take().id == "small"
    # when its tenant has a small one that is due before
    fair.put(call("a", 1, id="soon", deadline=1.0, first=True))
    # then that is next, and the large one waits for its turn
    assert ids(fair) == "soon other large"


@given(st.lists(st.builds(call, st.sampled_from([*WEIGHTS]), TOKENS), min_size=1, max_size=40))
def test_turns_are_those_of_a_round_robin_that_goes_round(calls: list[Waiting]) -> None:
    # given the round in which a ring of deficits that visits every tenant serves each call
    turns = {}
    for tenant in WEIGHTS:
        left, turn = 0, 0
        for one in (one for one in calls if one.tenant == tenant):
            while left < one.tokens:
                left += QUANTUM * weight(tenant)
                turn += 1
            left -= one.tokens
            turns[one.id] = turn
    # then the calls are taken round by round
    taken = [turns[one.id] for one in drain(queue(call("first", id="first"), *calls)) if one.id != "first"]
    assert taken == sorted(turns.values())


@given(st.dictionaries(st.sampled_from([*WEIGHTS]), st.lists(TOKENS, min_size=60, max_size=60), min_size=2))
def test_tenants_with_a_backlog_get_tokens_by_their_weights(sizes: dict[str, list[int]]) -> None:
    fair = queue(*(call(tenant, tokens) for tenant, all_of_it in sizes.items() for tokens in all_of_it))
    served = dict.fromkeys(sizes, 0.0)
    while {tenant for _, tenant in fair.waiting()} == set(sizes):
        one = fair.take()
        served[one.tenant] += one.tokens / weight(one.tenant)
        assert max(served.values()) - min(served.values()) <= LARGEST + QUANTUM


@given(st.dictionaries(st.sampled_from([*LANES]), st.lists(TOKENS, min_size=60, max_size=60), min_size=2))
def test_lanes_with_a_backlog_get_tokens_by_their_weights(sizes: dict[str, list[int]]) -> None:
    fair = queue(*(call("a", tokens, lane) for lane, all_of_it in sizes.items() for tokens in all_of_it))
    served = dict.fromkeys(sizes, 0.0)
    while {lane for lane, _ in fair.waiting()} == set(sizes):
        one = fair.take()
        served[one.lane] += one.tokens / LANES[one.lane]
        assert max(served.values()) - min(served.values()) <= LARGEST


@given(st.integers(0, 300), st.lists(st.tuples(st.sampled_from("bcd"), SETTLED, SETTLED), max_size=8))
def test_a_light_tenant_waits_a_round_at_most(taken: int, settled: list[tuple[str, int, int]]) -> None:
    # given three heavy tenants at any moment of their work, also after corrections
    fair = queue(*backlog("b"), *backlog("c", 50), *backlog("d", LARGEST))
    for _ in range(taken):
        fair.take()
    for tenant, reserved, used in settled:
        fair.settle(tenant, "low", reserved, used)
    # when one arrives that had nothing before, with no more than it is given in a round
    light = call("light", QUANTUM)
    fair.put(light)
    # then it waits for what each of them is given in a round and the call it is at
    before: Counter[str] = Counter()
    while (one := fair.take()) is not light:
        before[one.tenant] += one.tokens
    assert all(before[tenant] <= QUANTUM * weight(tenant) + LARGEST for tenant in "bcd")


@given(st.integers(0, 5), st.integers(300, 2000), st.sampled_from("bcd"))
def test_who_was_idle_has_saved_nothing(before: int, away: int, other: str) -> None:
    # given a tenant that was served and then was away while another went on
    fair = queue(*backlog("a", 60, before), *backlog(other, 40, 600))
    serve(fair, 2 * 60 * before * (1 + weight(other)))
    assert ("low", "a") not in fair.waiting()
    serve(fair, away * weight(other))
    # when it comes back with a backlog
    for one in backlog("a"):
        fair.put(one)
    # then it never is more than a quantum and a call ahead, however long it was away
    ahead = 0.0
    for _ in range(200):
        one = fair.take()
        ahead += one.tokens if one.tenant == "a" else -one.tokens / weight(other)
        assert ahead <= QUANTUM + 60


@given(st.sampled_from("abcd"), st.integers(0, 2000), st.integers(0, 2000))
def test_a_correction_is_made_up_for(tenant: str, reserved: int, used: int) -> None:
    # given tenants that have been served for a while
    fair = queue(*(one for name in WEIGHTS for one in backlog(name, 50, 800)))
    served = serve(fair, 30_000)
    # when a call turns out to have used more, or less, than was reserved
    fair.settle(tenant, "low", reserved, used)
    served[tenant] += used - reserved
    # then what all have used agrees with their weights again
    served += serve(fair, 20_000)
    shares = [served[name] / weight(name) for name in WEIGHTS]
    assert max(shares) - min(shares) <= QUANTUM + 50


@given(st.sampled_from([*LANES]), st.integers(0, 600), st.integers(0, 600))
def test_a_correction_shifts_the_lane_too(lane: str, reserved: int, used: int) -> None:
    fair = queue(*(one for name in LANES for one in backlog("a", 50, 900, name)))
    served: Counter[str] = Counter()
    for _ in range(300):
        served[fair.take().lane] += 50
    fair.settle("a", lane, reserved, used)
    served[lane] += used - reserved
    for _ in range(600):
        served[fair.take().lane] += 50
    shares = [served[name] / LANES[name] for name in LANES]
    assert max(shares) - min(shares) <= 50


def test_an_idle_lane_is_next_at_once_and_low_goes_on() -> None:
    # given a backlog of low that has been served, and was charged too much for it
    fair = queue(*backlog("a", 50, 100))
    serve(fair, 2000)
    # when high comes, and what low was charged too much is given back
    for one in backlog("b", 50, 100, "high"):
        fair.put(one)
    for _ in range(40):
        fair.settle("a", "low", 50, 1)
    # then high goes first, and low has a call in seventeen
    assert [fair.take().lane for _ in range(35)] == ["high"] + (["low"] + ["high"] * 16) * 2


def test_a_lane_that_was_idle_goes_first_among_equals() -> None:
    # given a lane that has had a call, and another that has had the same by its weight since
    fair = queue(call("a", 50), *backlog("b", 50, 100, "high"))
    serve(fair, 17 * 50)
    # when the first has a call again
    fair.put(call("a", 50))
    # then that is next
    assert [fair.take().lane for _ in range(3)] == ["low", "high", "high"]


def test_a_withdrawn_head_leaves_its_place_to_who_is_next_by_turn() -> None:
    fair = queue(call("a", id="gone"), call("b", id="small"), call("a", LARGEST, id="large"))
    fair.discard("gone")
    assert ids(fair) == "small large"


def test_who_is_new_does_not_wait_for_the_rest_of_a_tenants_round() -> None:
    assert ids(queue(call("a", id="a-1"), call("a", id="a-2"), call("b", id="new"))) == "a-1 new a-2"


def test_a_correction_counts_for_the_call_that_is_next() -> None:
    fair = queue(call("a", id="owes"), call("b", id="other"))
    assert fair.peek() is fair.get("owes")
    fair.settle("a", "low", 0, QUANTUM)
    assert ids(fair) == "other owes"


def test_a_large_call_at_the_head_stays_there() -> None:
    # given a call of a thousand quanta that is next
    large = call("a", 1000 * QUANTUM)
    fair = queue(large)
    # when small ones arrive, of its tenant and of others, one is withdrawn, and earlier calls of its tenant are settled
    for tenant in "aabcdef":
        fair.put(call(tenant, 1, id=f"{tenant}-{len(fair)}"))
    fair.discard("a-1")
    for used in (3, 2):
        fair.settle("a", "low", 3, used)
    # then it still is, and those of the others follow before its tenant's
    assert fair.take() is large
    assert [one.tenant for one in drain(fair)] == ["b", "c", "d", "e", "f", "a"]


def test_a_turn_after_a_trillion_rounds_is_found_at_once() -> None:
    fair = FairQueue(LANES, weight, quantum=1)
    for one in (call("b", 1, id="small"), call("a", 10**12, id="large"), call("b", 10**12 + 1, id="larger")):
        fair.put(one)
    assert ids(fair) == "small large larger"


def test_a_debt_stays_with_a_tenant_that_leaves() -> None:
    # given a tenant that used 30 rounds' worth where nearly nothing was reserved, and left
    fair = queue(call("a", 1), *backlog("b", QUANTUM))
    serve(fair, 1 + QUANTUM)
    fair.settle("a", "low", 1, 30 * QUANTUM)
    # when it comes back
    late = call("a", 1)
    fair.put(late)
    # then the other, which has had one round, has 29 more before
    assert [fair.take() is late for _ in range(30)] == [False] * 29 + [True]


@pytest.mark.parametrize(("others", "waits"), [(MOST_FORMER - 1, True), (MOST_FORMER, False)])
def test_the_oldest_debt_is_forgotten_when_there_are_too_many(others: int, waits: bool) -> None:
    fair = queue()
    for number in range(others + 1):
        fair.settle(f"tenant-{number}", "low", 0, 50 * QUANTUM)
        fair.settle(f"stranger-{number}", "low", 1, 0)
    for one in (call("b", id="other-1"), call("b", QUANTUM, id="other-2"), call("tenant-0", id="debtor")):
        fair.put(one)
    assert ids(fair) == ("other-1 other-2 debtor" if waits else "other-1 debtor other-2")


def test_a_paused_tenant_is_skipped_and_comes_back_without_credit() -> None:
    # given two tenants of which one is paused while the other is served
    fair = queue(*backlog("a", 50), *backlog("b", 50))
    fair.pause("a")
    fair.pause("a")
    assert serve(fair, 2000) == {"b": 2000}
    fair.put(call("a", 50))
    assert fair.waiting()["low", "a"] == (401, 401 * 50)
    # when it is resumed
    fair.resume("a")
    fair.resume("a")
    # then both share as before
    assert abs(serve(fair, 2000)["a"] - 1000) <= QUANTUM + 50


def test_all_are_paused_and_nothing_is_next() -> None:
    fair = queue(call("a"))
    fair.pause("a")
    assert (fair.peek(), len(fair)) == (None, 1)
    with pytest.raises(LookupError, match="no call waits that may go"):
        fair.take()


def test_a_tenants_new_weight_counts_at_once() -> None:
    weights = {"a": 1, "b": 1}
    fair = queue(*backlog("a", 50), *backlog("b", 50), weigh=lambda tenant: weights[tenant])
    serve(fair, 2000)
    weights["b"] = 3
    served = serve(fair, 8000)
    assert abs(served["a"] - served["b"] / 3) <= 2 * (QUANTUM + 50)
    weights["b"] = 0
    served = serve(fair, 4000)
    assert abs(served["a"] - served["b"]) <= 2 * (QUANTUM + 50)


def test_a_call_that_came_again_has_its_new_deadline() -> None:
    fair = queue(call(id="x", deadline=1.0))
    fair.take()
    again = call(id="x", deadline=5.0)
    fair.put(again)
    assert fair.expired(4.9) == []
    assert fair.expired(5.0) == [again]


def test_nothing_is_given_back_from_before_a_tenant_came_in() -> None:
    # given a tenant that was charged too much, left, and came back when others were far ahead
    fair = queue(call("a", 10 * QUANTUM), *backlog("b", 50))
    serve(fair, 40 * QUANTUM)
    for one in backlog("a", 50):
        fair.put(one)
    # when it is told so only now
    fair.settle("a", "low", 10 * QUANTUM, 1)
    # then it has no more than its share from here
    assert abs(serve(fair, 2000)["a"] - 1000) <= QUANTUM + 50


def test_much_coming_and_going_leaves_nothing_behind() -> None:
    # given deadlines and turns that are outdated again and again before they come up
    fair = queue(call("b", id="stays", deadline=9.0), call("a", id="goes"))
    tracemalloc.start()
    for number in range(4000):
        fair.put(call("c", id=f"{number}", deadline=1e9))
        fair.discard(f"{number}")
        fair.settle("a", "low", 0, QUANTUM)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # then memory is as before, and what is left is what is there
    assert grown < 100_000
    assert [one.id for one in fair.expired(9.0)] == ["stays"]
    assert ids(fair) == "goes"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: call(tokens=0, id="x"), "call x has 0 tokens; a call has at least 1"),
        (lambda: call(id="x", deadline=float("nan")), "call x has a time that is not a number"),
        (lambda: queue(call(lane="slow")), "lane slow is unknown; there are high, normal, low"),
        (lambda: queue(call(id="x"), call(id="x")), "call x waits already"),
        (lambda: queue().settle("a", "slow", 1, 1), "lane slow is unknown"),
        (lambda: queue().settle("a", "low", 1, -1), "tenant a cannot have reserved 1 and used -1 tokens"),
        (lambda: FairQueue({}, weight), "lanes must be named"),
        (lambda: FairQueue({"low": 0}, weight), "with weights of at least 1: {'low': 0}"),
        (lambda: FairQueue(LANES, weight, 0), "quantum 0 must be at least 1 token"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()


def test_a_call_that_does_not_wait_has_no_place() -> None:
    fair = queue()
    assert (fair.get("x"), fair.discard("x")) == (None, None)
    with pytest.raises(KeyError):
        fair.place("x")
