"""A broker's data folder: where its files are, who holds it, and making it ready for a start."""

import base64
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from datetime import datetime
from pathlib import Path

from callstream.streams.broker.classpath import joined
from callstream.streams.broker.errors import BrokerError, BrokerFailed, BrokerInUse
from callstream.streams.broker.options import BrokerOptions
from callstream.streams.broker.ports import Ports
from callstream.streams.broker.process import command_line, end_holder, is_alive
from callstream.streams.broker.properties import jvm_arguments, log4j2_xml, server_properties
from callstream.streams.broker.state import FolderLock, State, read_state, write_whole

TAKE_SECONDS = 2.0
POLL_SECONDS = 0.1
TAIL_BYTES = 2000


class Home:
    """The data folder of one broker; all paths are absolute."""

    def __init__(self, options: BrokerOptions) -> None:
        self.options = options
        self.folder = options.folder.absolute()
        self.data = self.folder / "data"
        self.logs = self.folder / "logs"
        self.state_file = self.folder / "state.json"
        self.properties = self.folder / "server.properties"
        self.lock = FolderLock(self.folder / "lock")

    def holder(self) -> State | None:
        """The state of the broker that holds the folder, if one lives and is known."""
        state = read_state(self.state_file)
        if state is None or not self.lock.is_held():
            return None
        return state if self.is_broker(state.pid) else None

    def is_broker(self, pid: int | None) -> bool:
        """Whether the process is this folder's broker: an old state may name a process id that is another's by now."""
        return pid is not None and str(self.properties) in command_line(pid)

    def take(self) -> State | None:
        """Takes the lock, ending a broker whose starter was killed, and returns the last start's state.

        Raises:
            BrokerInUse: someone alive holds the folder.
            BrokerError: the folder cannot be used.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            end = time.monotonic() + TAKE_SECONDS
            while not self.lock.acquire():
                orphan = self.holder()
                if orphan is not None and orphan.pid is not None and is_orphan(orphan):
                    if not end_holder(orphan.pid, self.lock, self.options.stop_timeout_seconds):
                        raise BrokerFailed(
                            f"process {orphan.pid}, a broker left in {self.folder} by process {orphan.starter}, "
                            "could not be ended: end it yourself"
                        )
                elif time.monotonic() > end:
                    raise self.in_use()
                else:
                    time.sleep(POLL_SECONDS)
        except OSError as error:
            raise BrokerError(f"{self.folder} cannot be used as the broker's data folder: {error}") from error
        return read_state(self.state_file)

    def in_use(self) -> BrokerInUse:
        """The error that says who holds the folder and what to do."""
        state = read_state(self.state_file)
        if state is None:
            return BrokerInUse(f"{self.folder} is in use by a process that has not said who it is", None, None)
        since = datetime.fromtimestamp(state.since).astimezone().isoformat(timespec="seconds")
        if not self.is_broker(state.pid):
            here = state.host == socket.gethostname()
            what = "a broker is being started by" if here else f"a broker was started on {state.host} by"
            return BrokerInUse(
                f"{self.folder} is in use: {what} process {state.starter}, {since}; "
                "wait for it, or choose another folder with --folder",
                state.starter,
                None,
            )
        other = "or choose another folder with --folder"
        advice = (
            f"use it (CALLSTREAM_BROKER={state.bootstrap}), stop it with "
            f"`callstream kafka down --folder {self.folder}`, {other}"
            if state.detached
            else f"it ends with process {state.starter}; use it (CALLSTREAM_BROKER={state.bootstrap}), {other}"
        )
        return BrokerInUse(
            f"{self.folder} is in use by the broker of process {state.pid} at {state.bootstrap}, "
            f"started by process {state.starter} at {since}: {advice}",
            state.pid,
            state.bootstrap,
        )

    def write_files(self, ports: Ports) -> None:
        """Writes the configuration and empties the folder of temporary files."""
        for folder in (self.logs, self.folder / "tmp"):
            if folder.name == "tmp":
                shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.logs / "log4j2.xml", log4j2_xml(self.options))
        write_whole(self.properties, server_properties(self.options, ports, self.data))

    def java_command(self, java: Path, jars: list[Path], *main: str) -> list[str]:
        """The command that runs a class of Kafka with this folder's settings."""
        return [str(java), *jvm_arguments(self.options, self.folder, self.logs), "-cp", joined(jars), *main]

    def format(self, java: Path, jars: list[Path], ports: Ports) -> None:
        """Formats the storage, once: in a folder aside, moved into place when done, so that it is whole or absent.

        Raises:
            BrokerFailed: the tool failed or took longer than a start may take.
        """
        for left in self.folder.glob("format-*"):
            shutil.rmtree(left, ignore_errors=True)
        if self.data.exists():
            return
        with tempfile.TemporaryDirectory(prefix="format-", dir=self.folder) as aside:
            draft, config = Path(aside) / "data", Path(aside) / "server.properties"
            config.write_text(server_properties(self.options, ports, draft), encoding="ascii")
            cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            tool = ("kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", f"--config={config}")
            try:
                done = subprocess.run(
                    self.java_command(java, jars, *tool),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    timeout=self.options.start_timeout_seconds,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise BrokerFailed(f"formatting {self.data} failed: {error}") from error
            if done.returncode != 0 or not draft.exists():
                said = done.stdout[-TAIL_BYTES:].decode(errors="replace").strip()
                raise BrokerFailed(f"formatting {self.data} failed with code {done.returncode}: {said}")
            draft.rename(self.data)

    def tail(self) -> str:
        """The end of what the broker said, for an error."""
        said = [end_of(self.logs / name) for name in ("jvm.log", "broker.log")]
        return "\n".join(text for text in said if text)


def is_orphan(state: State) -> bool:
    """Whether a broker that should have ended with its starter has outlived it."""
    return not state.detached and not is_alive(state.starter)


def end_of(path: Path) -> str:
    """The last two thousand bytes of a file, whole lines; empty where there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            return file.read(TAIL_BYTES).decode(errors="replace").strip()
    except OSError:
        return ""
