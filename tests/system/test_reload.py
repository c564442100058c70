"""Real workers told to read their settings again: by signal, by command, with files that are right and wrong."""

import asyncio
import fcntl
import os
import signal
import sys
import termios
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp.test_utils import unused_port

from callstream.presence import workers_in
from callstream.settings.gather import PREFIX
from callstream.streams.chain import Chains
from tests.support.services import DIRECTED, PARTITIONS, ROOT, chain_of, declare_for, pass_on

SERVICE = "reloaded"
PATIENCE_SECONDS = 40.0
POLL_SECONDS = 0.05
POOL = """
[[inference.pools.writer.endpoints]]
name = "a"
base_url = "http://127.0.0.1:1/v1"
model = "m"
"""
WORKER = (sys.executable, "-m", "callstream", "worker", SERVICE)
FAUST = (sys.executable, "-m", "faust", "-A", "callstream", "worker", "-l", "info", "--without-web")
WEIGHT = "inference.pools.writer.endpoints.0.weight"

pytestmark = pytest.mark.timeout(150)


@dataclass
class Home:
    """A working folder with settings, and the worker processes that were started in it."""

    folder: Path
    environment: Mapping[str, str]

    def write(self, text: str) -> None:
        """Make that the file of settings, as a whole: a worker may still read it for an earlier signal."""
        new = self.folder / "callstream.toml.new"
        new.write_text(text)
        new.replace(self.folder / "callstream.toml")

    def log(self) -> str:
        """What the workers have said so far."""
        return (self.folder / "worker.log").read_text("utf-8", "replace")

    async def run(self, *words: str, **environment: str) -> tuple[int, str, str]:
        """A command in that folder: exit code, output, errors."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "callstream", *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.folder,
            env={**self.environment, **environment},
        )
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
        return process.returncode or 0, out.decode(), err.decode()

    @asynccontextmanager
    async def worker(
        self,
        command: Sequence[str] = WORKER,
        stdin: int = asyncio.subprocess.DEVNULL,
        begin: Callable[[], None] | None = None,
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """A worker, in a session of its own, once it listens to SIGHUP; killed on the way out."""
        with (self.folder / "worker.log").open("ab") as said:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=stdin,
                stdout=said,
                stderr=said,
                cwd=self.folder,
                env=self.environment,
                start_new_session=True,
                preexec_fn=begin,
            )
        try:
            await self.until(lambda: [one.pid for one in workers_in(self.folder / "data")] == [process.pid])
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for that. Raises AssertionError, with the log, when it takes too long."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            assert time.monotonic() < end, self.log()[-4000:]
            await asyncio.sleep(POLL_SECONDS)

    async def says(self, text: str, times: int = 1) -> None:
        """Wait until the worker has said that so often."""
        await self.until(lambda: self.log().count(text) >= times)


@pytest.fixture
async def home(kafka_broker: str, tmp_path: Path) -> Home:
    await declare_for(kafka_broker, Chains([chain_of(SERVICE, pass_on, remembers=True)]))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environment |= {
        "CALLSTREAM_BROKER": kafka_broker,
        "CALLSTREAM_CHAINS": f'["{DIRECTED}:chain"]',
        "CALLSTREAM_PARTITIONS": str(PARTITIONS),
        "CALLSTREAM_DATA_FOLDER": str(tmp_path / "data"),
        "CALLSTREAM_WEB__PORT": str(unused_port()),
        "DIRECTED_SERVICE": SERVICE,
        "PYTHONPATH": str(ROOT),
    }
    found = Home(tmp_path, environment)
    found.write(POOL)
    return found


async def stops(process: asyncio.subprocess.Process, number: int = signal.SIGTERM) -> int:
    process.send_signal(number)
    return await asyncio.wait_for(process.wait(), PATIENCE_SECONDS)


async def test_a_worker_reads_its_settings_at_sighup_and_keeps_the_old_ones_for_a_bad_file(home: Home) -> None:
    async with home.worker() as process:
        # when the file is right
        home.write(POOL + "weight = 2\n")
        process.send_signal(signal.SIGHUP)
        await home.says(f"settings read again: changed: {WEIGHT}")
        # when it is wrong, however often that is said
        home.write(POOL + "weight = 0\n")
        for _ in range(20):
            process.send_signal(signal.SIGHUP)
        await home.says("settings read again: nothing was changed: inference.pools.writer (callstream.toml")
        # when it names a chain that no worker knows
        home.write(POOL + "weight = 2\n[inference.budgets.chains.nowhere.day]\nceiling = '5'\n")
        process.send_signal(signal.SIGHUP)
        await home.says("nothing was changed: inference.budgets.chains names 'nowhere'; there are: ")
        # when it is right again, and one more setting differs
        home.write("retention_hours = 100\n" + POOL + "weight = 3\n")
        process.send_signal(signal.SIGHUP)
        await home.says(f"settings read again: changed: {WEIGHT}; needs a restart: retention_hours")
        # then it was alive all the time, and ends as ever
        assert await stops(process) == 0
    assert workers_in(home.folder / "data") == []


async def test_the_command_tells_what_the_worker_did(home: Home) -> None:
    code, _, err = await home.run("reload")
    assert code == 1
    assert err.startswith(f"error: no worker runs in {home.folder}/data: start `callstream worker`, or name ")
    async with home.worker() as process:
        home.write("retention_hours = 100\n" + POOL + "weight = 2\n")
        told = f"worker {process.pid} ({SERVICE}): changed: {WEIGHT}; needs a restart: retention_hours\n"
        assert await home.run("reload") == (0, told, "")
        again = f"worker {process.pid} ({SERVICE}): nothing was changed; needs a restart: retention_hours\n"
        assert await home.run("reload") == (0, again, "")
        # a bad file does not even reach the worker
        home.write(POOL + "weight = -1\n")
        code, out, err = await home.run("reload")
        assert (code, out) == (1, "")
        assert err.startswith(f"error: settings: {WEIGHT} = -1 (callstream.toml:6): ")
        # what only the worker finds wrong is told by the worker: keys are read by who uses them
        home.write(POOL + 'api_key_file = "gone"\n')
        code, out, err = await home.run("reload")
        assert (code, out) == (1, "")
        problem = "nothing was changed: endpoint a: api_key_file gone cannot be read: No such file or directory"
        problem += "; name a file that the worker may read"
        assert err == f"error: worker {process.pid} ({SERVICE}): {problem}\n"
        assert f"settings read again: {problem}" in home.log()
        assert await stops(process) == 0


async def test_a_second_worker_of_the_same_service_does_not_start_in_the_folder(home: Home) -> None:
    async with home.worker() as process:
        code, _, err = await home.run("worker", SERVICE)
        assert code == 1
        assert f"error: a worker (process {process.pid} on " in err
        assert "CALLSTREAM_DATA_FOLDER" in err
        # a killed one is in nobody's way
        assert await stops(process, signal.SIGKILL) == -signal.SIGKILL
        async with home.worker() as second:
            await home.says("starting ")
            assert await stops(second) == 0


async def test_a_worker_that_faust_started_is_told_too(home: Home) -> None:
    async with home.worker(FAUST) as process:
        home.write(POOL + "weight = 2\n")
        code, out, err = await home.run("reload")
        assert (code, err) == (0, "")
        assert out.startswith(
            f"worker {process.pid} "
            f"(gateway, intake, notify, paused, {SERVICE}, {SERVICE}-next, review, schedule, timer): "
        )
        assert out.endswith(f": changed: {WEIGHT}\n")
        await stops(process)


def takes_terminal() -> None:
    """Makes standard input the terminal that this new session belongs to, and takes the signal as a shell leaves it."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.mark.parametrize(("command", "goes_on"), [(WORKER, False), (("nohup", *WORKER), True)])
async def test_a_worker_ends_with_its_terminal_unless_it_was_told_not_to(
    home: Home, command: Sequence[str], goes_on: bool
) -> None:
    ours, theirs = os.openpty()
    async with home.worker(command, stdin=theirs, begin=takes_terminal) as process:
        os.close(theirs)
        # while the terminal is there, the signal means what it always means
        process.send_signal(signal.SIGHUP)
        await home.says("settings read again")
        os.close(ours)
        if goes_on:
            await home.says("settings read again", times=2)
            assert await stops(process) == 0
        else:
            assert await asyncio.wait_for(process.wait(), PATIENCE_SECONDS) == 0
