"""What admission reaches under limits: every case of the guide's page on limits, judged by the endpoint itself.

    python -m benchmarks.admission overload
    python -m benchmarks.admission tokens --replicas 3 --minutes 4 [--kill 20] [--pause 15]
    python -m benchmarks.admission fairness | lanes | capacity | dead | backlog

Tasks go straight onto the intake topic. The stub model server is the witness: it enforces its limits over any sliding
60 seconds and counts what it let in, refused and was paid for; nothing of the engine's own counting is used.
"""

import argparse
import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer

from benchmarks.chain import put, until_ended
from benchmarks.harness import Shape, System, memory_mb, system, write_json
from callstream.streams.event import Priority, Submission
from callstream.streams.submission import Order, new_event

CHAIN = "examples/fast/chain.py:chain"
TWO_POOLS = "benchmarks/two_pools.py:chains"
WAITS = 20
TOKENS_A_CALL = 74
Figures = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """Some tasks of one tenant."""

    tenant: str
    count: int
    words: int = 8
    priority: Priority = Priority.NORMAL
    chain: str = "fast-copy"


async def hand_in(bootstrap: str, jobs: Sequence[Job]) -> int:
    """Put all tasks onto intake, those of all jobs mixed; gives how many."""
    rng = random.Random(5)
    order = [job for job in jobs for _ in range(job.count)]
    rng.shuffle(order)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=5) as producer:
        for number, job in enumerate(order):
            given = {
                "product_id": f"p-{number}",
                "title": f"Product number {number}",
                "description": " ".join(["sturdy"] * job.words),
            }
            event = new_event(
                Submission(chain=job.chain, input=given),
                Order(job.tenant, f"{job.tenant}-{number}", priority=job.priority),
                time.time(),
            )
            await put(producer, event)
        await producer.flush()
    return len(order)


async def _admitted(running: System, count: int) -> None:
    """Wait until the endpoint has let in so many calls."""
    for _ in range(1_200):
        if (await running.stub.report())["admitted"] >= count:
            return
        await asyncio.sleep(0.1)
    raise SystemExit(f"fewer than {count} calls in two minutes")


async def overload(arguments: argparse.Namespace) -> Figures:
    """5,000 tasks for an endpoint that takes 32 calls of 200 ms at once and answers 429 beyond."""
    shape = Shape(arguments.replicas, arguments.apart)
    async with system(CHAIN, shape, concurrency=32, median_ms=200, sigma=0.0, seed=7) as running:
        began = time.time()
        count = await hand_in(running.bootstrap, [Job("bench", arguments.tasks)])
        await until_ended(running.bootstrap, count)
        report = await running.stub.report()
        seconds = await running.stub.seconds()
    first = next(row["at_unix"] for row in seconds if row["admitted"])
    last = max(row["at_unix"] for row in seconds if row["admitted"])
    late = sum(row["refused"] for row in seconds if row["at_unix"] >= first + 5)
    calls = sum(row["calls"] for row in seconds if row["at_unix"] >= first + 5)
    span = last + 1 - first
    return {
        "tasks": count,
        "answered": report["answered"],
        "refused": report["refused"],
        "refused_after_5_s_percent": round(100 * late / max(1, calls), 2),
        "calls_a_second": round(report["admitted"] / span, 1),
        "of_160_a_second_percent": round(100 * report["admitted"] / span / 160, 1),
        "seconds_to_the_first_call": round(first - began, 1),
        "paid_again": report["paid_again"],
    }


async def tokens(arguments: argparse.Namespace) -> Figures:
    """Many minutes' worth of tokens at once, for replicas that share a limit of tokens a minute."""
    limit = arguments.limit
    shape = Shape(arguments.replicas, endpoint=f"concurrency = 128\nlimits = {{ tokens_per_minute = {limit} }}")
    count = int(limit * arguments.minutes * 1.4 / TOKENS_A_CALL)
    async with system(CHAIN, shape, concurrency=1000, median_ms=200, sigma=0.3, seed=7) as running:
        await hand_in(running.bootstrap, [Job("bench", count)])
        faults = asyncio.create_task(_faults(running, arguments))
        await asyncio.sleep(arguments.minutes * 60)
        faults.cancel()
        report = await running.stub.report()
        seconds = await running.stub.seconds()
    first = seconds[0]["at_unix"]
    by_second = {row["at_unix"] - first: row["tokens"] for row in seconds}
    # Every window of 60 seconds after the first minute, until the run ended.
    windows = [sum(by_second.get(begin + n, 0) for n in range(60)) for begin in range(60, arguments.minutes * 60 - 60)]
    return {
        "limit_a_minute": limit,
        "replicas": arguments.replicas,
        "most_in_any_60_s": report["window"]["most_tokens"],
        "of_the_limit_percent": round(100 * report["window"]["most_tokens"] / limit, 1),
        "used_after_the_first_minute_percent": round(100 * sum(windows) / len(windows) / limit, 1),
        "tokens": sum(by_second.values()),
        "left_over": count - report["tasks"],
        "refused": report["refused"],
        "paid_again": report["paid_again"],
        "repeated_calls": report["calls"] - report["call_ids"],
    }


async def _faults(running: System, arguments: argparse.Namespace) -> None:
    """Kill one replica after another, which starts again; stop one for a while."""
    rng = random.Random(3)
    if arguments.pause:
        await asyncio.sleep(arguments.pause)
        victim = running.workers[-1]
        os.kill(victim.pid, signal.SIGSTOP)
        await asyncio.sleep(arguments.pause)
        os.kill(victim.pid, signal.SIGCONT)
    while arguments.kill:
        await asyncio.sleep(arguments.kill)
        victim = rng.choice(running.workers)
        await victim.end(signal.SIGKILL)
        await victim.start()


async def fairness(arguments: argparse.Namespace) -> Figures:
    """Three tenants with backlogs and weights 1:1:2, one with many tasks, one with long prompts; a fourth with few."""
    shape = Shape(inference="[inference.tenants]\nmany = 1\nlong = 1\nheavy = 2")
    jobs = [Job("many", 3_500), Job("long", 350, words=200), Job("heavy", 2_200)]
    async with system(CHAIN, shape, concurrency=8, median_ms=200, sigma=0.0, seed=7) as running:
        alone = await _waits(running, "alone", Priority.NORMAL)
        count = await hand_in(running.bootstrap, jobs)
        # What is before the pool works off its topics in their order.
        await until_ended(running.bootstrap, count + WAITS, "infer")
        before = await _tokens(running)
        beside = await _waits(running, "light", Priority.NORMAL)
        await asyncio.sleep(arguments.seconds)
        after, left = await _tokens(running), await running.stub.report()
    served = {job.tenant: after[job.tenant] - before.get(job.tenant, 0) for job in jobs}
    total = sum(served.values())
    return {
        "left_over": {job.tenant: job.count - left["tenants"][job.tenant]["answered"] for job in jobs},
        "tokens_served": served,
        "percent_of_25_25_50": {name: round(100 * count / total, 1) for name, count in served.items()},
        "light_alone_median_and_most_seconds": _median_and_most(alone),
        "light_beside_median_and_most_seconds": _median_and_most(beside),
    }


async def dead(arguments: argparse.Namespace) -> Figures:
    """Two pools on one service, of which one takes every call and never answers."""
    async with _never_answers() as url:
        other = f'[[inference.pools.other.endpoints]]\nname = "dead"\nbase_url = "{url}"\nmodel = "m"\n'
        async with system(
            TWO_POOLS, Shape(inference=other), concurrency=8, median_ms=200, sigma=0.0, seed=7
        ) as running:
            good = int(40 * (arguments.seconds + 30) * 2)
            await hand_in(running.bootstrap, [Job("bench", good)])
            await until_ended(running.bootstrap, good, "infer")
            alone = await _rate(running, arguments.seconds)
            await hand_in(running.bootstrap, [Job("bench", arguments.tasks, chain="other-copy")])
            await asyncio.sleep(10)
            beside = await _rate(running, arguments.seconds)
    return {
        "calls_a_second_alone": round(alone, 2),
        "calls_a_second_beside_a_dead_pool": round(beside, 2),
        "percent": round(100 * beside / alone, 1),
    }


async def backlog(arguments: argparse.Namespace) -> Figures:
    """Many tasks before a pool that lets few through, then one with room: memory, and how soon it is used."""
    async with system(CHAIN, Shape(), concurrency=1, median_ms=200, sigma=0.0, seed=7) as running:
        (worker,) = running.workers
        count = await hand_in(running.bootstrap, [Job("bench", arguments.tasks)])
        await asyncio.sleep(60)
        memory = [memory_mb(worker.pid)]
        for _ in range(arguments.minutes):
            await asyncio.sleep(60)
            memory.append(memory_mb(worker.pid))
        before, began = (await running.stub.report())["answered"], time.monotonic()
        await running.stub.control(concurrency=32)
        await asyncio.sleep(2)
        after = (await running.stub.report())["answered"]
        seconds = time.monotonic() - began
    return {
        "tasks": count,
        "rss_mb_each_minute": [round(one) for one in memory],
        "grown_mb": round(max(memory) - memory[0], 1),
        "answers_in_the_first_2_s_of_capacity": after - before,
        "a_second": round((after - before) / seconds, 1),
    }


async def _rate(running: System, seconds: float) -> float:
    """Calls answered a second."""
    before, began = (await running.stub.report())["answered"], time.monotonic()
    await asyncio.sleep(seconds)
    return float(((await running.stub.report())["answered"] - before) / (time.monotonic() - began))


async def _tokens(running: System) -> dict[str, int]:
    """Tokens served so far, by tenant."""
    return {name: counts["tokens"] for name, counts in (await running.stub.report())["tenants"].items()}


async def _waits(running: System, name: str, priority: Priority) -> list[float]:
    """Seconds from handing in to the answer, for tasks that come one after another."""
    waits = []
    for number in range(WAITS):
        began = time.monotonic()
        await hand_in(running.bootstrap, [Job(f"{name}{number}", 1, priority=priority)])
        while not (await running.stub.report())["tenants"].get(f"{name}{number}", {}).get("answered"):
            if time.monotonic() - began > 60:
                break
            await asyncio.sleep(0.02)
        waits.append(time.monotonic() - began)
    return waits


def _median_and_most(waits: list[float]) -> tuple[float, float]:
    return round(sorted(waits)[len(waits) // 2], 2), round(max(waits), 2)


@asynccontextmanager
async def _never_answers() -> AsyncIterator[str]:
    """The address of a server that takes connections and says nothing."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65_536):
            pass
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


async def capacity(arguments: argparse.Namespace) -> Figures:
    """An endpoint whose capacity goes from 32 to 8 and back."""
    async with system(CHAIN, Shape(), concurrency=32, median_ms=200, sigma=0.0, seed=7) as running:
        await hand_in(running.bootstrap, [Job("bench", 160 * 20 + 40 * 20 + 160 * 30)])
        await _admitted(running, 1)
        for now in (32, 8, 32):
            await running.stub.control(concurrency=now)
            await asyncio.sleep(20)
        report, seconds = await running.stub.report(), await running.stub.seconds()
    first = seconds[0]["at_unix"]

    def rate(begin: int, end: int) -> float:
        return sum(row["admitted"] for row in seconds if first + begin <= row["at_unix"] < first + end) / (end - begin)

    return {
        "refused_percent": round(100 * report["refused"] / report["calls"], 2),
        "at_32_percent": round(100 * rate(5, 20) / 160, 1),
        "at_8_from_10_s_after_percent": round(100 * rate(30, 40) / 40, 1),
        "at_32_again_from_10_s_after_percent": round(100 * rate(50, 60) / 160, 1),
    }


async def lanes(arguments: argparse.Namespace) -> Figures:
    """High tasks that come during a backlog of low ones."""
    async with system(CHAIN, Shape(), concurrency=16, median_ms=200, sigma=0.0, seed=7) as running:
        await hand_in(running.bootstrap, [Job("low", arguments.tasks, priority=Priority.LOW)])
        # The lanes are those of the pool: what is before it works off its topics in their order.
        await until_ended(running.bootstrap, arguments.tasks, "infer.low")
        waits = await _waits(running, "high", Priority.HIGH)
        memory = max(memory_mb(worker.pid) for worker in running.workers)
    return {"backlog": arguments.tasks, "high_seconds": [round(wait, 2) for wait in sorted(waits)], "rss_mb": memory}


CASES: dict[str, Callable[[argparse.Namespace], Coroutine[Any, Any, Figures]]] = {
    "overload": overload,
    "tokens": tokens,
    "fairness": fairness,
    "dead": dead,
    "backlog": backlog,
    "capacity": capacity,
    "lanes": lanes,
}


def main(given: Iterable[str] | None = None) -> None:
    """Run one case and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=CASES, nargs="?", default="overload")
    parser.add_argument("--tasks", type=int, default=5_000)
    parser.add_argument("--limit", type=int, default=60_000, help="tokens a minute")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--apart", metavar="SERVICE", help="run this one in a process of its own (overload)")
    parser.add_argument("--minutes", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=40)
    parser.add_argument("--kill", type=float, default=0, help="seconds between kills of a replica")
    parser.add_argument("--pause", type=float, default=0, help="seconds for which a replica is stopped")
    arguments = parser.parse_args(given)
    figures = asyncio.run(CASES[arguments.case](arguments))
    for name, value in figures.items():
        print(f"{name:>36}  {value}")
    write_json(f"admission-{arguments.case}", figures)


if __name__ == "__main__":
    main()
