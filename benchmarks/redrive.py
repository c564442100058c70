"""Ten thousand dead letters redriven by jobs: progress, a pause, a cancel, and each task's effects once.

    python -m benchmarks.redrive --letters 10000 --rate 200

Tasks pay for a model call and are buried behind it. Their cause is taken away; one job redrives them at `--rate` a
second, is paused at 30 % for five seconds and cancelled at 60 %; a second one does the rest. The run is void if a task
is lost or written twice, if an answer was paid twice, or if a letter was redriven while the job was paused.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.chain import rows, send, until_ended
from benchmarks.harness import Shape, cpu_seconds, memory_mb, system, write_json
from benchmarks.redrive_chains import GATE
from callstream.streams.topics import DEAD

PAUSE_SECONDS = 5.0
STALL_SECONDS = 120.0
WHERE = "kind == 'gate-shut'"


@dataclass
class Desk:
    """The dead letters of a worker, by its API. `asked` has the seconds that each look at a job took."""

    http: aiohttp.ClientSession
    asked: list[float] = field(default_factory=list)

    async def ask(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """The answer to one request. Raises SystemExit for an error."""
        async with self.http.request(method, f"/v1/dead{path}", json=body, params=query) as answer:
            told = await answer.json(content_type=None)
            if answer.status >= 400:
                raise SystemExit(f"{method} {path}: {answer.status} {told}")
            return told

    async def count(self, state: str) -> int:
        """Letters in a state."""
        told = await self.ask("GET", "", where=WHERE, state=state, group="cause")
        return sum(group["letters"] for group in told["groups"])

    async def job(self, name: str) -> Any:
        """How far a job is."""
        began = time.monotonic()
        told = await self.ask("GET", f"/jobs/{name}")
        self.asked.append(time.monotonic() - began)
        return told

    async def redrive(self, rate: float) -> str:
        """Start a job over every letter that waits; its id."""
        told = await self.ask("POST", "/redrive", {"where": WHERE, "rate": rate, "reason": "open", "by": "bench"})
        return str(told["job"])


async def until(what: str, true: Callable[[], Awaitable[bool]], seconds: float = STALL_SECONDS) -> None:
    """Wait for it. Raises SystemExit after so many seconds."""
    deadline = time.monotonic() + seconds
    while not await true():
        if time.monotonic() > deadline:
            raise SystemExit(f"void: not within {seconds:g} s: {what}")
        await asyncio.sleep(0.25)


async def redriven(desk: Desk, letters: int, rate: float) -> dict[str, Any]:
    """Redrive all by two jobs, the first one paused and cancelled; figures by name."""
    longest = 2 * letters / rate + STALL_SECONDS
    began = time.monotonic()
    first = await desk.redrive(rate)

    async def has_sent(share: float) -> bool:
        return int((await desk.job(first))["sent"]) >= share * letters

    async def is_in(name: str, state: str) -> bool:
        return bool((await desk.job(name))["state"] == state)

    await until("30 % are redriven", lambda: has_sent(0.3), longest)
    to_pause, seconds = (await desk.job(first))["sent"], time.monotonic() - began
    await desk.ask("POST", f"/jobs/{first}/pause")
    await until("the job is paused", lambda: is_in(first, "paused"))
    await asyncio.sleep(1)
    paused = await desk.count("redriven")
    await asyncio.sleep(PAUSE_SECONDS)
    while_paused = await desk.count("redriven") - paused
    await desk.ask("POST", f"/jobs/{first}/resume")
    await until("60 % are redriven", lambda: has_sent(0.6), longest)
    await desk.ask("POST", f"/jobs/{first}/cancel")
    await until("the job is cancelled", lambda: is_in(first, "cancelled"))
    await asyncio.sleep(1)
    left = await desk.count("waiting")
    second, began = await desk.redrive(rate), time.monotonic()
    await until("the second job is done", lambda: is_in(second, "done"), longest)
    told = await desk.job(second)
    return {
        "redriven_a_second": round(to_pause / seconds, 1),
        "redriven_while_paused": while_paused,
        "left_by_the_cancelled_job": left,
        "matched_by_the_second_job": told["matched"],
        "second_job_seconds": round(time.monotonic() - began, 1),
        "slowest_look_at_a_job_seconds": round(max(desk.asked), 3),
    }


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """One run, its figures by name."""
    with tempfile.TemporaryDirectory(prefix="callstream-gate-") as folder:
        gate = Path(folder) / "gate"
        gate.touch()
        shape = Shape(environment={GATE: str(gate)})
        async with system("benchmarks/redrive_chains.py:chain", shape, seed=7, median_ms=50) as running:
            [worker] = running.workers
            await send(running.bootstrap, 0, arguments.letters, 0)
            await until_ended(running.bootstrap, arguments.letters, DEAD)
            async with aiohttp.ClientSession(f"http://127.0.0.1:{worker.port}") as http:
                desk = Desk(http)

                async def all_wait() -> bool:
                    return await desk.count("waiting") == int(arguments.letters)

                await until("every letter can be seen", all_wait)
                gate.unlink()
                before = cpu_seconds(worker.pid)
                figures = await redriven(desk, arguments.letters, arguments.rate)
            # Each has ended twice: failed, and then finished.
            await until_ended(running.bootstrap, 2 * arguments.letters)
            await asyncio.sleep(3)
            found, distinct = rows(running)
            report = await running.stub.report()
            return figures | {
                "worker_cpu_ms_a_letter": round((cpu_seconds(worker.pid) - before) / arguments.letters * 1000, 2),
                "worker_rss_mb": round(memory_mb(worker.pid), 1),
                "lost": arguments.letters - distinct,
                "duplicate_rows": found - distinct,
                "model_calls": report["calls"],
                "paid_again": report["paid_again"],
            }


def main() -> None:
    """Run once and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--letters", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=200, help="letters a second")
    arguments = parser.parse_args()
    figures = asyncio.run(measure(arguments))
    for name, value in figures.items():
        print(f"{name:>30}  {value}")
    write_json("redrive", figures)
    wrong = ("lost", "duplicate_rows", "paid_again", "redriven_while_paused")
    if any(figures[name] for name in wrong) or figures["model_calls"] != arguments.letters:
        raise SystemExit("void: a task was lost, doubled or paid twice, or a paused job went on")


if __name__ == "__main__":
    main()
