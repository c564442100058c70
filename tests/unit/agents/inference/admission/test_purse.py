"""What was spent stands on the log before anything is sent, and whoever owns it next begins with it."""

import asyncio

import pytest

from callstream.agents.inference.admission.allowance import Amount, Limit, Unit
from callstream.agents.inference.admission.fakes import MemorySpending
from callstream.agents.inference.admission.purse import NoRows, Purse
from callstream.streams.ownership import LostOwnership
from callstream.streams.wire import LogUnavailable

ALL = frozenset(range(4))
LIMITS = {"acme": (Limit(Unit.TOKENS, 1000, 60.0),), "@free": ()}
MARGIN = 1.5
EPOCH = 1_764_000_000.0


class Clock:
    """A monotonic clock, and one of epoch seconds that may be wrong."""

    def __init__(self, ahead: float = EPOCH) -> None:
        self.now, self.ahead = 100.0, ahead

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now + self.ahead


def a_purse(rows: MemorySpending | NoRows, clock: Clock) -> Purse:
    purse = Purse(LIMITS, 4, MARGIN, rows, (clock.monotonic, clock.wall))
    purse.refresh()
    return purse


def tokens(count: int) -> Amount:
    return Amount(count, 0)


async def spend(purse: Purse, count: int) -> None:
    reserved = purse.reserve(["acme"], tokens(count), 100.0)
    written = purse.written(reserved)
    assert written is not None
    await written


async def test_a_reservation_is_on_the_log_before_it_counts_as_written() -> None:
    rows, clock = MemorySpending(owned=ALL), Clock()
    purse = a_purse(rows, clock)
    rows.hold()
    written = purse.written(purse.reserve(["acme"], tokens(100), clock.now))
    assert written is not None
    await asyncio.sleep(0.01)
    assert not written.done()
    assert not rows.log
    rows.release()
    await written
    assert rows.log


async def test_calls_that_are_admitted_together_are_written_together() -> None:
    rows, clock = MemorySpending(owned=ALL), Clock()
    purse = a_purse(rows, clock)
    written = [purse.written(purse.reserve(["acme"], tokens(5), clock.now)) for _ in range(20)]
    await asyncio.gather(*(one for one in written if one is not None))
    assert rows.writes <= 4


async def test_the_next_owner_begins_with_what_was_spent() -> None:
    log: dict[tuple[int, bytes], bytes] = {}
    clock, rows = Clock(), MemorySpending(log, ALL)
    await spend(a_purse(rows, clock), 1000)
    clock.now += 30
    # when another replica has the partitions, on a machine whose clock is a second behind
    other = a_purse(MemorySpending(log, ALL), Clock(EPOCH + 30 - 1))
    when, unit = other.opens(["acme"], tokens(1), 100.0)
    assert unit is Unit.TOKENS
    assert when >= 100.0 + 30


async def test_a_partition_that_came_back_is_read_anew() -> None:
    log: dict[tuple[int, bytes], bytes] = {}
    clock, rows, others = Clock(), MemorySpending(log, ALL), MemorySpending(log, ALL)
    purse = a_purse(rows, clock)
    # given a replica that did not look while another one had its partitions and spent all of them
    await spend(a_purse(others, clock), 1000)
    rows.rebalance(ALL)
    purse.refresh()
    assert purse.opens(["acme"], tokens(1), clock.now)[0] > clock.now


async def test_what_was_reserved_before_a_rebalance_is_held_no_more() -> None:
    rows, clock = MemorySpending(owned=ALL), Clock()
    purse = a_purse(rows, clock)
    reserved = purse.reserve(["acme"], tokens(10), clock.now)
    assert purse.holds(reserved)
    rows.rebalance(ALL)
    purse.refresh()
    assert not purse.holds(reserved)


async def test_a_reservation_of_a_partition_that_has_gone_is_refused() -> None:
    rows, clock = MemorySpending(owned=ALL), Clock()
    purse = a_purse(rows, clock)
    rows.hold()
    written = purse.written(purse.reserve(["acme"], tokens(10), clock.now))
    assert written is not None
    await asyncio.sleep(0.01)
    rows.rebalance(frozenset())
    rows.release()
    with pytest.raises(LostOwnership):
        await written


async def test_a_log_that_takes_nothing_refuses_the_reservation() -> None:
    rows, clock = MemorySpending(owned=ALL), Clock()
    purse = a_purse(rows, clock)
    rows.refuse()
    with pytest.raises(LogUnavailable):
        await spend(purse, 1)


async def test_what_was_not_taken_is_free_and_the_row_follows() -> None:
    rows, clock = MemorySpending(owned=ALL), Clock()
    purse = a_purse(rows, clock)
    reserved = purse.reserve(["acme"], tokens(1000), clock.now)
    written = purse.written(reserved)
    assert written is not None
    await written
    purse.settle(reserved, tokens(100))
    assert purse.opens(["acme"], tokens(900), clock.now)[0] == clock.now
    await asyncio.sleep(0.35)
    other = a_purse(MemorySpending(rows.log, ALL), clock)
    assert other.opens(["acme"], tokens(900), clock.now)[0] == clock.now
    assert other.opens(["acme"], tokens(901), clock.now)[0] > clock.now


async def test_without_a_limit_nothing_is_written() -> None:
    rows, clock = MemorySpending(owned=ALL), Clock()
    purse = a_purse(rows, clock)
    reserved = purse.reserve(["@free"], tokens(10**9), clock.now)
    assert purse.written(reserved) is None
    assert purse.holds(reserved)
    assert purse.opens(["@free"], tokens(10**9), clock.now) == (clock.now, None)


async def test_a_process_that_shares_in_nothing_may_spend_nothing() -> None:
    clock = Clock()
    purse = a_purse(NoRows(), clock)
    assert not purse.shares
    assert purse.opens(["acme"], tokens(1), clock.now)[0] == float("inf")


async def test_a_share_that_came_back_unspent_is_known_exactly() -> None:
    rows, clock = MemorySpending(owned=ALL), Clock()
    purse = a_purse(rows, clock)
    await spend(purse, 1000)
    before = purse.opens(["acme"], tokens(1), clock.now)
    # when partitions go and come, three times, and nobody else has spent of them
    for _ in range(3):
        rows.rebalance(ALL)
        purse.refresh()
    assert purse.opens(["acme"], tokens(1), clock.now) == before


async def test_what_was_spent_does_not_age_more_slowly_with_each_owner() -> None:
    log: dict[tuple[int, bytes], bytes] = {}
    clock = Clock()
    await spend(a_purse(MemorySpending(log, ALL), clock), 1000)
    when = 0.0
    for _ in range(5):
        owner = a_purse(MemorySpending(log, ALL), clock)
        when, _ = owner.opens(["acme"], tokens(1), clock.now)
        owner.settle(owner.reserve(["acme"], tokens(1), clock.now), tokens(0))
        await asyncio.sleep(0.3)
    assert when <= 100.0 + 60 + 2 * MARGIN + 0.5


async def test_a_reservation_that_was_never_written_leaves_what_was_read_anew_alone() -> None:
    # given a reservation that the log did not take, and partitions that are read anew in the same half second
    rows, clock = MemorySpending(owned=ALL), Clock()
    purse = a_purse(rows, clock)
    lost = purse.reserve(["acme"], tokens(250), clock.now)
    rows.rebalance(ALL)
    purse.refresh()
    # when all is spent and the lost one is given back
    await spend(purse, 1000)
    purse.settle(lost, tokens(0), sent=False)
    # then nothing is free
    assert purse.opens(["acme"], tokens(1), clock.now)[0] > clock.now


@pytest.mark.parametrize(("writer", "reader"), [(-3600.0, 0.0), (3600.0, 0.0), (0.0, 3600.0), (0.0, -3600.0)])
async def test_a_clock_that_was_set_wrong_shortens_nothing(writer: float, reader: float) -> None:
    # given two replicas whose clocks agreed when they began
    log: dict[tuple[int, bytes], bytes] = {}
    rows, others = MemorySpending(log, ALL), MemorySpending(log)
    clock, other_clock = Clock(), Clock()
    purse, other = a_purse(rows, clock), a_purse(others, other_clock)
    # when one of them is set wrong, what was spent is written, and the partitions go over
    clock.ahead += writer
    other_clock.ahead += reader
    await spend(purse, 1000)
    rows.rebalance(frozenset())
    others.rebalance(ALL)
    other.refresh()
    # then it counts for its minute
    assert 100.0 + 60 <= other.opens(["acme"], tokens(1), 100.0)[0] <= 100.0 + 60 + 2 * MARGIN + 0.5
