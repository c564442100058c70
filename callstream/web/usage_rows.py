"""Sums of the rows of table `usage`, a few rows at a time: nobody else waits for a long range."""

import asyncio
from collections.abc import Iterable, Mapping

from callstream.streams import strict_json
from callstream.streams.event import Json
from callstream.tables.rows import Rows
from callstream.tables.usage import UsageKey, day_after, decode_key, grouped, regrouped
from callstream.web.port import UsageQuery
from callstream.web.problems import Problem

ROWS_A_STEP = 500
MOST_LOOKED_AT = 500_000


def wanted(key: UsageKey, query: UsageQuery) -> bool:
    """Whether a row is one of those that were asked for."""
    return (
        query.first <= key.day <= query.last and query.tenant in (None, key.tenant) and query.chain in (None, key.chain)
    )


async def usage_of(rows: Rows, partitions: Iterable[int], query: UsageQuery) -> list[Json]:
    """Sums of these partitions. Raises Problem 400 for a range with too many rows."""
    sums: list[Json] = []
    looked_at = 0
    end = f"{day_after(query.last)}|".encode()
    for partition in partitions:
        after = f"{query.first}|".encode()
        while True:
            step = [one for one in rows.scan(partition, after, ROWS_A_STEP) if one[0] < end]
            found: list[tuple[UsageKey, Mapping[str, Json]]] = [
                (key, strict_json.unpack(raw)["kinds"])
                for place, raw in step
                if wanted(key := decode_key(place), query)
            ]
            sums = regrouped([*sums, *grouped(found, query.by)], query.by)
            looked_at += len(step)
            if looked_at > MOST_LOOKED_AT:
                raise Problem(400, "too-many-rows", f"over {MOST_LOOKED_AT:,} rows to sum up: ask for fewer days")
            if len(step) < ROWS_A_STEP:
                break
            after = step[-1][0]
            await asyncio.sleep(0)
    return sums
