"""Workers as processes that can be killed: each with a data folder and a web port of its own, started anew at once."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

LOOK_SECONDS = 0.1
READY_SECONDS = 180.0
"""Two workers that start beside other tests, on a machine of half the usual speed, took more than 60."""
PAUSE_SECONDS = 0.5
STOP_SECONDS = 40.0
SHOWN_BYTES = 4000


@dataclass(frozen=True, slots=True)
class Exit:
    """A worker process that ended: when (epoch seconds), its exit code, whether it was killed by the test."""

    at: float
    worker: str
    code: int
    killed: bool


@dataclass(eq=False)
class WorkerProcess:
    """`callstream worker` with every service, kept alive by its supervisor until `stop`.

    `environment` are settings beside those of the worker's own: data folder and web port. With `wipes` set the data
    folder is emptied before each start, as on a new machine: its tables then come from their changelogs. `program` is
    the module that is run.
    """

    name: str
    folder: Path
    environment: Mapping[str, str]
    wipes: bool = False
    program: str = "callstream"
    port: int = field(default_factory=lambda: free_port())
    exits: list[Exit] = field(default_factory=list)
    _process: asyncio.subprocess.Process | None = None
    _keeper: asyncio.Task[None] | None = None
    _killed: bool = False

    @property
    def url(self) -> str:
        """Base URL of its gateway."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What all its runs have said."""
        return self.folder / "worker.log"

    @property
    def pid(self) -> int | None:
        """Process id of the run that lives, None between two runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self) -> None:
        """Start it and begin to keep it alive."""
        self.folder.mkdir(parents=True, exist_ok=True)
        await self._launch()
        self._keeper = asyncio.create_task(self._keep())

    async def alive(self) -> None:
        """Wait until a process of it lives: between two runs there is none to kill."""
        while self.pid is None:  # noqa: ASYNC110 - the process's end is its keeper's to wait for
            await asyncio.sleep(LOOK_SECONDS)

    def kill(self) -> float:
        """SIGKILL to the worker and its process pool; gives the moment (epoch seconds)."""
        if self.pid is not None:
            self._killed = True
            os.killpg(self.pid, signal.SIGKILL)
        return time.time()

    async def end(self) -> float:
        """SIGKILL, and no new run before the next `start`; gives the moment (epoch seconds)."""
        if self._keeper is not None:
            self._keeper.cancel()
        moment = self.kill()
        if self._process is not None:
            await self._process.wait()
        return moment

    def freeze(self) -> float:
        """SIGSTOP to the worker and its process pool; gives the moment (epoch seconds)."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)
        return time.time()

    def thaw(self) -> None:
        """SIGCONT: it goes on where it stood."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)

    async def stop(self) -> int | None:
        """SIGTERM, wait, then SIGKILL to what is left of its group; gives the exit code of an orderly end."""
        if self._keeper is not None:
            self._keeper.cancel()
        process = self._process
        if process is None:
            return None
        code = None
        if process.returncode is None:
            process.terminate()
            with contextlib.suppress(TimeoutError):
                code = await asyncio.wait_for(process.wait(), STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        return code

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_bytes()[-SHOWN_BYTES:].decode("utf-8", "replace") if self.log.exists() else ""

    async def is_ready(self, http: aiohttp.ClientSession) -> bool:
        """Whether its gateway says that it owns partitions and has recovered its tables."""
        try:
            async with http.get(f"{self.url}/v1/health", timeout=aiohttp.ClientTimeout(total=3)) as answer:
                document = await answer.json()
                return bool(document.get("ready"))
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return False

    async def _launch(self) -> None:
        data = self.folder / "data"
        if self.wipes:
            await asyncio.to_thread(shutil.rmtree, data, ignore_errors=True)
        own = {"CALLSTREAM_DATA_FOLDER": str(data), "CALLSTREAM_WEB__PORT": str(self.port)}
        with self.log.open("ab") as said:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", self.program, "worker"),
                env={**os.environ, **self.environment, **own},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd=self.folder,
                start_new_session=True,
            )
        self._killed = False

    async def _keep(self) -> None:
        """Start it again whenever it ends: at once after a kill, after a short pause if it ended by itself."""
        while True:
            assert self._process is not None
            code = await self._process.wait()
            self.exits.append(Exit(time.time(), self.name, code, self._killed))
            if not self._killed:
                await asyncio.sleep(PAUSE_SECONDS)
            await self._launch()


@asynccontextmanager
async def running_workers(workers: list[WorkerProcess], ready_seconds: float) -> AsyncIterator[None]:
    """All of them, started side by side and ready; stopped on the way out. Raises AssertionError if one isn't."""
    try:
        for worker in workers:
            await worker.start()
        async with aiohttp.ClientSession() as http:
            await until_ready(workers, http, ready_seconds)
        yield
    finally:
        await asyncio.gather(*(worker.stop() for worker in workers))


async def until_ready(workers: list[WorkerProcess], http: aiohttp.ClientSession, seconds: float) -> None:
    """Wait until every gateway is ready. Raises AssertionError, with the log of the one that isn't."""
    end = time.monotonic() + seconds
    for worker in workers:
        while not await worker.is_ready(http):
            assert time.monotonic() < end, f"{worker.name} is not ready after {seconds:g} s:\n{worker.said()}"
            await asyncio.sleep(LOOK_SECONDS)


def free_port() -> int:
    """A TCP port of the loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
