"""Whether the service in this container is well; exits with 0 or 1 and says why.

A gateway is asked over HTTP. Any other service listens nowhere: it is well while it is connected to the broker, and
its own watchdog ends it when it is connected and yet gets nothing done.
"""

import os
import sys
import urllib.request
from pathlib import Path

ESTABLISHED = "01"


def main() -> int:
    command = Path("/proc/1/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    services = command[command.index("worker") + 1 :] if "worker" in command else []
    named = [word for word in services if word and not word.startswith("-")]
    return gateway() if not named or "gateway" in named else member()


def gateway() -> int:
    port = os.environ.get("CALLSTREAM_WEB__PORT") or "8420"
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/health/live", timeout=4) as answer:
            return 0 if answer.status == 200 else 1
    except OSError as error:
        print(f"the gateway does not answer: {error}")
        return 1


def member() -> int:
    broker = os.environ.get("CALLSTREAM_BROKER") or "127.0.0.1:9092"
    ports = {f"{int(server.rpartition(':')[2]):04X}" for server in broker.split(",")}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        path = Path(table)
        for row in path.read_text().splitlines()[1:] if path.exists() else ():
            _, _, remote, state, *_ = row.split()
            if state == ESTABLISHED and remote.rpartition(":")[2] in ports:
                return 0
    print(f"not connected to {broker}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
