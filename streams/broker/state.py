"""What is known about a folder's broker: a lock tells whether it lives, a file tells who it is."""

import fcntl
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from callstream.streams.broker.ports import Ports

STATE_BYTES = 64 * 1024


class State(BaseModel):
    """Contents of `state.json`. It is truthful about a living broker only while the lock is held."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    host: str = Field(max_length=300, description="machine that the broker runs on")
    since: float = Field(ge=0, allow_inf_nan=False, description="start, seconds since the epoch")
    starter: int = Field(gt=0, description="process that started the broker")
    detached: bool = Field(description="whether the broker outlives its starter")
    port: int = Field(gt=0, lt=65536, description="port for clients on 127.0.0.1")
    controller_port: int = Field(gt=0, lt=65536, description="port of the broker's own controller")
    pid: int | None = Field(default=None, gt=0, description="the broker's JVM; None before it was started")

    @property
    def bootstrap(self) -> str:
        """Address for clients, "127.0.0.1:PORT"."""
        return f"127.0.0.1:{self.port}"

    @property
    def ports(self) -> Ports:
        """The ports to be used again at the next start."""
        return Ports(self.port, self.controller_port)


def parse_state(text: bytes) -> State | None:
    """The state, or None where the text is none (cut off, garbage, of another kind)."""
    try:
        return State.model_validate_json(text)
    except ValidationError:
        return None


def read_state(path: Path) -> State | None:
    """The state in a file; None where there is none or it cannot be understood."""
    try:
        with path.open("rb") as file:
            return parse_state(file.read(STATE_BYTES))
    except OSError:
        return None


def write_whole(path: Path, text: str) -> None:
    """Writes a file so that a reader, or a start after a crash, sees the old text or the new one, never half of it."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


class FolderLock:
    """The lock of a data folder. The descriptor is handed on to the JVM, so the lock is held while the JVM lives."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor: int | None = None

    def acquire(self) -> bool:
        """Takes the lock; False where another process holds it. Creates the file."""
        self.descriptor = self._try(fcntl.LOCK_EX)
        return self.descriptor is not None

    def release(self) -> None:
        """Lets go of this process's hold; a process that was handed the descriptor keeps the lock."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def is_held(self) -> bool:
        """Whether any process holds the lock now."""
        if self.descriptor is not None or not self.path.exists():
            return self.descriptor is not None
        # Shared, so that two that only look do not see each other.
        probe = self._try(fcntl.LOCK_SH)
        if probe is not None:
            os.close(probe)
        return probe is None

    def _try(self, kind: int) -> int | None:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                return None
            raise
        return descriptor
