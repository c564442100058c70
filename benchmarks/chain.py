"""Five hops with one model call at full guarantees: throughput, CPU a task of each process, memory of the worker.

    python -m benchmarks.chain --tasks 20000 --rate 0

Tasks go straight onto the intake topic (as a Kafka producer would hand them in), all at once with --rate 0 or on a
fixed schedule. The run is void if the judge finds a task lost, doubled or not finished.
"""

import argparse
import asyncio
import sqlite3
import time
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from benchmarks.harness import Shape, System, cpu_seconds, memory_mb, system, write_json
from callstream.streams.event import Event, Submission
from callstream.streams.keys import partition_of
from callstream.streams.submission import Order, new_event
from callstream.streams.topics import FINISHED, INTAKE, topic_of
from callstream.streams.wire import encode

PARTITIONS = 8
WARM_UP = 500
STALL_SECONDS = 120


@dataclass(slots=True)
class Cost:
    """CPU seconds of each process at one moment; of all workers together."""

    worker: float
    broker: float
    stub: float

    @classmethod
    def of(cls, running: System) -> "Cost":
        """What has been used so far."""
        return cls(
            sum(cpu_seconds(worker.pid) for worker in running.workers),
            cpu_seconds(running.broker_pid),
            cpu_seconds(running.stub.pid),
        )


async def put(producer: AIOKafkaProducer, event: Event) -> None:
    """Hand a new task to intake, as any Kafka producer could."""
    record = encode(event, topic_of(INTAKE))
    partition = partition_of(record.key, PARTITIONS)
    await producer.send(record.topic, record.value, record.key, headers=record.headers, partition=partition)


async def send(bootstrap: str, first: int, count: int, rate: float) -> None:
    """Hand in tasks `first` … on a schedule of `rate` a second (0: as fast as the broker takes them)."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=5)
    await producer.start()
    began = time.monotonic()
    try:
        for number in range(first, first + count):
            if rate and (ahead := began + (number - first) / rate - time.monotonic()) > 0:
                await asyncio.sleep(ahead)
            given = {"product_id": f"p-{number}", "title": f"Product number {number}, blue, 350 ml"}
            submission = Submission(chain="fast-copy", input=given)
            await put(producer, new_event(submission, Order("bench", f"t-{number}"), time.time()))
        await producer.flush()
    finally:
        await producer.stop()


async def until_ended(bootstrap: str, count: int, topic: str = FINISHED) -> None:
    """Wait until so many tasks have ended, or come to a topic; give up when none does for `STALL_SECONDS`."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    partitions = [TopicPartition(topic_of(topic), n) for n in range(PARTITIONS)]
    seen, since = -1, time.monotonic()
    try:
        while (now := sum((await consumer.end_offsets(partitions)).values())) < count:
            if now != seen:
                seen, since = now, time.monotonic()
            if time.monotonic() - since > STALL_SECONDS:
                raise SystemExit(f"stalled at {seen} of {count}")
            await asyncio.sleep(0.2)
    finally:
        await consumer.stop()


def rows(running: System) -> tuple[int, int]:
    """Rows and different products in the catalogue."""
    with sqlite3.connect(running.folder / "catalogue.db") as database:
        found = database.execute("SELECT count(*), count(DISTINCT task) FROM catalogue").fetchone()
    return int(found[0]), int(found[1])


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """One run, its figures by name."""
    shape = Shape(arguments.workers, environment={"CALLSTREAM_ENGINE__CONCURRENCY": str(arguments.concurrency)})
    async with system("examples/fast/chain.py:chain", shape, seed=7, median_ms=arguments.latency) as running:
        await send(running.bootstrap, 0, WARM_UP, 0)
        await until_ended(running.bootstrap, WARM_UP)
        await asyncio.sleep(3)
        before, began = Cost.of(running), time.monotonic()
        await send(running.bootstrap, WARM_UP, arguments.tasks, arguments.rate)
        await until_ended(running.bootstrap, WARM_UP + arguments.tasks)
        seconds, after = time.monotonic() - began, Cost.of(running)
        await asyncio.sleep(3)
        report = await running.stub.report()
        total = WARM_UP + arguments.tasks
        found, distinct = rows(running)
        return {
            "tasks": arguments.tasks,
            "workers": arguments.workers,
            "seconds": round(seconds, 2),
            "tasks_a_second": round(arguments.tasks / seconds, 1),
            "worker_cpu_ms_a_task": round((after.worker - before.worker) / arguments.tasks * 1000, 2),
            "broker_cpu_ms_a_task": round((after.broker - before.broker) / arguments.tasks * 1000, 2),
            "stub_cpu_ms_a_task": round((after.stub - before.stub) / arguments.tasks * 1000, 2),
            "worker_rss_mb": round(max(memory_mb(worker.pid) for worker in running.workers), 1),
            "lost": total - distinct,
            "duplicate_rows": found - distinct,
            "model_calls_a_task": round(report["calls"] / total, 4),
            "paid_again": report["paid_again"],
        }


def main() -> None:
    """Run once and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=0, help="tasks a second; 0: all at once")
    parser.add_argument("--workers", type=int, default=1, help="worker processes, each with all services")
    parser.add_argument("--latency", type=float, default=50, help="median of the model's latency, ms")
    parser.add_argument("--concurrency", type=int, default=128)
    arguments = parser.parse_args()
    figures = asyncio.run(measure(arguments))
    for name, value in figures.items():
        print(f"{name:>24}  {value}")
    write_json("chain", figures)
    if figures["lost"] or figures["duplicate_rows"]:
        raise SystemExit("void: tasks were lost or doubled")


if __name__ == "__main__":
    main()
