"""The demo as its user runs it: it judges itself, and leaves no process behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
END_SECONDS = 10.0

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes by /proc"),
]


@contextmanager
def demo(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`callstream demo` with its data in a folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CALLSTREAM_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "callstream", "demo", *arguments],
        cwd=ROOT,
        env=kept | {"CALLSTREAM_DATA_FOLDER": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for_line(process: subprocess.Popen[str], wanted: str) -> None:
    """Read what the demo says until a line begins so."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(wanted):
            return
    raise AssertionError(f"the demo ended without a line {wanted!r}")


def parts_of(folder: Path) -> list[str]:
    """Every living process that was begun with that data folder, but for the demo itself, whoever its parent is."""
    mark, found = f"CALLSTREAM_DATA_FOLDER={folder}".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if mark in (process / "environ").read_bytes() and " callstream demo " not in command:
                found.append(f"{process.name} {command[:100]}")
        except OSError:
            # It ended while it was looked at, or is another user's.
            continue
    return found


def left_of(folder: Path, seconds: float) -> list[str]:
    """The parts that have not ended within that time."""
    end = time.monotonic() + seconds
    while (left := parts_of(folder)) and time.monotonic() < end:
        time.sleep(0.2)
    return left


def test_once_every_product_ends_as_its_line_says(tmp_path: Path) -> None:
    with demo(tmp_path, "--once") as process:
        out, _ = process.communicate()
    last = json.loads(out.splitlines()[-1])
    assert process.returncode == 0, out
    assert list(last) == ["tasks", "finished", "held", "rejected", "failed", "lost", "model_calls", "seconds"]
    lines = (ROOT / "examples" / "product-copy" / "products.jsonl").read_text(encoding="utf-8").splitlines()
    expected = [json.loads(line)["expect"]["end"] for line in lines]
    for state in ("finished", "held", "rejected", "failed"):
        assert last[state] == expected.count(state)
    assert (last["tasks"], last["lost"]) == (len(expected), 0)
    assert last["model_calls"] >= last["finished"]


@pytest.mark.parametrize("line", [pytest.param("broker", marks=pytest.mark.long), "worker"])
def test_ctrl_c_ends_everything_soon(tmp_path: Path, line: str) -> None:
    with demo(tmp_path) as process:
        wait_for_line(process, line)
        assert parts_of(tmp_path)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.communicate()
        assert time.monotonic() - began < END_SECONDS
        assert left_of(tmp_path, 0) == []


def test_a_killed_demo_leaves_nothing_either(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        wait_for_line(process, "worker")
        assert len(parts_of(tmp_path)) >= 3
        process.kill()
        assert left_of(tmp_path, 30) == []


def test_a_second_demo_is_told_of_the_first(tmp_path: Path) -> None:
    with demo(tmp_path) as first:
        wait_for_line(first, "broker")
        second = subprocess.run(
            [sys.executable, "-m", "callstream", "demo", "--once"],
            cwd=ROOT,
            env=os.environ | {"CALLSTREAM_DATA_FOLDER": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        first.send_signal(signal.SIGINT)
        first.communicate()
    assert second.returncode == 1
    assert "a demo runs in" in second.stderr
