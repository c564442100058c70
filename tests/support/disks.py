"""A small file system of its own in a folder, so that a test can fill a disk without filling the machine's."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.postgres import REQUIRE_ALL

BALLAST = "ballast"
CHUNK = bytes(64 * 1024)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of that size, mounted on `folder`. Skips, or fails if everything is required, where none may be."""
    folder.mkdir(parents=True, exist_ok=True)
    size = f"size={megabytes}m"
    try:
        mounting = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", size, "callstream-test", str(folder)], capture_output=True, check=False
        )
        problem = mounting.stderr.decode().strip() if mounting.returncode else ""
    except FileNotFoundError:
        problem = "there is no `mount`"
    if problem:
        missing = f"a file system of its own cannot be mounted here, which needs root: {problem}"
        if os.environ.get(REQUIRE_ALL):
            pytest.fail(missing)
        pytest.skip(missing)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> int:
    """Take every byte that is free; gives how many those were."""
    taken = 0
    with (disk / BALLAST).open("wb", buffering=0) as ballast:
        for chunk in (CHUNK, CHUNK[:4096], CHUNK[:1]):
            with suppress(OSError):
                while True:
                    taken += ballast.write(chunk)
    return taken


def make_room(disk: Path) -> None:
    """Give back what `fill` took."""
    (disk / BALLAST).unlink()
