"""Which share of tasks is done by its deadline, when an endpoint is asked for twice as much as it can do?

    python -m benchmarks.deadline --seconds 30

The endpoint takes so many calls at once and answers each in 200 ms. Tasks come at random, twice as many as it can do,
each with a deadline of its own, drawn from 1 to 8 s. The same tasks are handed in three times:

    fifo      in the order of arrival; nobody but the judge knows of deadlines
    fifo-drop in the order of arrival; what is past its deadline is not begun any more (a step that declares nothing)
    earliest  `late=Late(first=True)`: the earliest deadline first, and what can't be done by then any more is dropped

The judge reads the topic of ended tasks: a task counts if its end was put there, as done, by its deadline. No order
can do more than the endpoint does.
"""

import argparse
import asyncio
import random
import time
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from benchmarks.chain import PARTITIONS, put
from benchmarks.harness import Shape, System, system, write_json
from callstream.streams.event import End, Submission
from callstream.streams.records import read_any_header
from callstream.streams.submission import Order, new_event
from callstream.streams.topics import FINISHED, topic_of
from callstream.streams.wire import decode

CHAINS = "benchmarks/deadline_chains.py:chains"
CALL_SECONDS = 0.2
SHORTEST_SECONDS, LONGEST_SECONDS = 1.0, 8.0
WARM_UP = 40
STALL_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Variant:
    """How tasks are handed in: to which chain, and whether the engine is told of their deadlines."""

    chain: str
    is_told: bool


VARIANTS = {
    "fifo": Variant("arrival", False),
    "fifo-drop": Variant("arrival", True),
    "earliest": Variant("earliest", True),
}


@dataclass(frozen=True, slots=True)
class Arrival:
    """A task that comes: after so many seconds, with so many to its deadline."""

    after: float
    left: float


def arrivals(rate: float, seconds: float, seed: int) -> list[Arrival]:
    """Tasks of a Poisson process, the same for the same seed."""
    rng, found, now = random.Random(seed), [], 0.0
    while (now := now + rng.expovariate(rate)) < seconds:
        found.append(Arrival(now, rng.uniform(SHORTEST_SECONDS, LONGEST_SECONDS)))
    return found


async def hand_in(bootstrap: str, name: str, variant: Variant, tasks: list[Arrival]) -> dict[str, float]:
    """Put the tasks onto intake as they come; gives each one's deadline, epoch seconds."""
    deadlines = {}
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=5) as producer:
        began = time.time()
        for number, task in enumerate(tasks):
            await asyncio.sleep(max(0.0, began + task.after - time.time()))
            given = {"product_id": f"p-{number}", "title": f"Product number {number}"}
            deadline = began + task.after + task.left
            order = Order("bench", f"{name}-{number}", deadline=deadline if variant.is_told else None)
            await put(producer, new_event(Submission(chain=variant.chain, input=given), order, time.time()))
            deadlines[order.task] = deadline
        await producer.flush()
    return deadlines


async def ends(consumer: Any, deadlines: dict[str, float]) -> dict[str, tuple[float, bool]]:
    """When each of these tasks ended, and whether it was done. Raises SystemExit when none does for a minute."""
    found: dict[str, tuple[float, bool]] = {}
    since = time.monotonic()
    while len(found) < len(deadlines):
        batches = await consumer.getmany(timeout_ms=500)
        for record in (record for batch in batches.values() for record in batch):
            event = decode(record.value, record.headers)
            if event.task in deadlines:
                found[event.task] = (record.timestamp / 1000, event.body.end is End.FINISHED)
                since = time.monotonic()
        if time.monotonic() - since > STALL_SECONDS:
            raise SystemExit(f"stalled at {len(found)} of {len(deadlines)}")
    return found


async def measure(running: System, consumer: Any, name: str, tasks: list[Arrival]) -> dict[str, Any]:
    """One variant, from the first task to the end of the last."""
    before = (await running.stub.report())["answered"]
    deadlines = await hand_in(running.bootstrap, name, VARIANTS[name], tasks)
    ended = await ends(consumer, deadlines)
    calls = (await running.stub.report())["answered"] - before
    in_time = sum(done and moment <= deadlines[task] for task, (moment, done) in ended.items())
    return {
        "tasks": len(tasks),
        "in time": in_time,
        "percent": round(100 * in_time / len(tasks), 1),
        "calls": calls,
        "calls for nothing": calls - in_time,
    }


async def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """All variants, one after another, on one system."""
    capacity = arguments.places / CALL_SECONDS
    tasks = arrivals(arguments.overload * capacity, arguments.seconds, arguments.seed)
    shape = Shape(endpoint=f"concurrency = {arguments.places}")
    stub = {"concurrency": arguments.places, "median_ms": CALL_SECONDS * 1000, "sigma": 0.0, "seed": 7}
    read_any_header()
    async with system(CHAINS, shape, **stub) as running:
        consumer = AIOKafkaConsumer(bootstrap_servers=running.bootstrap, auto_offset_reset="earliest")
        async with consumer:
            consumer.assign([TopicPartition(topic_of(FINISHED), number) for number in range(PARTITIONS)])
            for chain in ("arrival", "earliest"):
                calm = [Arrival(number / capacity, 60.0) for number in range(WARM_UP)]
                await ends(consumer, await hand_in(running.bootstrap, f"warm-{chain}", Variant(chain, True), calm))
            figures = {name: await measure(running, consumer, name, tasks) for name in VARIANTS}
    return {"capacity_a_second": capacity, "offered_a_second": round(len(tasks) / arguments.seconds, 1), **figures}


def main() -> None:
    """Run once and print a line for each variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30, help="how long tasks come")
    parser.add_argument("--places", type=int, default=4, help="calls that the endpoint takes at once")
    parser.add_argument("--overload", type=float, default=2.0, help="how many times what the endpoint can do is asked")
    parser.add_argument("--seed", type=int, default=11)
    arguments = parser.parse_args()
    figures = asyncio.run(compare(arguments))
    print(f"{figures['offered_a_second']}/s for an endpoint of {figures['capacity_a_second']:g}/s")
    for name in VARIANTS:
        print(f"{name:>10}  " + "  ".join(f"{key} {value}" for key, value in figures[name].items()))
    write_json("deadline", figures)


if __name__ == "__main__":
    main()
