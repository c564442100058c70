"""A real PostgreSQL for tests, on a Unix socket in a folder of its own: no port, no password, nothing left behind."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from glob import glob
from pathlib import Path

import pytest

REQUIRE_ALL = "CALLSTREAM_REQUIRE_ALL"
"""Environment variable: with it set, a missing server fails the test that needs it instead of skipping it."""

_USER = "callstream"
_SECONDS = 60


class PostgresMissing(RuntimeError):
    """There is no PostgreSQL server on this machine."""


class Postgres:
    """One server; it can be stopped and started again over the same data."""

    def __init__(self) -> None:
        binary = shutil.which("postgres") or next(iter(sorted(glob("/usr/lib/postgresql/*/bin/postgres"))[::-1]), None)
        if binary is None:
            raise PostgresMissing("no `postgres` on the PATH: apt-get install postgresql, or brew install postgresql")
        self._binaries = Path(binary).resolve().parent
        # Below /tmp, since a socket's path may have about 100 bytes only.
        self._folder = Path(tempfile.mkdtemp(prefix="callstream-pg-", dir="/tmp"))
        self._account = _unprivileged() if os.geteuid() == 0 else None
        if self._account is not None:
            os.chown(self._folder, self._account.pw_uid, self._account.pw_gid)
        self._run("initdb", "-D", "data", "-U", _USER, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")

    def url(self, database: str = "postgres") -> str:
        """URL of one of its databases."""
        return f"postgresql://{_USER}@/{database}?host={self._folder}"

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        options = f"-k {self._folder} -c listen_addresses='' -c fsync=off -c max_connections=50"
        self._run("pg_ctl", "start", "-w", "-t", str(_SECONDS), "-D", "data", "-l", "log", "-o", options)

    @property
    def running(self) -> bool:
        """Whether it has been started and not stopped since."""
        return (self._folder / "data" / "postmaster.pid").exists()

    def stop(self) -> None:
        """Stop it; connections are cut."""
        self._run("pg_ctl", "stop", "-w", "-m", "fast", "-D", "data")

    def create(self, database: str) -> str:
        """An empty database; gives its URL."""
        statement = f'CREATE DATABASE "{database}"'
        self._run("psql", "-h", str(self._folder), "-U", _USER, "-d", "postgres", "-qc", statement)
        return self.url(database)

    def close(self) -> None:
        """Stop it if it runs, and delete its data."""
        if self.running:
            self.stop()
        shutil.rmtree(self._folder)

    def _run(self, program: str, *arguments: str) -> None:
        account, output = self._account, self._folder / "output"
        # Into a file: the server outlives pg_ctl and would keep a pipe open.
        with output.open("w") as sink:
            done = subprocess.run(
                [str(self._binaries / program), *arguments],
                cwd=self._folder,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                timeout=2 * _SECONDS,
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
            )
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed with {done.returncode}: {output.read_text()[-2000:]}")


def _unprivileged() -> pwd.struct_passwd:
    """The account that runs the server when we are root, as whom it refuses to run."""
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise PostgresMissing("PostgreSQL refuses to run as root, and there is no account `postgres` or `nobody`")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running server for the whole run; without one the test is skipped, or fails if everything is required."""
    try:
        server = Postgres()
    except PostgresMissing as missing:
        if os.environ.get(REQUIRE_ALL):
            pytest.fail(str(missing))
        pytest.skip(str(missing))
    try:
        server.start()
        yield server
    finally:
        server.close()
