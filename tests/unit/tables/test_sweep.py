import asyncio
import json
from collections.abc import Callable

import pytest

from callstream.streams.event import Json
from callstream.streams.ownership import Claim, LostOwnership
from callstream.tables import sweep
from callstream.tables.fakes import MemoryRows
from callstream.tables.latency import WindowKey
from callstream.tables.sweep import ROWS_A_STEP, Sweeper, ended_before, older_than, seen_before, window_over


async def filled(table: MemoryRows, rows: dict[bytes, Json], partition: int = 0) -> MemoryRows:
    """The table with these rows in it."""
    for key, row in rows.items():
        await table.write(table.claim(partition), key, json.dumps(row).encode())
    table.written.clear()
    return table


def kept(table: MemoryRows, partition: int = 0) -> list[bytes]:
    return [key for key, _ in table.scan(partition, most=10_000)]


@pytest.mark.parametrize(
    ("expired", "row", "gone"),
    [
        (older_than("at", 60), {"at": 39.9}, True),
        (older_than("at", 60), {"at": 40}, False),
        (older_than("at", 60), {"at": None}, False),
        (older_than("at", 60), {}, False),
        (seen_before(60), {"at": 39, "run_at": None}, True),
        (seen_before(60), {"at": 39, "run_at": 39}, True),
        (seen_before(60), {"at": 39, "run_at": 500}, False),
        (seen_before(60), {"at": 41}, False),
        (ended_before(60), {"state": "finished", "updated": 39}, True),
        (ended_before(60), {"state": "failed", "updated": 39}, True),
        (ended_before(60), {"state": "rejected", "updated": 41}, False),
        (ended_before(60), {"state": "running", "updated": 0}, False),
        (ended_before(60), {"state": "held", "updated": 0}, False),
    ],
)
def test_what_has_outlived_its_use(expired: Callable[[bytes, Json, float], bool], row: Json, gone: bool) -> None:
    assert expired(b"k", row, 100.0) is gone


def test_a_window_is_over_when_it_is_no_longer_kept() -> None:
    key = WindowKey(60, 120, "copy", "a|b").encode()
    assert not window_over(key, {}, 120 + 60 + 3_600.0)
    assert window_over(key, {}, 120 + 60 + 3_600.1)


async def test_rows_go_a_few_at_a_time_and_every_row_is_looked_at() -> None:
    rows: dict[bytes, Json] = {b"%04d" % n: {"at": 1 if n % 3 else 99} for n in range(2 * ROWS_A_STEP + 7)}
    table = await filled(MemoryRows(), rows)
    sweeper = Sweeper(table, older_than("at", 60), lambda: 100.0)
    after, steps = b"", 0
    while steps == 0 or after:
        after = await sweeper.step(0, after)
        steps += 1
    assert steps == 3
    assert kept(table) == [key for key, row in rows.items() if row["at"] == 99]
    assert {value for _, value in table.written} == {None}


async def test_a_row_that_is_written_anew_meanwhile_stays() -> None:
    table = await filled(MemoryRows(), {b"a": {"at": 1}, b"b": {"at": 1}})
    table.hold()
    step = asyncio.create_task(Sweeper(table, older_than("at", 60), lambda: 100.0).step(0, b""))
    await asyncio.sleep(0)
    anew = asyncio.create_task(table.write(table.claim(0), b"b", b'{"at": 99}'))
    await asyncio.sleep(0)
    table.release()
    await asyncio.gather(step, anew)
    assert kept(table) == [b"b"]


class Lost(MemoryRows):
    """A table whose first partition goes to another worker at the first write."""

    async def write(self, claim: Claim, key: bytes, value: bytes | None) -> None:
        """As always, but for partition 0."""
        if value is None and claim.partition == 0:
            raise LostOwnership("partition 0 was revoked")
        await super().write(claim, key, value)


async def test_a_partition_that_was_lost_does_not_end_the_sweep_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "SECONDS_BETWEEN_STEPS", 0.0)
    table = Lost(2)
    await filled(table, {b"a": {"at": 1}}, partition=0)
    await filled(table, {b"b": {"at": 1}}, partition=1)
    sweeping = asyncio.create_task(Sweeper(table, older_than("at", 60), lambda: 100.0).run())
    for _ in range(20):
        await asyncio.sleep(0)
    assert (kept(table, 0), kept(table, 1)) == ([b"a"], [])
    assert not sweeping.done()
    sweeping.cancel()
