"""A real Redis for tests, on a Unix socket in a folder of its own: no port, no password, nothing left behind."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import REQUIRE_ALL

_SECONDS = 30


class RedisServer:
    """One server; it can be stopped and started again over the same data."""

    def __init__(self, binary: str) -> None:
        self._binary = binary
        # Below /tmp, since a socket's path may have about 100 bytes only.
        self._folder = Path(tempfile.mkdtemp(prefix="callstream-redis-", dir="/tmp"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"unix://{self._folder}/redis.sock"

    @property
    def running(self) -> bool:
        """Whether it has been started and not stopped since."""
        return self._process is not None

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        options = {"port": "0", "unixsocket": "redis.sock", "appendonly": "yes", "appendfsync": "no", "save": ""}
        given = [word for name, value in options.items() for word in (f"--{name}", value)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binary, "--dir", str(self._folder), *given], cwd=self._folder, stdout=log, stderr=log
            )
        end = time.monotonic() + _SECONDS
        while not (self._folder / "redis.sock").exists():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"redis-server did not start: {(self._folder / 'log').read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop it; connections are cut."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_SECONDS)
            self._process = None

    def close(self) -> None:
        """Stop it if it runs, and delete its data."""
        self.stop()
        shutil.rmtree(self._folder)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A running server for the whole run; without one the test is skipped, or fails if everything is required."""
    binary = shutil.which("redis-server")
    if binary is None:
        missing = "no `redis-server` on the PATH: apt-get install redis-server, or brew install redis"
        if os.environ.get(REQUIRE_ALL):
            pytest.fail(missing)
        pytest.skip(missing)
    server = RedisServer(binary)
    try:
        server.start()
        yield server
    finally:
        server.close()
