"""The parts of the demo and their lives: broker, stub model server, worker; what began first ends last."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from callstream.cli.bootstrap import DEMO_FOLDER
from callstream.cli.client import Api, ApiError
from callstream.cli.demo.example import Example
from callstream.cli.errors import CliError
from callstream.settings import Settings, load
from callstream.settings.gather import environment_name
from callstream.streams.broker import BrokerOptions, EmbeddedKafka, control
from callstream.streams.broker.classpath import Progress
from callstream.stub import RunningStub, running_stub

LOG = "worker.log"
READY_SECONDS = 90.0
WORKER_STOP_SECONDS = 5.0
BROKER_STOP_SECONDS = 3.0
DRAIN_SECONDS = 2
POLL_SECONDS = 0.15
SHOWN_BYTES = 3000


def pools_of_stub(settings: Settings, example: Example) -> list[str]:
    """The pools that the stub stands in for: all of the example's, if none of them is set.

    Raises CliError where only some are.
    """
    missing = [pool for pool in example.told.pools if pool not in settings.inference.pools]
    if missing and len(missing) < len(example.told.pools):
        raise CliError(
            f"the pools {', '.join(missing)} are not set: set all of the example's in inference.pools, or none"
        )
    return missing


def fresh_folder(settings: Settings) -> Path:
    """An empty folder for this run. Raises CliError while another demo runs in it."""
    folder = (settings.data_folder / DEMO_FOLDER).resolve()
    running = control.status(BrokerOptions(folder=folder / "kafka"))
    if running is not None:
        raise CliError(f"a demo runs in {folder} (broker process {running.pid}): end it first")
    try:
        shutil.rmtree(folder, ignore_errors=False)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise CliError(f"{folder} cannot be emptied: {error.strerror or error}") from None
    folder.mkdir(parents=True)
    return folder


@asynccontextmanager
async def running_broker(settings: Settings, folder: Path, progress: Progress) -> AsyncIterator[str]:
    """The broker that is set, or one of our own in the folder."""
    if settings.broker is not None:
        yield settings.broker
        return
    changes = {"folder": folder / "kafka", "stop_timeout_seconds": BROKER_STOP_SECONDS}
    async with EmbeddedKafka(settings.embedded.model_copy(update=changes), progress) as broker:
        yield broker.bootstrap


@asynccontextmanager
async def running_model(stands_in: bool) -> AsyncIterator[RunningStub | None]:
    """The stub, where it stands in for real models."""
    if not stands_in:
        yield None
        return
    async with running_stub(seed=7, concurrency=16, median_ms=200) as stub:
        yield stub


def worker_environment(
    settings: Settings, folder: Path, bootstrap: str, example: Example, stub: RunningStub | None
) -> dict[str, str]:
    """What the worker is told beyond the settings in force."""
    told: dict[tuple[str, ...], object] = {
        ("broker",): bootstrap,
        ("data_folder",): folder,
        ("chains",): example.chains,
        ("web", "port"): _free_port(settings.web.host, settings.web.port),
        ("engine", "drain_seconds"): DRAIN_SECONDS,
        ("worker_processes",): max(1, min(4, (os.cpu_count() or 1))),
    }
    if stub is not None:
        endpoints = {pool: {"name": f"stub-{pool}", "base_url": stub.url, "model": pool} for pool in example.told.pools}
        told["inference", "pools"] = json.dumps({pool: {"endpoints": [one]} for pool, one in endpoints.items()})
    return {environment_name(path): str(value) for path, value in told.items()}


def load_with(environment: Mapping[str, str]) -> Settings:
    """The settings that the worker will see; it inherits this process's environment."""
    os.environ.update(environment)
    return load()


@asynccontextmanager
async def running_worker(folder: Path, api: Api) -> AsyncIterator[None]:
    """`callstream worker` as a process of its own; entered once it can take tasks."""
    log = folder / LOG
    with log.open("wb") as said:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "callstream.cli.demo.tethered", "worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=said,
            stderr=said,
            # Ctrl-C in a terminal reaches the demo, which ends its parts in order.
            start_new_session=True,
        )
    try:
        await _until_ready(process, api, log)
        yield
    finally:
        await _end(process)


async def _until_ready(process: asyncio.subprocess.Process, api: Api, log: Path) -> None:
    reasons = "it does not answer"
    try:
        async with asyncio.timeout(READY_SECONDS):
            while process.returncode is None:
                with contextlib.suppress(ApiError):
                    health = await api.health()
                    if health.get("ready"):
                        return
                    reasons = "; ".join(health.get("reasons", ()))
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise CliError(f"the worker was not ready in {READY_SECONDS:g} s ({reasons}); its log is {log}") from None
    said = (await asyncio.to_thread(log.read_bytes))[-SHOWN_BYTES:].decode("utf-8", "replace").strip()
    raise CliError(f"the worker ended with code {process.returncode}; its log is {log}:\n{said}")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ask, wait, then sweep its whole group, so that no process of its pool stays."""
    if process.returncode is None:
        process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), WORKER_STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _free_port(host: str, wanted: int) -> int:
    """The port that is set if it is free, else any that is."""
    for port in (wanted, 0):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((host, port))
                return int(probe.getsockname()[1])
    raise CliError(f"no port is free on {host}")
