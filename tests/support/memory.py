"""Opens every table of a worker with all its services, as the worker makes them; fills them, and prints the memory.

A program of its own, since what a process has once taken it hardly ever gives back.
"""

import json
import os
import resource
import sys
from pathlib import Path

from callstream.node import Node
from callstream.settings import Settings
from callstream.streams.chain import Chains
from callstream.tables.durable import DurableTable
from callstream.tables.sweep import Sweeper
from tests.support.services import chain_of, pass_on

ROWS, ROW_BYTES = 600, 16 * 1024


def main(folder: Path) -> None:
    """Print what was measured as one line of JSON."""
    chains = Chains([chain_of("prepare", pass_on), chain_of("infer", pass_on, remembers=True)])
    node = Node(Settings(data_folder=folder), chains, "127.0.0.1:1")
    tables = {f"{app.service_name}/{name}": table for app in node.apps.values() for name, table in app.tables.items()}
    sweepers = [getattr(one, "__self__", None) for app in node.apps.values() for one in app.background]
    swept = {id(one.table) for one in sweepers if isinstance(one, Sweeper)}
    before = peak_bytes()
    written = 0
    for table in tables.values():
        for partition in range(node.settings.partitions):
            database = table.data._db_for_partition(partition)
            for row in range(ROWS):
                database.put(b"%06d" % row, os.urandom(ROW_BYTES))
                written += ROW_BYTES
            for row in range(ROWS):
                database.get(b"%06d" % row)
    told = {
        "tables": sorted(tables),
        "unswept": sorted(n for n, one in tables.items() if isinstance(one, DurableTable) and id(one) not in swept),
        "keyed_otherwise": sorted(name for name, table in tables.items() if table.key_serializer != "raw"),
        "databases": len(tables) * node.settings.partitions,
        "written_bytes": written,
        "memory_bytes": peak_bytes() - before,
    }
    print(json.dumps(told), flush=True)
    os._exit(0)


def peak_bytes() -> int:
    """The most memory that this process has had."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main(Path(sys.argv[1]))
