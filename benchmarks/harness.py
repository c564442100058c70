"""What the benchmarks share: a broker, a stub model server and workers as processes of their own, and their cost."""

import asyncio
import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from callstream.streams.broker import BrokerOptions, EmbeddedKafka
from callstream.stub import RunningStub, running_stub

ROOT = Path(__file__).resolve().parent.parent
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
READY_SECONDS = 120


@dataclass(frozen=True, slots=True)
class System:
    """What runs: addresses, process ids, the folder of all data."""

    bootstrap: str
    broker_pid: int
    stub: RunningStub
    workers: tuple[int, ...]
    folder: Path


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of its children that have ended (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(fields[index]) for index in (11, 12)) / CLOCK_TICKS


def memory_mb(pid: int) -> float:
    """Resident memory of a process, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


@asynccontextmanager
async def system(chain: str, settings: dict[str, str], workers: int = 1, **stub_options: Any) -> AsyncIterator[System]:
    """Broker, stub and workers with all services each, ready; ended and their data deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="callstream-bench-") as name:
        folder = Path(name)
        with EmbeddedKafka(BrokerOptions(folder=folder / "kafka")) as kafka:
            async with running_stub(**stub_options) as stub, AsyncExitStack() as running:
                started = [
                    await running.enter_async_context(_worker(folder, number, settings, kafka.bootstrap, chain, stub))
                    for number in range(workers)
                ]
                for port, process, log in started:
                    await _ready(f"http://127.0.0.1:{port}", process, log)
                yield System(kafka.bootstrap, kafka.pid, stub, tuple(each.pid for _, each, _ in started), folder)


@asynccontextmanager
async def _worker(
    folder: Path, number: int, settings: dict[str, str], bootstrap: str, chain: str, stub: RunningStub
) -> AsyncIterator[tuple[int, asyncio.subprocess.Process, Path]]:
    """One worker's port, process and log."""
    home, port = folder / f"worker-{number}", _free_port()
    home.mkdir()
    (home / "callstream.toml").write_text(_settings(folder, home, bootstrap, chain, stub.url, port))
    environment = {**os.environ, "CALLSTREAM_CONFIG": str(home / "callstream.toml"), **settings}
    with (home / "worker.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "callstream", "worker", env=environment, stdout=log, stderr=log
        )
    try:
        yield port, process, home / "worker.log"
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


def _settings(folder: Path, home: Path, bootstrap: str, chain: str, stub_url: str, port: int) -> str:
    return f"""
broker = "{bootstrap}"
data_folder = "{home}"
chains = ["{ROOT / chain}"]
[delivery]
database_url = "sqlite:///{folder}/catalogue.db"
[web]
port = {port}
[logs]
level = "warning"
[[inference.pools.copywriter.endpoints]]
name = "stub"
base_url = "{stub_url}"
model = "stub-writer"
concurrency = 128
"""


async def _ready(url: str, worker: asyncio.subprocess.Process, log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    async with aiohttp.ClientSession() as http:
        while time.monotonic() < deadline:
            if worker.returncode is not None:
                raise SystemExit(f"the worker ended:\n{_end_of(log)}")
            try:
                async with http.get(f"{url}/v1/health/ready") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.2)
    raise SystemExit(f"the worker was not ready within {READY_SECONDS} s")


def _end_of(log: Path) -> str:
    return log.read_text()[-4000:]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_json(name: str, figures: dict[str, Any]) -> None:
    """Keep a run's figures beside the benchmark that made them."""
    target = ROOT / "benchmarks" / "results" / f"{name}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(figures, indent=1) + "\n")
