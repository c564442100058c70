"""`python -m callstream.cli.demo.tethered ARGS`: `callstream ARGS` that ends when the other end of its stdin is gone.

A worker of the demo must not outlive it, whichever way the demo ends.
"""

import os
import signal
import sys
import threading

from callstream.cli import main

LAST_SECONDS = 8.0


def watch(descriptor: int) -> None:
    """Wait for the end of the pipe, then ask this process to end, and end it for good if it does not."""
    while os.read(descriptor, 1024):
        pass
    timer = threading.Timer(LAST_SECONDS, os.killpg, (os.getpgid(0), signal.SIGKILL))
    timer.daemon = True
    timer.start()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=watch, args=(sys.stdin.fileno(),), daemon=True).start()
    main()
