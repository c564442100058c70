"""Which workers run in a data folder, and how they answer: a locked file for each service of each.

A lock lives exactly as long as its process, whatever that dies of; what stands in the file counts only while it is
locked. Two workers of one service would share its tables, so the second does not start; workers of other services may
use the same folder, as they always could.
"""

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from callstream.settings.reload import Reloaded
from callstream.streams.broker.state import FolderLock, write_whole
from callstream.streams.foreseen import Foreseen

FOLDER = "workers"
TAKE_SECONDS = 0.5
POLL_SECONDS = 0.02
MOST_BYTES = 512 * 1024


class FolderInUse(Foreseen, RuntimeError):
    """Another worker runs a service in this data folder, or the folder cannot be used; the message says what to do."""


class Answer(BaseModel):
    """What a worker says after it was asked to read its settings again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pid: int = Field(gt=0, description="the worker's process id")
    began: float = Field(ge=0, allow_inf_nan=False, description="when it began to read, seconds since the epoch")
    outcome: Reloaded = Field(description="what came of it")


class Worker(BaseModel):
    """A living worker of a data folder; `pid` is None until it can be signalled."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    services: tuple[str, ...] = Field(description="the services that it runs, sorted")
    pid: int | None = Field(default=None, gt=0, description="process id")
    host: str = Field(default="", max_length=300, description="machine that it runs on")

    @property
    def is_here(self) -> bool:
        """Whether it runs on this machine."""
        return self.host == socket.gethostname()

    def __str__(self) -> str:
        """How people are told of it."""
        who = f"worker {self.pid}" if self.pid is not None else "a worker that is being started"
        return f"{who} ({', '.join(self.services)})"


class Presence:
    """This process's place among the workers of a data folder, held while entered."""

    def __init__(self, data_folder: Path, services: Sequence[str]) -> None:
        self._folder = data_folder / FOLDER
        self._services = tuple(sorted(set(services)))
        self._locks = {name: FolderLock(self._folder / f"{name}.lock") for name in self._services}
        self._held = ExitStack()

    def __enter__(self) -> "Presence":
        """Take the place of each service. Raises FolderInUse."""
        try:
            with ExitStack() as held:
                self._folder.mkdir(parents=True, exist_ok=True)
                for name, lock in self._locks.items():
                    self._take(name, lock)
                    held.callback(lock.release)
                    held.callback(_write, lock, "")
                    _write(lock, "")
                self._held = held.pop_all()
        except OSError as error:
            raise FolderInUse(f"{self._folder} cannot be used: {error.strerror or error}") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def tell(self) -> None:
        """Say that SIGHUP is waited for from now on."""
        worker = Worker(services=self._services, pid=os.getpid(), host=socket.gethostname()[:300])
        for lock in self._locks.values():
            _write(lock, worker.model_dump_json())

    def answer(self, began: float, outcome: Reloaded) -> None:
        """Say what came of reading the settings at `began` (epoch seconds). Raises OSError."""
        answer = Answer(pid=os.getpid(), began=began, outcome=outcome)
        write_whole(_answers(self._folder, self._services), answer.model_dump_json())

    def _take(self, name: str, lock: FolderLock) -> None:
        end = time.monotonic() + TAKE_SECONDS
        # Who only looks holds it too, for a moment.
        while not lock.acquire():
            if time.monotonic() > end:
                other = _read(lock)
                who = f" (process {other.pid} on {other.host})" if other and other.pid else ""
                raise FolderInUse(
                    f"a worker{who} runs {name} in {self._folder.parent} already: stop it, or give this one a folder "
                    "of its own with CALLSTREAM_DATA_FOLDER"
                )
            time.sleep(POLL_SECONDS)


def workers_in(data_folder: Path) -> list[Worker]:
    """The workers that run in a data folder, those that are being started too. Raises OSError."""
    locks = [FolderLock(path) for path in sorted((data_folder / FOLDER).glob("*.lock"))]
    return list(_merged([(lock.path.stem, _read(lock)) for lock in locks if lock.is_held()]))


def answer_of(data_folder: Path, worker: Worker, asked: float) -> Answer | None:
    """What a worker said to being asked at that time (epoch seconds); None while it has not. Raises OSError."""
    try:
        with _answers(data_folder / FOLDER, worker.services).open("rb") as file:
            answer = Answer.model_validate_json(file.read(MOST_BYTES))
    except (FileNotFoundError, ValidationError):
        return None
    return answer if answer.pid == worker.pid and answer.began >= asked else None


def _merged(found: Sequence[tuple[str, Worker | None]]) -> Iterator[Worker]:
    """Each worker once; services whose worker has not said who it is are one that is being started."""
    yield from dict.fromkeys(worker for _, worker in found if worker is not None)
    if starting := tuple(name for name, worker in found if worker is None):
        yield Worker(services=starting)


def _answers(folder: Path, services: Sequence[str]) -> Path:
    """One file for each service at most, so that killed workers leave no pile of them."""
    return folder / f"{services[0]}.answer.json"


def _write(lock: FolderLock, text: str) -> None:
    """In place: a file that took its place would not be the locked one."""
    if lock.descriptor is not None:
        os.ftruncate(lock.descriptor, 0)
        os.pwrite(lock.descriptor, text.encode(), 0)


def _read(lock: FolderLock) -> Worker | None:
    try:
        with lock.path.open("rb") as file:
            return Worker.model_validate_json(file.read(MOST_BYTES))
    except (OSError, ValidationError):
        return None
