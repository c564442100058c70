"""The embedded broker: a real single-node Apache Kafka (KRaft) as a child process or as a detached one."""

import asyncio
import contextlib
import os
import random
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from callstream.streams.broker.classpath import Progress, class_path, find_java
from callstream.streams.broker.errors import BrokerFailed
from callstream.streams.broker.home import Home
from callstream.streams.broker.options import BrokerOptions
from callstream.streams.broker.ports import Ports, choose_ports, is_free
from callstream.streams.broker.probe import answers
from callstream.streams.broker.state import State, write_whole

PORT_TRIES = 3
POLL_SECONDS = 0.1
KILL_SECONDS = 10.0
PORT_TAKEN = "Address already in use"


def silent(_text: str, _done: int, _total: int | None) -> None:
    """A progress that shows nothing."""


class EmbeddedKafka:
    """Starts and stops one broker; also a context manager, sync and async.

    Unless `detached`, the broker ends with the process that started it, however that one ends. Data survives the
    broker's process in the page cache and on disk; it is not flushed to disk at every message, as Kafka never does.

    Args:
        options: folder, sizes, time-outs.
        progress: called with (what, done, total or None) while the jars are downloaded, from any thread.
        detached: leave the broker running when this process ends.
    """

    def __init__(self, options: BrokerOptions, progress: Progress = silent, *, detached: bool = False) -> None:
        self.options = options
        self.home = Home(options)
        self.folder = self.home.folder
        self._progress = progress
        self._detached = detached
        self._process: subprocess.Popen[bytes] | None = None
        self._ports: Ports | None = None
        self._cancelled = threading.Event()

    def __repr__(self) -> str:
        where = f"{self.bootstrap}, pid {self.pid}" if self.is_running else "not running"
        return f"<EmbeddedKafka {self.folder}: {where}>"

    @property
    def is_running(self) -> bool:
        """Whether the broker that this object started lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def bootstrap(self) -> str:
        """Address for clients, "127.0.0.1:PORT".

        Raises:
            BrokerFailed: it was never started.
        """
        if self._ports is None:
            raise BrokerFailed(f"the broker of {self.folder} has not been started")
        return f"127.0.0.1:{self._ports.broker}"

    @property
    def pid(self) -> int:
        """Process id of the broker's JVM.

        Raises:
            BrokerFailed: it is not running.
        """
        if self._process is None:
            raise BrokerFailed(f"the broker of {self.folder} is not running")
        return self._process.pid

    def start(self) -> None:
        """Starts the broker and returns once it answers.

        Raises:
            BrokerUnavailable: the extra is not installed, or the jars cannot be had.
            BrokerInUse: someone holds the folder.
            BrokerFailed: it did not come up within `start_timeout_seconds`; quotes the end of its logs.
        """
        if self.is_running:
            return
        self._cancelled.clear()
        java = find_java()
        jars = class_path(self.options, java, self._progress)
        last = self.home.take()
        try:
            ports = last.ports if last else None
            for attempt in range(PORT_TRIES):
                ports = choose_ports(ports, is_free, random.Random())
                self._launch(java, jars, ports)
                if self._wait_until_up(ports, final=attempt == PORT_TRIES - 1):
                    break
                ports = None
        except BaseException:
            self.stop()
            raise
        finally:
            self.home.lock.release()

    def stop(self) -> None:
        """Ends the broker: asks, and kills after `stop_timeout_seconds`. Does nothing when it is not running."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(self.options.stop_timeout_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(KILL_SECONDS)

    def _launch(self, java: Path, jars: list[Path], ports: Ports) -> None:
        home = self.home
        state = State(
            host=socket.gethostname(),
            since=time.time(),
            starter=os.getpid(),
            detached=self._detached,
            port=ports.broker,
            controller_port=ports.controller,
        )
        write_whole(home.state_file, state.model_dump_json())
        home.write_files(ports)
        home.format(java, jars, ports)
        lock = home.lock.descriptor
        if lock is None:
            raise BrokerFailed(f"the lock of {home.folder} was lost")
        script = Path(__file__).with_name("launch.py")
        handed = [str(home.state_file), state.model_dump_json(), str(lock), str(self.options.stop_timeout_seconds)]
        broker = home.java_command(java, jars, "kafka.Kafka", str(home.properties))
        with (home.logs / "jvm.log").open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(script), *handed, *broker],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                pass_fds=[lock],
                # Ctrl-C in a terminal reaches the program first, which then stops its broker last.
                start_new_session=True,
            )
        self._ports = ports

    def _wait_until_up(self, ports: Ports, *, final: bool) -> bool:
        """True once it answers, False when it ended because another process took a port meanwhile."""
        process = self._process
        if process is None:
            raise BrokerFailed(f"the broker of {self.folder} was stopped while it started")
        end = time.monotonic() + self.options.start_timeout_seconds
        while time.monotonic() < end:
            if answers(ports.broker):
                return True
            if process.poll() is not None:
                said = self.home.tail()
                if PORT_TAKEN in said and not final:
                    return False
                raise BrokerFailed(
                    f"the broker ended with code {process.returncode} while it started; logs are in {self.home.logs}:\n"
                    f"{said}"
                )
            if self._cancelled.wait(POLL_SECONDS):
                raise BrokerFailed(f"the start of the broker of {self.folder} was cancelled")
        raise BrokerFailed(
            f"the broker did not answer within {self.options.start_timeout_seconds:g} s; "
            f"logs are in {self.home.logs}:\n{self.home.tail()}"
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        starting = asyncio.create_task(asyncio.to_thread(self.start))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            # A thread cannot be cancelled: it is told, awaited, and what it may have started is ended.
            self._cancelled.set()
            with contextlib.suppress(Exception):
                await starting
            await asyncio.to_thread(self.stop)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)
