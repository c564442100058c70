import time
from typing import Any

import pytest

from callstream.streams.event import Json
from callstream.streams.fakes import MemoryCell
from callstream.streams.ownership import LostOwnership
from callstream.tables.durable import NoCell, TableCell, store_options
from callstream.tables.fakes import MemoryRows

KEY = b"4:acme:mug-1"


@pytest.fixture
def rows() -> MemoryRows:
    return MemoryRows()


def cell(rows: MemoryRows) -> TableCell:
    """The row of one task, as one event has it."""
    return TableCell(rows, rows.claim(0), KEY)


async def test_a_saved_row_is_there_for_the_event_and_for_the_next_one(rows: MemoryRows) -> None:
    mine = cell(rows)
    assert mine.value is None
    await mine.save({"a": 1})
    for seen in (mine, cell(rows)):
        assert seen.value is not None
        assert seen.value["a"] == 1
    assert len(rows.written) == 1


async def test_a_saved_row_says_when(rows: MemoryRows) -> None:
    mine = cell(rows)
    await mine.save({"a": 1, "at": "whenever"})
    assert mine.value is not None
    assert abs(mine.value["at"] - time.time()) < 60


async def test_a_row_of_a_partition_that_was_lost_is_not_written(rows: MemoryRows) -> None:
    mine = cell(rows)
    rows.revoke()
    with pytest.raises(LostOwnership):
        await mine.save({"a": 1})
    assert (mine.value, rows.written) == (None, [])


@pytest.mark.parametrize("wrong", [float("nan"), "\ud800", object()])
async def test_what_is_no_json_is_refused_and_the_row_stays(rows: MemoryRows, wrong: Any) -> None:
    for mine in (cell(rows), MemoryCell({"a": 1})):
        before: Json | None = mine.value
        with pytest.raises(ValueError, match=r"."):
            await mine.save({"a": wrong})
        assert mine.value == before


async def test_a_service_without_a_table_remembers_nothing_and_says_so() -> None:
    assert NoCell().value is None
    with pytest.raises(TypeError, match="keeps no table"):
        await NoCell().save({"a": 1})


def test_a_partition_of_a_table_has_a_small_share_of_memory() -> None:
    options = store_options()
    assert options["driver"] == "rocksdict"
    most = options["block_cache_size"] + options["write_buffer_size"] * options["max_write_buffer_number"]
    assert most <= 8 << 20
