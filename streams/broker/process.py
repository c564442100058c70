"""Looks at and ends the process of a broker that may belong to anyone."""

import os
import signal
import subprocess
import time
from pathlib import Path

from callstream.streams.broker.state import FolderLock

PS_SECONDS = 5.0
POLL_SECONDS = 0.05
KILL_SECONDS = 10.0


def is_alive(pid: int) -> bool:
    """Whether a process of that id exists and is no zombie."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        os.kill(pid, 0)
        return stat.read_bytes().rpartition(b")")[2].split()[0] != b"Z" if stat.exists() else True
    except ProcessLookupError:
        return False
    except (PermissionError, FileNotFoundError, IndexError):
        return True


def command_line(pid: int) -> str:
    """The arguments of a process, joined by spaces; empty where it cannot be read."""
    proc = Path(f"/proc/{pid}/cmdline")
    if Path("/proc/self").exists():
        try:
            return proc.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    return ps(pid, "command")


def resident_bytes(pid: int) -> int | None:
    """Memory of a process in RAM, None where it cannot be read."""
    proc = Path(f"/proc/{pid}/statm")
    if proc.exists():
        try:
            return int(proc.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError, ValueError):
            return None
    kibibytes = ps(pid, "rss")
    return int(kibibytes) * 1024 if kibibytes.isdigit() else None


def ps(pid: int, column: str) -> str:
    """One column of `ps`, for systems without /proc."""
    try:
        answer = subprocess.run(
            ["ps", "-ww", "-o", f"{column}=", "-p", str(pid)], capture_output=True, text=True, timeout=PS_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()


def end_holder(pid: int, lock: FolderLock, stop_seconds: float) -> bool:
    """Ends the process that holds the lock: SIGTERM, and SIGKILL after `stop_seconds`; True once the lock is free."""
    for number, seconds in ((signal.SIGTERM, stop_seconds), (signal.SIGKILL, KILL_SECONDS)):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass
        except PermissionError:
            return False
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not lock.is_held():
                return True
            time.sleep(POLL_SECONDS)
    return False
