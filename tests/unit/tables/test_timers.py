"""Rows in the order of their time: each is given out once, when it is due, however rows come and go meanwhile."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from callstream.streams.ownership import Claim
from callstream.streams.timing import Timed
from callstream.streams.wire import Record
from callstream.tables.fakes import MemoryRows
from callstream.tables.timers import MOST_AT_ONCE, MOST_TEXT_BYTES, Timers, key_of

CLAIM = Claim(0, 0)
SECOND = 1_000_000


def a_timer(seconds: float, name: str = "a", value: bytes = b"{}") -> Timed:
    return Timed(
        round(seconds * SECOND), Record("callstream.infer", b"k", value, [("ce_id", name.encode()), ("x", b"\xff")])
    )


def names(timers: Timers, now: float) -> list[str]:
    return [due.timed.id.rpartition("/")[2] for due in timers.due(CLAIM, now)]


async def test_rows_are_given_out_when_they_are_due_earliest_first() -> None:
    timers = Timers(MemoryRows())
    for seconds in (3, 1, 2, 20):
        await timers.put(CLAIM, a_timer(seconds, f"at-{seconds}"))
    assert names(timers, 0.5) == []
    assert names(timers, 2.5) == ["at-1", "at-2"]
    assert names(timers, 2.5) == []
    assert names(timers, 100.0) == ["at-3", "at-20"]


async def test_what_is_set_behind_the_front_is_found() -> None:
    timers = Timers(MemoryRows())
    await timers.put(CLAIM, a_timer(5, "first"))
    [first] = timers.due(CLAIM, 10.0)
    # when one is set that is due before what was given out, and one of the very same time
    await timers.put(CLAIM, a_timer(1, "overdue"))
    await timers.remove(CLAIM, first)
    await timers.put(CLAIM, a_timer(5, "again"))
    assert names(timers, 10.0) == ["overdue", "again"]


async def test_what_is_set_while_the_table_is_looked_at_is_found_once_it_is_on_the_log() -> None:
    rows = MemoryRows()
    timers = Timers(rows)
    rows.hold()
    setting = asyncio.create_task(timers.put(CLAIM, a_timer(1)))
    assert names(timers, 10.0) == []
    await asyncio.sleep(0)
    rows.release()
    await setting
    assert names(timers, 10.0) == ["a"]


async def test_the_same_timer_set_again_is_one_row() -> None:
    rows = MemoryRows()
    timers = Timers(rows)
    for _ in range(2):
        await timers.put(CLAIM, a_timer(1))
    assert len(list(rows.scan(0))) == 1


async def test_what_was_given_out_and_not_removed_comes_again_with_the_next_owner() -> None:
    rows = MemoryRows()
    timers = Timers(rows)
    await timers.put(CLAIM, a_timer(1, "sent"))
    await timers.put(CLAIM, a_timer(2, "kept"))
    sent, _ = timers.due(CLAIM, 10.0)
    await timers.remove(CLAIM, sent)
    timers.forget()
    assert names(timers, 10.0) == ["kept"]


async def test_a_batch_is_bounded_and_the_next_one_goes_on() -> None:
    timers = Timers(MemoryRows())
    for number in range(MOST_AT_ONCE + 3):
        await timers.put(CLAIM, a_timer(number / 1_000, str(number)))
    assert len(names(timers, 10.0)) == MOST_AT_ONCE
    assert len(names(timers, 10.0)) == 3


async def test_large_bodies_end_a_batch_early_and_come_back_whole() -> None:
    timers, large = Timers(MemoryRows()), b'"' * (4 * MOST_TEXT_BYTES)
    for name in "abcd":
        await timers.put(CLAIM, a_timer(1, name, large))
    first = timers.due(CLAIM, 10.0)
    assert [due.timed for due in first] == [a_timer(1, "a", large), a_timer(1, "b", large)]
    assert names(timers, 10.0) == ["c", "d"]


@given(st.lists(st.integers(0, 2**53), min_size=2, max_size=9))
def test_keys_sort_as_their_times_do(dues: list[int]) -> None:
    keys = [key_of(Timed(due, Record("t", b"k", b"", []))) for due in sorted(dues)]
    assert keys == sorted(keys)


Moves = st.lists(st.tuples(st.sampled_from(["put", "look"]), st.integers(0, 20)), max_size=40)


@given(Moves)
def test_every_row_is_given_out_exactly_once_and_never_early(moves: list[tuple[str, int]]) -> None:
    async def play() -> None:
        timers, now, seen = Timers(MemoryRows()), 0, list[str]()
        due_at: dict[str, int] = {}
        for number, (move, seconds) in enumerate(moves):
            if move == "put":
                due_at[str(number)] = seconds
                await timers.put(CLAIM, a_timer(seconds, str(number)))
                continue
            now = max(now, seconds)
            for due in timers.due(CLAIM, float(now)):
                seen.append(due.timed.id.rpartition("/")[2])
                await timers.remove(CLAIM, due)
            assert sorted(seen) == sorted(name for name, at in due_at.items() if at <= now)

    asyncio.run(play())
