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
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from callstream.services import GATEWAY, services_of
from callstream.streams.broker import BrokerOptions, EmbeddedKafka
from callstream.streams.loading import load_chains
from callstream.stub import RunningStub, running_stub

ROOT = Path(__file__).resolve().parent.parent
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
READY_SECONDS = 120


@dataclass(slots=True)
class Worker:
    """A worker process, which can be killed and started again in its folder; without names it runs all services."""

    folder: Path
    port: int
    environment: dict[str, str]
    services: tuple[str, ...] = ()
    process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        if self.process is None:
            raise RuntimeError("the worker was not started")
        return self.process.pid

    async def start(self) -> None:
        """Start it; it is not ready yet."""
        with (self.folder / "worker.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "callstream", "worker", *self.services),
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    async def ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait until it is ready. Raises SystemExit after so long.

        One without a gateway answers nobody: it is up about when the others are.
        """
        if self.process is not None and (not self.services or GATEWAY in self.services):
            await _ready(f"http://127.0.0.1:{self.port}", self.process, self.folder / "worker.log", seconds)

    async def end(self, number: int = signal.SIGTERM) -> None:
        """Send it a signal and wait for its end."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)
            await self.process.wait()


@dataclass(frozen=True, slots=True)
class System:
    """What runs: addresses, process ids, the folder of all data."""

    bootstrap: str
    broker_pid: int
    stub: RunningStub
    workers: tuple[Worker, ...]
    folder: Path


@dataclass(frozen=True, slots=True)
class Shape:
    """How many workers, with which environment; `endpoint` and `inference` are lines of settings.

    `apart` is a service that each worker leaves to a process of its own beside it.
    """

    workers: int = 1
    apart: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    endpoint: str = "concurrency = 128"
    inference: str = ""


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of its children that have ended (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(fields[index]) for index in (11, 12)) / CLOCK_TICKS


def memory_mb(pid: int) -> float:
    """Resident memory of a process, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


@asynccontextmanager
async def system(chain: str, shape: Shape, **stub_options: Any) -> AsyncIterator[System]:
    """Broker, stub and workers, ready; ended and their data deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="callstream-bench-") as name:
        folder = Path(name)
        with EmbeddedKafka(BrokerOptions(folder=folder / "kafka")) as kafka:
            async with running_stub(**stub_options) as stub:
                settings = _settings(folder, shape, kafka.bootstrap, chain, stub.url)
                workers = tuple(
                    _worker(folder / f"worker-{number}-{part}", shape, settings, services)
                    for number in range(shape.workers)
                    for part, services in enumerate(_parts(shape, chain))
                )
                try:
                    await asyncio.gather(*(worker.start() for worker in workers))
                    await asyncio.gather(*(worker.ready() for worker in workers))
                    yield System(kafka.bootstrap, kafka.pid, stub, workers, folder)
                finally:
                    await asyncio.gather(*(worker.end() for worker in workers))


def _parts(shape: Shape, chain: str) -> tuple[tuple[str, ...], ...]:
    """The services of each process of one worker."""
    if shape.apart is None:
        return ((),)
    services = services_of(load_chains([str(ROOT / chain)]))
    return (shape.apart,), tuple(service for service in services if service != shape.apart)


def _worker(home: Path, shape: Shape, settings: str, services: tuple[str, ...]) -> Worker:
    port = _free_port()
    home.mkdir()
    own = f'data_folder = "{home}"\n{settings}\n[web]\nport = {port}\n'
    (home / "callstream.toml").write_text(own)
    environment = {**os.environ, "CALLSTREAM_CONFIG": str(home / "callstream.toml"), **shape.environment}
    return Worker(home, port, environment, services)


def _settings(folder: Path, shape: Shape, bootstrap: str, chain: str, stub_url: str) -> str:
    return f"""
broker = "{bootstrap}"
chains = ["{ROOT / chain}"]
[delivery]
database_url = "sqlite:///{folder}/catalogue.db"
[logs]
level = "warning"
{shape.inference}
[[inference.pools.copywriter.endpoints]]
name = "stub"
base_url = "{stub_url}"
model = "stub-writer"
{shape.endpoint}
"""


async def _ready(url: str, worker: asyncio.subprocess.Process, log: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
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
    raise SystemExit(f"the worker was not ready within {seconds:g} s")


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
