"""A broker that outlives its starter: start it, look at it, stop it, from any process."""

import time
from dataclasses import dataclass
from pathlib import Path

from callstream.streams.broker.classpath import Progress
from callstream.streams.broker.embedded import EmbeddedKafka, silent
from callstream.streams.broker.errors import BrokerFailed, BrokerInUse
from callstream.streams.broker.home import Home, is_orphan
from callstream.streams.broker.options import BrokerOptions
from callstream.streams.broker.probe import answers
from callstream.streams.broker.process import end_holder, resident_bytes
from callstream.streams.broker.state import State

POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Status:
    """A living broker.

    Attributes:
        folder: absolute data folder.
        bootstrap: "127.0.0.1:PORT".
        pid: process id of the JVM.
        starter: process id of who started it.
        detached: whether it outlives the starter.
        uptime_seconds: since its start.
        resident_bytes: memory in RAM, None where it cannot be read.
        is_answering: whether it serves requests.
    """

    folder: Path
    bootstrap: str
    pid: int
    starter: int
    detached: bool
    uptime_seconds: float
    resident_bytes: int | None
    is_answering: bool


def status(options: BrokerOptions) -> Status | None:
    """The broker that holds the folder, None where none lives there."""
    home = Home(options)
    state = home.holder()
    if state is None or state.pid is None:
        return None
    return Status(
        folder=home.folder,
        bootstrap=state.bootstrap,
        pid=state.pid,
        starter=state.starter,
        detached=state.detached,
        uptime_seconds=max(0.0, time.time() - state.since),
        resident_bytes=resident_bytes(state.pid),
        is_answering=answers(state.port),
    )


def start_detached(options: BrokerOptions, progress: Progress = silent) -> tuple[Status, bool]:
    """Starts a broker that goes on when this process ends, or takes the detached one that runs already.

    Returns:
        The broker, and whether it was started by this call.

    Raises:
        BrokerUnavailable, BrokerFailed: as `EmbeddedKafka.start`; also when the running one does not answer.
        BrokerInUse: the folder's broker belongs to another living process, or is just being started by one.
    """
    home = Home(options)
    running = home.holder()
    started = running is None or not running.detached
    if running is not None and running.detached:
        wait_until_answering(home, running)
    else:
        EmbeddedKafka(options, progress, detached=True).start()
    found = status(options)
    if found is None:
        raise BrokerFailed(f"the broker of {home.folder} ended right after it had answered; logs are in {home.logs}")
    return found, started


def wait_until_answering(home: Home, state: State) -> None:
    """Waits for a broker whose start may have been cut short on its starter's side only.

    Raises:
        BrokerFailed: it did not answer within `start_timeout_seconds`.
    """
    end = time.monotonic() + home.options.start_timeout_seconds
    while not answers(state.port):
        if time.monotonic() > end or not home.lock.is_held():
            raise BrokerFailed(
                f"the broker of {home.folder} (process {state.pid}, {state.bootstrap}) does not answer; logs are in "
                f"{home.logs}; run `callstream kafka down --folder {home.folder}` and start it again"
            )
        time.sleep(POLL_SECONDS)


def stop(options: BrokerOptions) -> Status | None:
    """Stops the folder's broker: asks, and kills after `stop_timeout_seconds`.

    Returns:
        What was stopped, None where nothing ran.

    Raises:
        BrokerInUse: the broker belongs to another living process, or is just being started by one.
        BrokerFailed: it could not be ended.
    """
    home = Home(options)
    state = home.holder()
    found = status(options) if state is not None else None
    if state is None or found is None:
        if home.lock.is_held():
            raise home.in_use()
        return None
    if not state.detached and not is_orphan(state):
        raise BrokerInUse(
            f"the broker of {home.folder} (process {found.pid}) belongs to process {found.starter} and ends with it: "
            "stop that one",
            found.pid,
            found.bootstrap,
        )
    if not end_holder(found.pid, home.lock, options.stop_timeout_seconds):
        raise BrokerFailed(f"process {found.pid}, the broker of {home.folder}, could not be ended: end it yourself")
    return found
