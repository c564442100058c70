"""Shares of limits: in no window is more spent than the limit, whoever owns what, and what is there is used."""

import math
from collections import deque
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from callstream.agents.inference.admission.allowance import (
    MINUTE_SECONDS,
    Allowance,
    Amount,
    Limit,
    Unit,
)
from callstream.agents.inference.admission.spent import Window

TOKENS = Limit(Unit.TOKENS, 1000, MINUTE_SECONDS)
REQUESTS = Limit(Unit.REQUESTS, 10, MINUTE_SECONDS)
MARGIN = 1.5


def allowance(*limits: Limit, partitions: int = 4, owned: int = 4) -> Allowance:
    made = Allowance(limits, partitions, MARGIN)
    for partition in range(owned):
        made.own(partition, {}, 0.0)
    return made


def tokens(count: int) -> Amount:
    return Amount(count, 0)


@given(st.integers(1, 10**9), st.integers(1, 200))
def test_quotas_add_up_to_the_limit(most: int, partitions: int) -> None:
    limit = Limit(Unit.TOKENS, most, 60.0)
    quotas = [limit.quota(partition, partitions) for partition in range(partitions)]
    assert sum(quotas) == most
    assert max(quotas) - min(quotas) <= 1


def test_a_replica_may_spend_the_quotas_of_its_partitions_and_no_more() -> None:
    half = allowance(TOKENS, owned=2)
    assert half.opens(tokens(500), 0.0) == (0.0, None)
    half.charge(tokens(500), 0.0)
    when, unit = half.opens(tokens(1), 10.0)
    assert unit is Unit.TOKENS
    assert MINUTE_SECONDS + MARGIN <= when <= MINUTE_SECONDS + MARGIN + 0.5


def test_one_call_may_take_of_several_quotas() -> None:
    whole = allowance(TOKENS)
    charge = whole.charge(tokens(700), 0.0)
    assert sum(part.amount for part in charge.parts) == 700
    assert all(part.amount <= 250 for part in charge.parts)
    assert whole.opens(tokens(300), 0.0)[0] == 0.0
    assert whole.opens(tokens(301), 0.0)[0] > 60


def test_several_limits_hold_at_once_and_the_one_waited_for_is_named() -> None:
    both = allowance(TOKENS, REQUESTS)
    for _ in range(10):
        both.charge(tokens(1), 0.0)
    assert both.opens(tokens(1), 0.0)[1] is Unit.REQUESTS


def test_what_a_call_did_not_take_is_free_again_and_what_it_took_more_is_spent() -> None:
    whole = allowance(TOKENS)
    charge = whole.charge(tokens(900), 0.0)
    assert whole.settle(charge, tokens(100))
    assert whole.opens(tokens(900), 1.0)[0] == 1.0
    over = whole.charge(tokens(100), 1.0)
    whole.settle(over, tokens(400))
    (room,) = whole.rooms(1.0)
    assert (room.spent, room.share) == (500, 1000)


def test_one_larger_than_the_share_passes_alone() -> None:
    whole = allowance(TOKENS)
    whole.charge(tokens(10), 0.0)
    when, _ = whole.opens(tokens(5000), 5.0)
    assert when > MINUTE_SECONDS
    assert whole.opens(tokens(5000), when) == (when, None)
    whole.charge(tokens(5000), when)
    assert whole.opens(tokens(1), when + 59)[0] > when + MINUTE_SECONDS


def test_a_replica_without_a_partition_waits_for_one() -> None:
    assert allowance(TOKENS, owned=0).opens(tokens(1), 0.0) == (math.inf, None)


def test_the_next_owner_begins_with_what_was_spent() -> None:
    first = allowance(TOKENS)
    first.charge(tokens(1000), 10.0)
    rows = {partition: first.row(partition, 20.0) for partition in range(4)}
    second = Allowance((TOKENS,), 4, MARGIN)
    for partition, row in rows.items():
        second.own(partition, row, 20.0)
    assert second.opens(tokens(1), 20.0)[0] >= 10.0 + MINUTE_SECONDS


def test_what_a_wrong_clock_puts_into_the_future_counts_from_now() -> None:
    window = Window(60.0, 0.5)
    window.restore([(3600.0, 7), (1.0, 5)], 100.0)
    assert window.spent(100.0) == 7
    assert window.spent(161.0) == 0


def test_other_limits_keep_what_was_spent() -> None:
    whole = allowance(TOKENS)
    whole.charge(tokens(400), 0.0)
    whole.set_limits((Limit(Unit.TOKENS, 500, MINUTE_SECONDS), REQUESTS), 1.0)
    assert whole.opens(tokens(100), 1.0)[0] == 1.0
    assert whole.opens(tokens(101), 1.0)[0] > 1.0


def test_under_other_limits_what_a_former_owner_spent_counts_as_long() -> None:
    heir = Allowance((TOKENS,), 1, MARGIN)
    heir.own(0, {TOKENS.name: [(1.0, 1000)]}, 1.0)
    before = heir.opens(tokens(1), 2.0)
    heir.set_limits((TOKENS, REQUESTS), 2.0)
    assert heir.opens(tokens(1), 2.0) == before == (1.0 + MINUTE_SECONDS + 2 * MARGIN, Unit.TOKENS)


@dataclass
class Replicas:
    """Replicas that share one limit, and an endpoint that sees every request a moment after it was admitted."""

    limit: Limit
    partitions: int
    shares: list[Allowance] = field(default_factory=list)
    seen: deque[tuple[float, int]] = field(default_factory=deque)
    rows: dict[int, dict[str, list[tuple[float, int]]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.shares = [Allowance((self.limit,), self.partitions, MARGIN) for _ in range(3)]
        for partition in range(self.partitions):
            self.shares[0].own(partition, {}, 0.0)

    def call(self, replica: int, count: int, took: int, delay: float, now: float) -> None:
        share = self.shares[replica]
        if share.opens(tokens(count), now)[0] > now:
            return
        charge = share.charge(tokens(count), now)
        for partition in charge.partitions:
            self.rows[partition] = share.row(partition, now)
        # The endpoint counts what the call takes; it reads it up to a second later.
        self.seen.append((now + delay, took))
        for partition in share.settle(charge, tokens(took)):
            self.rows[partition] = share.row(partition, now)

    def move(self, partition: int, to: int, now: float) -> None:
        for share in self.shares:
            share.disown([partition])
        self.shares[to].own(partition, self.rows.get(partition, {}), now)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["call", "call", "call", "move"]),
        st.integers(0, 2),
        st.integers(1, 120),
        st.floats(0, 1),
        st.floats(0, 20),
    ),
    max_size=120,
)


@settings(max_examples=200, deadline=None)
@given(STEPS, st.integers(150, 400))
def test_no_window_at_the_endpoint_passes_the_limit_however_partitions_move(
    steps: list[tuple[str, int, int, float, float]], most: int
) -> None:
    replicas, now = Replicas(Limit(Unit.TOKENS, most, MINUTE_SECONDS), 4), 0.0
    for kind, who, count, fraction, pause in steps:
        now += pause
        if kind == "move":
            replicas.move(count % 4, who, now)
        # A call beyond the share passes alone, which is another test's matter.
        elif count <= sum(room.share for room in replicas.shares[who].rooms(now)):
            replicas.call(who, count, max(1, round(count * fraction)), fraction, now)
    seen = sorted(replicas.seen)
    for position, (begin, _) in enumerate(seen):
        within = sum(count for moment, count in seen[position:] if moment < begin + MINUTE_SECONDS)
        assert within <= most


@given(st.integers(0, 100_000))
def test_a_backlog_uses_nearly_all_of_the_limit(seed: int) -> None:
    whole, now, spent, horizon = allowance(TOKENS), float(seed) / 7, 0, 600.0
    size = 20 + seed % 30
    end = now + horizon
    while now < end:
        when, _ = whole.opens(tokens(size), now)
        if when > now:
            now = when
            continue
        whole.charge(tokens(size), now)
        spent += size
    assert spent >= 0.95 * TOKENS.most * horizon / MINUTE_SECONDS
