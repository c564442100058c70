"""How long does a page of held tasks take with ten thousand of them waiting?

    python -m benchmarks.reviews [--waiting 10000] [--ended 200000] [--limit 50]

The index of one gateway over a table in memory: rows as large as those of real tasks, most of them ended. The first
page reads every row once, as it does after a partition has come; each page after it costs its own rows.
"""

import argparse
import asyncio
import random
import time
import tracemalloc
from bisect import bisect_right, insort
from collections.abc import Iterator
from statistics import quantiles

from callstream.streams import strict_json
from callstream.streams.event import Body, Event, Json, Submission
from callstream.streams.keys import partition_of, task_key
from callstream.streams.ownership import Claim
from callstream.streams.review import opened
from callstream.web.waiting import Query, Waiting, place_of

PARTITIONS = 8
TENANT = "acme"
COPY = "A mug of stoneware, glazed in blue, for those who like their tea hot. " * 8
STEPS: list[Json] = [
    {"step": name, "service": name, "started": 1.0, "ended": 2.0, "notes": []} for name in ("a", "b", "c", "d")
]


class Rows:
    """A table in memory, whose rows are in the order of their keys."""

    def __init__(self) -> None:
        self._keys: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
        self._rows: dict[tuple[int, bytes], bytes] = {}

    def read(self, partition: int, key: bytes) -> bytes | None:
        """The row, or None."""
        return self._rows.get((partition, key))

    async def write(self, claim: Claim, key: bytes, value: bytes | None) -> None:
        """Keep a row."""
        if (claim.partition, key) not in self._rows:
            insort(self._keys[claim.partition], key)
        self._rows[claim.partition, key] = value or b""

    def scan(self, partition: int, after: bytes = b"", most: int = 100) -> Iterator[tuple[bytes, bytes]]:
        """Up to `most` rows in key order, behind `after`."""
        keys = self._keys[partition]
        start = bisect_right(keys, after)
        yield from ((key, self._rows[partition, key]) for key in keys[start : start + most])

    def open_partitions(self) -> list[int]:
        """All of them."""
        return list(range(PARTITIONS))

    def claim(self, partition: int) -> Claim:
        """One that always stands."""
        return Claim(partition, 0)


def a_row(chance: random.Random, number: int, held: bool) -> Json:
    """The row of a task, with its outputs while it is held."""
    body = Body(submission=Submission(chain="shop", input={}), digest="0" * 64)
    task = f"task-{number:07d}"
    row: Json = {"tenant": TENANT, "id": task, "chain": "shop", "version": 1, "steps": STEPS, "updated": 2.0}
    if not held:
        return row | {"state": "finished", "result": {"text": COPY}}
    known = opened(Event(TENANT, task, "shop", 1, 4, body))
    known |= {
        "priority": chance.choice(["high", "normal", "low"]),
        "due": chance.choice([None, chance.uniform(0, 9e5)]),
    }
    known |= {"group": chance.choice(["copy", "legal"])}
    return row | {"state": "held", "text": COPY, "outputs": {"copy": {"text": COPY}}, "review": known}


async def measure(waiting: int, ended: int, limit: int) -> None:
    """Fill the table, then page through it; print what that took."""
    chance, rows = random.Random(7), Rows()
    for number in range(waiting + ended):
        row = a_row(chance, number, number % ((waiting + ended) // waiting) == 0)
        key = task_key(TENANT, row["id"])
        await rows.write(rows.claim(partition_of(key, PARTITIONS)), key, strict_json.pack(row))

    def read(partition: int, key: bytes) -> Json | None:
        raw = rows.read(partition, key)
        return None if raw is None else strict_json.unpack(raw)

    tracemalloc.start()
    index = Waiting(rows, rows.open_partitions, read, PARTITIONS)
    await index.page(TENANT, Query(now=0.0, limit=limit))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    index.forget()
    began = time.perf_counter()
    await index.page(TENANT, Query(now=0.0, limit=limit))
    first = time.perf_counter() - began
    for group in (None, "legal"):
        after, count, took = None, 0, list[float]()
        while True:
            began = time.perf_counter()
            found, _ = await index.page(TENANT, Query(now=0.0, after=after, limit=limit, group=group))
            took.append(1000 * (time.perf_counter() - began))
            count += len(found)
            if len(found) < limit:
                break
            after = place_of(found[-1])
        cuts = quantiles(took, n=100)
        told = f"{len(took)} pages of {count:,}: {cuts[49]:.2f} ms, 99 % within {cuts[98]:.2f} ms"
        print(f"{'group ' + group if group else 'all':12}  {told}")
    began = time.perf_counter()
    for row in found:
        index.changed(row)
    changed = 1e6 * (time.perf_counter() - began) / max(1, len(found))
    print(f"first page    {first:.2f} s for {waiting + ended:,} rows; {size / 2**20:.1f} MB; a change {changed:.0f} µs")


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waiting", type=int, default=10_000, help="tasks that wait for a person")
    parser.add_argument("--ended", type=int, default=200_000, help="tasks that have ended")
    parser.add_argument("--limit", type=int, default=50, help="rows of a page")
    options = parser.parse_args()
    asyncio.run(measure(options.waiting, options.ended, options.limit))


if __name__ == "__main__":
    main()
