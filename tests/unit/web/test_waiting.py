"""The order of held tasks: what is in it, page by page, whatever is written meanwhile."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callstream.streams import strict_json
from callstream.streams.event import Json
from callstream.streams.keys import partition_of, task_key
from callstream.streams.ownership import Claim
from callstream.streams.review import opened
from callstream.tables.fakes import MemoryRows
from callstream.web.waiting import Query, Waiting, as_cursor, place_in, place_of
from tests.support.reviews import held_task

PARTITIONS = 3


def a_row(task: str, state: str = "held", tenant: str = "acme", **review: Any) -> Json:
    known = opened(held_task()) | review
    return {"tenant": tenant, "id": task, "chain": "shop", "state": state, "steps": [], "updated": 1.0, "review": known}


class Table:
    """A table of tasks with the index over it."""

    def __init__(self, most: int = 100) -> None:
        self.rows = MemoryRows(PARTITIONS)
        self.owned = list(range(PARTITIONS))
        self.index = Waiting(self.rows, lambda: self.owned, self.row, PARTITIONS, most)

    def row(self, partition: int, key: bytes) -> Json | None:
        raw = self.rows.read(partition, key)
        return None if raw is None else strict_json.unpack(raw)

    async def write(self, row: Json, heard: bool = True) -> None:
        key = task_key(row["tenant"], row["id"])
        await self.rows.write(Claim(partition_of(key, PARTITIONS), 0), key, strict_json.pack(row))
        if heard:
            self.index.changed(row)

    async def ids(self, **query: Any) -> list[str]:
        rows, _ = await self.index.page("acme", Query(now=50.0, **query))
        return [row["id"] for row in rows]

    async def paged(self, limit: int) -> list[str]:
        found: list[str] = []
        after = None
        while True:
            rows, _ = await self.index.page("acme", Query(now=50.0, after=after, limit=limit))
            found += [row["id"] for row in rows]
            if len(rows) < limit:
                return found
            after = place_in(as_cursor(place_of(rows[-1])))


ROWS = st.lists(
    st.tuples(
        st.sampled_from([f"t-{number}" for number in range(9)]),
        st.sampled_from(["held", "held", "running"]),
        st.sampled_from(["high", "normal", "low"]),
        st.none() | st.integers(0, 3),
        st.booleans(),
    ),
    max_size=30,
)


@settings(max_examples=50, deadline=None)
@given(ROWS, st.integers(0, 30), st.integers(1, 4))
async def test_the_order_is_that_of_a_look_at_every_row(changes: Any, asked_at: int, limit: int) -> None:
    table, latest = Table(), dict[str, Json]()
    for number, (task, state, priority, due, _) in enumerate(changes):
        if number == asked_at:
            await table.ids()
        latest[task] = a_row(task, state, priority=priority, due=due)
        await table.write(latest[task])
    expected = sorted((row for row in latest.values() if row["state"] == "held"), key=place_of)
    assert await table.paged(limit) == [row["id"] for row in expected]


async def test_what_was_written_before_this_gateway_came_is_in_order_and_what_was_lost_is_not() -> None:
    table = Table()
    for number in range(9):
        await table.write(a_row(f"t-{number}"), heard=False)
    assert await table.ids() == [f"t-{number}" for number in range(9)]
    table.owned = [0]
    table.index.forget()
    here = [f"t-{number}" for number in range(9) if partition_of(task_key("acme", f"t-{number}"), PARTITIONS) == 0]
    assert await table.ids() == here


async def test_pages_are_stable_while_rows_come_and_go() -> None:
    table = Table()
    for number in range(6):
        await table.write(a_row(f"t-{number}", due=number))
    rows, _ = await table.index.page("acme", Query(now=0.0, limit=3))
    await table.write(a_row("t-1", "running", due=1))
    await table.write(a_row("new-first", due=0))
    await table.write(a_row("new-last", due=9))
    assert await table.ids(after=place_of(rows[-1])) == ["t-3", "t-4", "t-5", "new-last"]


async def test_one_tenants_tasks_and_those_that_a_filter_takes() -> None:
    table = Table()
    await table.write(a_row("theirs", tenant="other"))
    await table.write(a_row("mine", group="legal", claim={"by": "ann", "since": 0, "until": 60}))
    await table.write(a_row("open", claim={"by": "ann", "since": 0, "until": 50}))
    assert await table.ids() == ["mine", "open"]
    assert await table.ids(group="legal") == ["mine"]
    assert await table.ids(claimed=True) == ["mine"]
    assert await table.ids(claimed=False) == ["open"]
    assert await table.ids(chain="other") == []


async def test_of_more_than_are_kept_the_first_are_and_the_others_follow() -> None:
    table = Table(most=4)
    for number in range(7):
        await table.write(a_row(f"t-{number}", due=number))
    rows, complete = await table.index.page("acme", Query(now=0.0))
    assert ([row["id"] for row in rows], complete) == (["t-0", "t-1", "t-2", "t-3"], False)
    for number in range(3):
        await table.write(a_row(f"t-{number}", "running"))
    assert await table.ids() == ["t-3", "t-4", "t-5", "t-6"]


async def test_rows_of_older_programs_are_in_order_too() -> None:
    table = Table()
    row = a_row("old") | {"version": 1, "sequence": 3, "digest": "0" * 64, "priority": "high", "traceparent": None}
    del row["review"]
    await table.write(a_row("new"))
    await table.write(row)
    assert await table.ids() == ["old", "new"]


@pytest.mark.parametrize("cursor", ["", "x", "é", "W10", "WzEsMl0", "bnVsbA", "WyJhIiwxLCJ4Il0", "a" * 5000])
def test_what_is_no_cursor(cursor: str) -> None:
    with pytest.raises(ValueError, match="not a cursor"):
        place_in(cursor)


@given(st.tuples(st.integers(0, 2), st.floats(0, 1e10) | st.just(float("inf")), st.text("abc-~.", min_size=1)))
def test_a_cursor_is_read_as_it_was_written(place: Any) -> None:
    assert place_in(as_cursor(place)) == place
