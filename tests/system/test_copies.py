"""Folders of tables that are not what the worker left behind: of an older state, of another cluster, of a lost log."""

import asyncio
import shutil
import time
from pathlib import Path
from typing import Any, cast

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from callstream.streams.chain import Cell
from callstream.streams.declare import MAX_DEAD_RECORD_BYTES
from callstream.streams.disk import DiskUnusable
from callstream.streams.event import Event
from callstream.streams.outcome import Forward, Outcome
from callstream.streams.topics import TopicPlan
from callstream.tables.copies import STAMP_KEY, stamp
from callstream.tables.durable import OFFSET_KEY
from tests.support.kafka import admin_of
from tests.support.services import (
    PARTITIONS,
    RETENTION_SECONDS,
    Hosted,
    Workshop,
    changelog,
    configure,
    pass_on,
    running,
    task_at,
    unique,
    until,
)

PARTITION = 3


async def test_a_folder_of_an_older_state_has_what_was_settled_since(kafka_broker: str, tmp_path: Path) -> None:
    calls: list[str] = []

    async def call_once(event: Event, cell: Cell) -> Outcome:
        if cell.value is None:
            calls.append(event.task)
            await cell.save({"answer": event.task})
        return Forward()

    async def build() -> Hosted:
        return await Workshop(kafka_broker, tmp_path).build(name, call_once, remembers=True)

    async def has_passed(service: Hosted, count: int) -> None:
        async def look() -> bool:
            return len(await service.passed()) >= count

        await until(look, f"{count} events are passed on")

    # given a copy of a folder, after which another task was settled and a row deleted
    name, first, second = unique("older"), task_at(PARTITION), task_at(PARTITION, skip=1)
    folder, copy = tmp_path / "one" / "tables", tmp_path / "copy"
    service = await build()
    async with running(service):
        await service.submit(first)
        await service.memory.write(service.memory.claim(PARTITION), b"deleted later", b"{}")
        await has_passed(service, 1)
    await asyncio.to_thread(shutil.copytree, folder, copy)
    service = await build()
    async with running(service):
        await service.submit(second)
        await service.memory.write(service.memory.claim(PARTITION), b"deleted later", None)
        await has_passed(service, 2)
    # when the copy is put in its place, and both events come again
    await asyncio.to_thread(shutil.rmtree, folder)
    await asyncio.to_thread(shutil.move, copy, folder)
    service = await build()
    async with running(service):
        await service.submit(first)
        await service.submit(second)
        await has_passed(service, 4)
        # then both are told what was settled, without a second call, and what was deleted is
        assert calls == [first, second]
        assert service.memory.read(PARTITION, b"deleted later") is None
    sent = [dict(record.headers)["ce_id"] for record in await service.passed()]
    assert (len(sent), len(set(sent))) == (4, 2)


async def test_a_folder_that_does_not_belong_to_its_changelog_is_read_back(
    kafka_broker: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # given a table, and in its folder a row that the changelog does not have
    name = unique("foreign")
    topic = changelog(name)

    async def run(has: bytes | None, spoil: dict[bytes, bytes]) -> None:
        service = await Workshop(kafka_broker, tmp_path).build(name, pass_on, remembers=True)
        async with running(service):
            table = service.memory
            assert (table.read(PARTITION, b"kept"), table.read(PARTITION, b"foreign")) == (has, None)
            for row in (b"early", b"kept"):
                await table.write(table.claim(PARTITION), row, b"{}")
            for row, value in {b"foreign": b"{}", **spoil}.items():
                table._database(PARTITION).put(row, value)

    # when it says that it is of another cluster, has what the changelog has not, or lacks what is not there any more
    await run(None, {STAMP_KEY: stamp("another", time.time())})
    await run(b"{}", {OFFSET_KEY: b"999"})
    await run(b"{}", {OFFSET_KEY: b"0"})
    await forget(kafka_broker, topic, before=5)
    await run(b"{}", {})
    # then it was thrown away each time, and said why
    told = [record.getMessage() for record in caplog.records if record.name == "callstream.tables"]
    assert [str(tmp_path) in line for line in told] == [True] * 3
    for line, why in zip(told, ("another cluster, another", "has offset 999", "what is left begins at"), strict=True):
        assert why in line


async def test_a_row_that_the_disk_did_not_take_is_read_back_and_no_other_covers_it(
    kafka_broker: str, tmp_path: Path
) -> None:
    # given a table whose database takes nothing more
    name = unique("broken")
    service = await Workshop(kafka_broker, tmp_path).build(name, pass_on, remembers=True)
    async with running(service):
        table = service.memory
        await table.write(table.claim(PARTITION), b"before", b"{}")
        has = table.size(PARTITION)[2]
        table._database(PARTITION).close()
        # when a row is written
        with pytest.raises(DiskUnusable, match="bytes are free there"):
            await table.write(table.claim(PARTITION), b"missed", b"{}")
        # then the worker ends, and no later row is taken, with which the folder would count as having both
        assert isinstance(service.app.failure, DiskUnusable)
        del cast(Any, table.data)._dbs[PARTITION]
        with pytest.raises(DiskUnusable):
            await table.write(table.claim(PARTITION), b"later", b"{}")
        assert table.size(PARTITION)[2] == has
    # and the next one has it, since the log took it
    again = await Workshop(kafka_broker, tmp_path).build(name, pass_on, remembers=True)
    async with running(again):
        assert [again.memory.read(PARTITION, key) for key in (b"before", b"missed", b"later")] == [b"{}", b"{}", None]


async def forget(bootstrap: str, topic: str, before: int) -> None:
    """Have the broker delete what a partition has before an offset, as it does for no topic that is compacted."""
    at = TopicPartition(topic, PARTITION)
    await configure(bootstrap, topic, cleanup_policy="delete")
    async with admin_of(bootstrap) as admin:
        await admin.delete_records({at: RecordsToDelete(before_offset=before)})
    kept = TopicPlan(topic, PARTITIONS, 1, RETENTION_SECONDS, True, MAX_DEAD_RECORD_BYTES).config()
    await configure(bootstrap, topic, **{name.replace(".", "_"): value for name, value in kept.items()})
