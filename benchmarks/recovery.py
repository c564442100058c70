"""How long does a worker take to come back after a kill, with a million rows in its tables?

    python -m benchmarks.recovery --keys 1000000

One task goes the whole way, and a worker with all services is stopped. Then a loader puts the row that the task left
in the table `tasks` onto the changelog once for each key, under other ids: as many rows of that size and shape as were
asked for, over 8 partitions, quicker than the chain would make them. A worker reads them and is killed (SIGKILL) while
idle, twice: once it starts again on its disk, once on an empty one. Timed is from the start of its process to when it
is ready.
"""

import argparse
import asyncio
import shutil
import signal
import time
from typing import Any

import aiohttp
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from benchmarks.harness import ROOT, Shape, System, Worker, cpu_seconds, memory_mb, system, write_json
from callstream.streams import strict_json
from callstream.streams.event import Json
from callstream.streams.keys import partition_of, task_key
from callstream.streams.topics import TASKS, changelog_of

PARTITIONS = 8
TENANT = "default"
CHANGELOG = changelog_of("gateway", TASKS)
LOOKED_AT = 200
WAIT_SECONDS = 30
READY_SECONDS = 1_800.0


async def real_row(running: System) -> Json:
    """The row of a task that has gone the whole way, as the table has it."""
    base = f"http://127.0.0.1:{running.workers[0].port}"
    given = {"product_id": "p-1", "title": "A mug, blue, 350 ml", "description": "Made to last."}
    async with aiohttp.ClientSession(base) as http:
        async with http.post("/v1/tasks", json={"chain": "fast-copy", "id": "real", "input": given}) as answer:
            answer.raise_for_status()
        state = None
        while state != "finished":
            async with http.get("/v1/tasks/real", params={"wait": str(WAIT_SECONDS)}) as answer:
                state = (await answer.json()).get("state")
    async with AIOKafkaConsumer(bootstrap_servers=running.bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition(CHANGELOG, partition_of(task_key(TENANT, "real"), PARTITIONS))])
        last: Json = {}
        while last.get("state") != "finished":
            for batch in (await consumer.getmany(timeout_ms=WAIT_SECONDS * 1_000)).values():
                last = strict_json.unpack(batch[-1].value or b"{}")
    return last


async def load(bootstrap: str, row: Json, keys: int) -> int:
    """Put a row for each key onto the changelog; gives the bytes of one."""
    size = 0
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=20) as producer:
        for number in range(keys):
            key = task_key(TENANT, name(number))
            value = strict_json.pack({**row, "id": name(number)})
            size = len(value)
            await producer.send(CHANGELOG, value, key, partition=partition_of(key, PARTITIONS))
        await producer.flush()
    return size


def name(number: int) -> str:
    """A task's id."""
    return f"recovered-{number:08d}"


async def come_back(worker: Worker, keys: int) -> dict[str, float]:
    """Start a worker and see how long it takes until it is ready, and has what it should."""
    began = time.monotonic()
    await worker.start()
    await worker.ready(READY_SECONDS)
    seconds = time.monotonic() - began
    figures = {"seconds": round(seconds, 1), "cpu_seconds": cpu_seconds(worker.pid), "rss_mb": memory_mb(worker.pid)}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{worker.port}") as http:
        for number in range(0, keys, max(1, keys // LOOKED_AT)):
            async with http.get(f"/v1/tasks/{name(number)}") as answer:
                if answer.status != 200:
                    raise SystemExit(f"void: {name(number)} is lost: {await answer.text()}")
    return {one: round(value, 1) for one, value in figures.items()}


async def measure(keys: int) -> dict[str, Any]:
    """The figures of one run."""
    shape = Shape(environment={"CALLSTREAM_LOGS__LEVEL": "warning"})
    async with system(f"{ROOT}/examples/fast/chain.py:chain", shape, seed=3, median_ms=20) as running:
        worker = running.workers[0]
        row = await real_row(running)
        await worker.end()
        began = time.monotonic()
        size = await load(running.bootstrap, row, keys)
        loaded = time.monotonic() - began
        first = await come_back(worker, keys)
        await worker.end(signal.SIGKILL)
        same = await come_back(worker, keys)
        await worker.end(signal.SIGKILL)
        await asyncio.to_thread(shutil.rmtree, worker.folder / "tables")
        empty = await come_back(worker, keys)
        disk = sum(file.stat().st_size for file in (worker.folder / "tables").rglob("*") if file.is_file())
    return {
        "keys": keys,
        "bytes_a_row": size,
        "loader_seconds": round(loaded, 1),
        "tables_mb_on_disk": round(disk / 1024**2, 1),
        **{f"first_reading_{one}": value for one, value in first.items()},
        **{f"same_disk_{one}": value for one, value in same.items()},
        **{f"empty_disk_{one}": value for one, value in empty.items()},
    }


def main() -> None:
    """Print the figures of one run and keep them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000, help="rows in the table")
    figures = asyncio.run(measure(parser.parse_args().keys))
    for one, value in figures.items():
        print(f"{one:28} {value}")
    write_json("recovery", figures)


if __name__ == "__main__":
    main()
