"""Becomes the broker's JVM; run as a script of its own, with the standard library only.

    python -I -S launch.py STATE_FILE STATE_JSON LOCK_FD STOP_SECONDS java …

Writes the state with its own process id, then replaces itself by the JVM: so whoever holds the lock (a descriptor
that the JVM inherits) has always written down who it is, wherever the starter was killed.

Unless the state says `detached`, it leaves a watcher behind, a child of the JVM, which ends the JVM when the starter
is gone. This is chosen over PR_SET_PDEATHSIG, which fires when the *thread* that started the child ends, and over a
pipe, whose other end may live on in forked workers of a killed starter. The watcher cannot hit a stranger: the JVM is
its parent, and a parent that has died is no longer reported as such.
"""

import contextlib
import json
import os
import select
import signal
import sys
import time

POLL_SECONDS = 1.0


def launch(arguments: list[str]) -> None:
    """Writes the state, leaves the watcher, executes the JVM."""
    state_file, state_json, lock, stop_seconds, *command = arguments
    state = json.loads(state_json)
    draft = f"{state_file}.{os.getpid()}.new"
    with open(draft, "w", encoding="utf-8") as file:
        json.dump({**state, "pid": os.getpid()}, file)
    os.replace(draft, state_file)
    if not state["detached"] and os.fork() == 0:
        os.close(int(lock))
        watch(os.getppid(), state["starter"], float(stop_seconds))
        os._exit(0)
    os.execv(command[0], command)


def watch(jvm: int, starter: int, stop_seconds: float) -> None:
    """Returns when the JVM is gone, having ended it if the starter went first."""
    wait_for_any([jvm, starter], None)
    for number in (signal.SIGTERM, signal.SIGKILL):
        if os.getppid() != jvm:
            return
        os.kill(jvm, number)
        wait_for_any([jvm], stop_seconds)


def wait_for_any(pids: list[int], seconds: float | None) -> None:
    """Waits until one of the processes has ended, or for so many seconds."""
    if not hasattr(os, "pidfd_open"):
        poll_for_any(pids, seconds)
        return
    poller = select.poll()
    descriptors = []
    try:
        for pid in pids:
            descriptors.append(os.pidfd_open(pid))
            poller.register(descriptors[-1], select.POLLIN)
        poller.poll(None if seconds is None else int(seconds * 1000))
    except ProcessLookupError:
        return
    except OSError:
        poll_for_any(pids, seconds)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def poll_for_any(pids: list[int], seconds: float | None) -> None:
    """The same where the system has no descriptors of processes."""
    end = None if seconds is None else time.monotonic() + seconds
    with contextlib.suppress(ProcessLookupError):
        while end is None or time.monotonic() < end:
            for pid in pids:
                os.kill(pid, 0)
            time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    launch(sys.argv[1:])
