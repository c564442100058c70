"""Does the timer keep its time and its memory with a million timers pending?

    python -m benchmarks.timers --pending 1000000 --rate 2000 [--seconds 60]

One worker runs the service `timer` alone. First it takes in `--pending` timers that are due in a day, then `--rate` a
second that come due for `--seconds`. How late each was is the difference between its due time and the timestamp that
its record has on the topic that it was for.
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from benchmarks.harness import ROOT, cpu_seconds, memory_mb, write_json
from callstream.streams.broker import BrokerOptions, EmbeddedKafka
from callstream.streams.declare import declare, plan
from callstream.streams.event import Submission
from callstream.streams.keys import partition_of
from callstream.streams.loading import load_chains
from callstream.streams.submission import Order, new_event
from callstream.streams.timing import delayed
from callstream.streams.topics import TIMER, group_of, topic_of
from callstream.streams.wire import Record, encode

PARTITIONS = 8
DAY = 24 * 3_600.0
HEAD_START_SECONDS = 5.0
SLOWEST_TAKEN_SECONDS = 0.002
STALL_SECONDS = 60.0
DESTINATION = topic_of("deliver")
"""No worker here reads it."""


@dataclass(frozen=True)
class Run:
    """Where the run takes place."""

    bootstrap: str
    pid: int


@asynccontextmanager
async def running() -> AsyncIterator[Run]:
    """Broker and worker, each a process of its own; ended and their data deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="callstream-bench-") as name:
        folder = Path(name)
        chain = f"{ROOT}/examples/fast/chain.py:chain"
        with EmbeddedKafka(BrokerOptions(folder=folder / "kafka")) as kafka:
            await declare(kafka.bootstrap, plan(load_chains([chain]), PARTITIONS, 1, 7 * DAY))
            environment = {
                **os.environ,
                "CALLSTREAM_BROKER": kafka.bootstrap,
                "CALLSTREAM_DATA_FOLDER": str(folder / "data"),
                "CALLSTREAM_CHAINS": f'["{chain}"]',
                "CALLSTREAM_LOGS__LEVEL": "warning",
            }
            worker = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "callstream", "worker", TIMER), env=environment, cwd=folder
            )
            try:
                yield Run(kafka.bootstrap, worker.pid)
            finally:
                worker.send_signal(signal.SIGTERM)
                await worker.wait()


def timer(number: int, name: str, due: float) -> Record:
    """A timer for a task."""
    submission = Submission(chain="fast-copy", input={"product_id": f"p-{number}", "title": "A mug, blue, 350 ml"})
    return delayed(encode(new_event(submission, Order("bench", f"{name}-{number}"), 1.0), DESTINATION), due)


async def put(bootstrap: str, records: Iterator[Record]) -> int:
    """Send timers as fast as the broker takes them; gives how many."""
    count = 0
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=5) as producer:
        for record in records:
            at = partition_of(record.key, PARTITIONS)
            await producer.send(record.topic, record.value, record.key, headers=record.headers, partition=at)
            count += 1
        await producer.flush()
    return count


async def until_taken(bootstrap: str, count: int) -> None:
    """Wait until the service has committed so many records."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    last, since = -1, time.monotonic()
    try:
        while True:
            offsets = await admin.list_consumer_group_offsets(group_of(TIMER))
            taken = sum(max(0, one.offset) for place, one in offsets.items() if place.topic == topic_of(TIMER))
            if taken >= count:
                return
            if taken != last:
                last, since = taken, time.monotonic()
            if time.monotonic() - since > STALL_SECONDS:
                raise SystemExit(f"only {taken:,} of {count:,} timers were taken in")
            await asyncio.sleep(0.2)
    finally:
        await admin.close()


async def released(bootstrap: str, count: int) -> list[tuple[int, float]]:
    """Number and time (epoch seconds) of every record that was released, once there are so many."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    found: list[tuple[int, float]] = []
    async with consumer:
        consumer.assign([TopicPartition(DESTINATION, partition) for partition in range(PARTITIONS)])
        last = time.monotonic()
        while len({number for number, _ in found}) < count and time.monotonic() - last < STALL_SECONDS:
            for batch in (await consumer.getmany(timeout_ms=1_000)).values():
                last = time.monotonic()
                found += [(int((record.key or b"").rpartition(b"-")[2]), record.timestamp / 1_000) for record in batch]
    return found


async def measure(pending: int, rate: int, seconds: int) -> dict[str, Any]:
    """The figures of one run."""
    count = rate * seconds
    async with running() as run:
        await put(run.bootstrap, iter([timer(0, "first", time.time() + DAY)]))
        await until_taken(run.bootstrap, 1)
        empty, began, cpu = memory_mb(run.pid), time.monotonic(), cpu_seconds(run.pid)
        far = time.time() + DAY
        await put(run.bootstrap, (timer(number, "far", far + number / rate) for number in range(pending)))
        await until_taken(run.bootstrap, pending + 1)
        taken, full = time.monotonic() - began, memory_mb(run.pid)
        cpu_taken = cpu_seconds(run.pid) - cpu
        # Those that come due are handed in before the first of them is.
        each_taken = taken / pending if pending else SLOWEST_TAKEN_SECONDS
        start = time.time() + HEAD_START_SECONDS + 1.5 * count * each_taken
        await put(run.bootstrap, (timer(number, "due", start + number / rate) for number in range(count)))
        await until_taken(run.bootstrap, pending + 1 + count)
        late_start, cpu = time.time() > start, cpu_seconds(run.pid)
        found = await released(run.bootstrap, count)
        cpu_released, after = cpu_seconds(run.pid) - cpu, memory_mb(run.pid)
    late = sorted(at - (start + number / rate) for number, at in found)
    each = Counter(number for number, _ in found)
    lasted = max(at for _, at in found) - min(at for _, at in found)
    return {
        "pending": pending,
        "rate_asked": rate,
        "taken_in_a_second": round(pending / taken, 1) if pending else None,
        "cpu_ms_a_timer_taken_in": round(cpu_taken * 1_000 / max(1, pending), 3),
        "rss_mb_with_one_pending": round(empty, 1),
        "rss_mb_with_all_pending": round(full, 1),
        "rss_mb_at_the_end": round(after, 1),
        "released_a_second": round(len(found) / lasted, 1) if lasted else None,
        "cpu_ms_a_timer_released": round(cpu_released * 1_000 / max(1, count), 3),
        "late_seconds_p50": round(late[len(late) // 2], 3),
        "late_seconds_p99": round(late[int(len(late) * 0.99)], 3),
        "late_seconds_max": round(late[-1], 3),
        "early": sum(1 for one in late if one < -0.001),
        "lost": count - len(each),
        "released_twice": sum(times - 1 for times in each.values()),
        "void": late_start or len(each) < count,
    }


def main() -> None:
    """Print the figures of one run and keep them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pending", type=int, default=1_000_000, help="timers that stay pending all the while")
    parser.add_argument("--rate", type=int, default=2_000, help="timers that come due a second")
    parser.add_argument("--seconds", type=int, default=60, help="for so long")
    asked = parser.parse_args()
    figures = asyncio.run(measure(asked.pending, asked.rate, asked.seconds))
    for name, value in figures.items():
        print(f"{name:28} {value}")
    write_json("timers", figures)


if __name__ == "__main__":
    main()
