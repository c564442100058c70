"""The window against an endpoint that takes `capacity` calls at once and answers 429 beyond, in virtual time."""

import heapq
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.agents.inference.admission.window import ConcurrencyWindow, Phase, WindowSnapshot

MEDIAN_SECONDS = 0.2
WAY_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Ended:
    """A call that came back: when, to whom, and whether it was refused."""

    at: float
    replica: int
    refused: bool


@dataclass(slots=True)
class Endpoint:
    """`capacity` is (from when, so many at once); it `queues` instead of refusing; `noise` is the stray 503s' share."""

    capacity: Sequence[tuple[float, int]] = ((0.0, 32),)
    sigma: float = 0.3
    seed: int = 7
    queues: bool = False
    noise: float = 0.0
    way: float = WAY_SECONDS
    busy: int = 0
    waiting: list[tuple[float, int, int]] = field(default_factory=list)

    def takes(self, now: float) -> int:
        """Calls at once that it takes now."""
        return next(calls for since, calls in reversed(self.capacity) if since <= now)

    @property
    def mean_seconds(self) -> float:
        """What a call takes in the mean: the log-normal law, and both ways."""
        return MEDIAN_SECONDS * math.exp(self.sigma**2 / 2) + 2 * self.way

    def most(self, since: float, until: float) -> float:
        """Calls that it can answer between two moments."""
        ends = [*(at for at, _ in self.capacity[1:]), math.inf]
        spans = [
            (max(0.0, min(until, end) - max(since, at)), calls)
            for (at, calls), end in zip(self.capacity, ends, strict=True)
        ]
        return sum(seconds * calls for seconds, calls in spans) / self.mean_seconds


@dataclass(slots=True)
class Run:
    """What came of a run. Seconds are virtual."""

    ended: list[Ended]
    limits: list[tuple[float, int]]
    windows: Sequence[ConcurrencyWindow]

    def answered(self, since: float = 0.0, until: float = math.inf) -> int:
        return sum(not one.refused for one in self.ended if since <= one.at < until)

    def refused(self, since: float = 0.0, until: float = math.inf) -> int:
        return sum(one.refused for one in self.ended if since <= one.at < until)

    @property
    def seconds(self) -> float:
        return self.ended[-1].at

    def first(self, since: float, holds: Callable[[int], bool]) -> float:
        """Seconds from `since` to the first limit for which it holds."""
        return next((at - since for at, limit in self.limits if at >= since and holds(limit)), math.inf)


def simulate(
    endpoint: Endpoint,
    windows: Sequence[ConcurrencyWindow],
    calls: int = 5000,
    until: float = math.inf,
    most_offered: int = 10_000,
) -> Run:
    """Always enough work: every replica starts what its window lets it, at once; what is refused is tried again."""
    chance, numbers = random.Random(endpoint.seed), count()
    events: list[tuple[float, int, str, int, float, int]] = []
    run = Run([], [], windows)
    now, left = 0.0, calls

    def after(seconds: float, what: str, replica: int, sent: float, place: int) -> None:
        heapq.heappush(events, (now + seconds, next(numbers), what, replica, sent, place))

    def work(replica: int, sent: float, place: int) -> None:
        endpoint.busy += 1
        after(chance.lognormvariate(math.log(MEDIAN_SECONDS), endpoint.sigma), "done", replica, sent, place)

    def fill() -> None:
        nonlocal left
        for replica, window in enumerate(windows):
            while left and window.in_flight < min(window.limit, most_offered) and now < until:
                left -= 1
                window.started(now)
                after(endpoint.way, "arrives", replica, now, window.in_flight)

    fill()
    while events:
        now, _, what, replica, sent, place = heapq.heappop(events)
        window = windows[replica]
        match what:
            case "arrives":
                if chance.random() < endpoint.noise or (endpoint.busy >= endpoint.takes(now) and not endpoint.queues):
                    after(endpoint.way, "refused", replica, sent, place)
                elif endpoint.busy < endpoint.takes(now):
                    work(replica, sent, place)
                else:
                    endpoint.waiting.append((sent, replica, place))
            case "done":
                endpoint.busy -= 1
                after(endpoint.way, "answered", replica, sent, place)
                if endpoint.waiting and endpoint.busy < endpoint.takes(now):
                    waited, whose, its = endpoint.waiting.pop(0)
                    work(whose, waited, its)
            case "answered":
                window.answered(now, now - sent)
            case _:
                window.overloaded(now, place)
                left += 1
        if what in ("answered", "refused"):
            run.ended.append(Ended(now, replica, what == "refused"))
            run.limits.append((now, window.limit))
            fill()
    return run


@pytest.mark.parametrize("way", [0.0, WAY_SECONDS, 0.01])
@pytest.mark.parametrize("sigma", [0.3, 0.5])
@pytest.mark.parametrize("start", [1, None, 256])
def test_it_finds_what_the_endpoint_takes_and_is_hardly_refused(start: int | None, sigma: float, way: float) -> None:
    endpoint = Endpoint(sigma=sigma, way=way)
    run = simulate(endpoint, [ConcurrencyWindow(start=start)])
    assert run.answered() == 5000
    assert run.first(0.0, lambda limit: 31 <= limit <= 34) < 2
    assert run.refused() <= 100
    assert run.refused(since=5.0) <= 0.01 * run.answered(since=5.0)
    assert run.answered() / endpoint.most(0.0, run.seconds) >= 0.95


@pytest.mark.parametrize("way", [0.0, WAY_SECONDS])
@pytest.mark.parametrize("capacity", [1, 2, 8])
@pytest.mark.parametrize("start", [1, 256])
def test_an_endpoint_that_takes_few_is_found_and_probed_rarely(start: int, capacity: int, way: float) -> None:
    endpoint = Endpoint(((0.0, capacity),), way=way)
    run = simulate(endpoint, [ConcurrencyWindow(start=start)], calls=2000)
    assert run.refused(until=5.0) <= 80
    assert run.refused(since=20.0) <= 0.015 * run.answered(since=20.0)
    assert run.answered() >= 0.95 * endpoint.most(0.0, run.seconds)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("sigma", [0.3, 0.5])
def test_it_follows_a_capacity_that_changes(sigma: float, seed: int) -> None:
    endpoint = Endpoint(((0.0, 32), (20.0, 8), (40.0, 32)), sigma=sigma, seed=seed)
    run = simulate(endpoint, [ConcurrencyWindow()], calls=100_000, until=60.0)
    assert run.refused() <= 0.02 * len(run.ended)
    assert run.first(20.0, lambda limit: limit <= 8) < 1
    assert run.first(40.0, lambda limit: limit >= 29) < 5
    for since in (10.0, 30.0, 50.0):
        assert run.answered(since, since + 10) >= 0.9 * endpoint.most(since, since + 10)


@pytest.mark.parametrize("replicas", [2, 4])
def test_replicas_share_an_endpoint_without_knowing_of_each_other(replicas: int) -> None:
    endpoint = Endpoint()
    run = simulate(endpoint, [ConcurrencyWindow() for _ in range(replicas)], calls=10_000)
    assert run.refused() <= 0.01 * replicas * run.answered()
    assert run.answered() >= 0.95 * endpoint.most(0.0, run.seconds)
    shares = [sum(one.replica == replica and not one.refused for one in run.ended) for replica in range(replicas)]
    assert min(shares) > 10_000 / replicas / 4


@pytest.mark.parametrize(("noise", "kept"), [(0.001, 0.95), (0.01, 0.7), (0.05, 0.25)])
def test_refusals_that_are_not_about_load_do_not_throttle_it_down(noise: float, kept: float) -> None:
    endpoint = Endpoint(noise=noise)
    run = simulate(endpoint, [ConcurrencyWindow()])
    assert run.answered() >= kept * endpoint.most(0.0, run.seconds)


def test_it_comes_back_after_an_outage() -> None:
    endpoint = Endpoint(((0.0, 32), (10.0, 0), (12.0, 32)))
    run = simulate(endpoint, [ConcurrencyWindow()])
    assert run.first(10.0, lambda limit: limit == 1) < 1.5
    assert run.first(12.0, lambda limit: limit >= 30) < 6


@pytest.mark.parametrize(("capacity", "most"), [(4, 40), (8, 50), (32, 128)])
@pytest.mark.parametrize("sigma", [0.3, 0.5])
def test_it_does_not_fill_the_queue_of_a_server_that_never_refuses(sigma: float, capacity: int, most: int) -> None:
    endpoint = Endpoint(((0.0, capacity),), sigma=sigma, queues=True)
    run = simulate(endpoint, [ConcurrencyWindow(start=1)], calls=10_000)
    later = [limit for at, limit in run.limits if at > run.seconds / 2]
    assert max(limit for _, limit in run.limits) <= most
    assert capacity <= min(later) <= max(later) <= max(30, 2.5 * capacity)
    assert run.answered() >= 0.95 * endpoint.most(0.0, run.seconds)


def test_it_does_not_grow_while_the_load_does_not_use_it() -> None:
    window = ConcurrencyWindow(start=16)
    run = simulate(Endpoint(), [window], calls=2000, most_offered=8)
    assert {limit for _, limit in run.limits} == {16}


def settled(limit: int = 32, calls: int = 1600) -> tuple[ConcurrencyWindow, float]:
    """A window that has found `limit`, with nothing in flight, and the time."""
    window = ConcurrencyWindow()
    run = simulate(Endpoint(((0.0, limit),)), [window], calls=calls)
    assert (window.limit, window.in_flight) == (limit, 0)
    return window, run.seconds


def sent(window: ConcurrencyWindow, now: float) -> list[int]:
    """As many calls as it lets go: what is in flight with each."""
    places = []
    while window.in_flight < window.limit:
        window.started(now)
        places.append(window.in_flight)
    return places


def test_a_stray_refusal_is_forgiven_and_a_second_one_takes_its_place_along() -> None:
    window, now = settled()
    places = sent(window, now)
    window.overloaded(now + 0.1, places[20])
    assert window.limit == 32
    window.started(now + 0.2)
    window.overloaded(now + 0.3, 32)
    assert window.limit == 31


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("told", [False, True])
def test_a_burst_of_refusals_counts_once(backwards: bool, told: bool) -> None:
    # given calls that were sent together, and all refused
    window, now = settled()
    places = sent(window, now)
    for place in reversed(places) if backwards else places:
        window.overloaded(now + 0.1, place if told else None)
    # then that is one cut by half, and another only if the next ones are refused again
    assert (window.limit, window.in_flight) == (16, 0)
    for place in sent(window, now + 0.2):
        window.overloaded(now + 0.3, place)
    assert window.limit == 8


def test_answers_to_calls_from_before_a_refusal_make_it_no_larger() -> None:
    window = ConcurrencyWindow(start=32)
    places = sent(window, 0.0)
    window.overloaded(5.0, places[-1])
    for now, limit in ((20.0, 31), (40.0, 32)):
        for _ in range(31):
            window.answered(now, 20.0)
            window.started(now)
        assert window.limit == limit


def test_refusals_that_go_on_for_a_round_trip_cut_deeply() -> None:
    window, now = settled()
    sent(window, now)
    window.overloaded(now, 32)
    window.started(now + 0.1)
    window.overloaded(now + 0.2, 32)
    assert window.limit == 31
    trip = window.snapshot().trip_seconds
    window.abandoned()
    window.started(now + 0.2 + trip)
    window.overloaded(now + 0.2 + trip, 31)
    assert window.limit == 23


def test_slow_answers_do_not_cut_it() -> None:
    window, now = settled()
    for place in sent(window, now):
        window.answered(now + 60, 60.0 if place < 3 else 0.2)
    assert window.limit >= 32
    before = window.limit
    # when all calls take thrice as long from now on
    for trip in range(40):
        for _ in sent(window, now + 60 + trip):
            window.answered(now + 60.6 + trip, 0.6)
    # then it stays where it was; only a probe that was under way is taken back
    assert window.snapshot().slow
    assert 32 <= window.limit <= before


def test_what_is_slow_with_few_in_flight_is_no_queue() -> None:
    # given a window that came down to a few calls, while calls became five times as long
    window, now = settled()
    window.set_bounds(1, 8)
    window.set_bounds(1, 256)
    for trip in range(60):
        for _ in sent(window, now + trip):
            window.answered(now + trip + 0.9, 0.9)
    assert window.limit > 16


def test_calls_that_stay_slow_are_the_custom_in_the_end() -> None:
    window, now = settled()
    for trip in range(1200):
        for _ in sent(window, now + 3 * trip):
            window.answered(now + 3 * trip + 0.6, 0.6)
        if trip == 200:
            assert (window.limit, window.snapshot().slow) == (32, True)
    assert window.limit > 64


def test_a_call_that_tells_nothing_moves_nothing() -> None:
    window, now = settled()
    before = window.snapshot()
    sent(window, now)
    for _ in range(16):
        window.abandoned()
    for seconds in [math.nan, math.inf, -1.0, -math.inf] * 4:
        window.answered(now, seconds)
    assert window.snapshot() == before
    window.abandoned()
    assert window.in_flight == 0


def test_bounds_change_at_run_time() -> None:
    window, now = settled()
    window.set_bounds(2, 8)
    assert (window.limit, window.snapshot().proven) == (8, 8)
    window.set_bounds(40, 64)
    assert window.limit == 40
    for place in sent(window, now):
        window.overloaded(now, place)
    assert window.limit == 40
    with pytest.raises(ValueError, match=r"least \(9\) not over most \(8\)"):
        window.set_bounds(9, 8)
    assert window.snapshot().least == 40


@pytest.mark.parametrize(("least", "most"), [(0, 8), (-1, 8), (9, 8)])
def test_bounds_that_are_none_are_refused(least: int, most: int) -> None:
    with pytest.raises(ValueError, match="must be from 1 up"):
        ConcurrencyWindow(least, most)


@pytest.mark.parametrize(("start", "limit"), [(None, 8), (1, 2), (64, 64), (256, 64), (9999, 64)])
def test_it_begins_within_bounds_and_with_no_great_burst(start: int | None, limit: int) -> None:
    assert ConcurrencyWindow(2, 100, start).snapshot() == WindowSnapshot(
        limit=limit, in_flight=0, least=2, most=100, phase=Phase.GROWING, proven=0, trip_seconds=1.0, slow=False
    )


def test_it_outlasts_an_hour_in_which_the_process_stood_still() -> None:
    window, now = settled()
    for _ in sent(window, now):
        window.answered(now + 3600, 3600.0)
    assert window.limit in (32, 33)
    run = simulate(Endpoint(), [window], calls=3000)
    assert run.answered() >= 0.95 * Endpoint().most(0.0, run.seconds)


Action = tuple[str, float, int]
actions = st.tuples(
    st.sampled_from(["started", "started", "started", "answered", "answered", "overloaded", "abandoned", "bounds"]),
    st.sampled_from([0.0, 0.001, 0.2, 3.0, 3600.0, math.nan, math.inf, -1.0]),
    st.integers(-1, 40),
)


@given(st.lists(actions, max_size=300), st.integers(1, 4), st.integers(0, 40))
def test_whatever_happens_the_limit_is_within_its_bounds(seen: list[Action], least: int, more: int) -> None:
    window, now = ConcurrencyWindow(least, least + more), 0.0
    for what, seconds, number in seen:
        now += seconds if 0 <= seconds < math.inf else 0.0
        match what:
            case "started":
                window.started(now)
            case "answered":
                window.answered(now, seconds)
            case "overloaded":
                window.overloaded(now, number if number >= 0 else None)
            case "abandoned":
                window.abandoned()
            case _:
                least, more = 1 + max(0, number) % 7, max(0, number)
                window.set_bounds(least, least + more)
        known = window.snapshot()
        assert least <= window.limit <= least + more
        assert window.in_flight >= 0
        assert 0 <= known.proven <= known.limit
        assert 0 <= known.trip_seconds < math.inf
