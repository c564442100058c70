"""Whether a partition's copy on this disk may be gone on with, or has to be read back from its changelog. Pure.

The changelog is the truth and a copy is only a shortcut to it. A copy says up to which offset it has the changelog of
which cluster, and when it last had all of it. Folders are restored from backups, moved between installations, or left
behind by a broker that lost its data; Faust would go on with whatever it finds.
"""

import json
from dataclasses import dataclass

STAMP_KEY = b"__callstream\0copy__"
LONGEST_AWAY_SECONDS = 20 * 3_600.0
"""Kafka keeps the mark of a deletion for 24 hours (`delete.retention.ms`) where it compacts: a copy that was away for
longer might keep rows that were deleted meanwhile."""


@dataclass(frozen=True, slots=True)
class Copy:
    """What a copy says of itself: the last offset that it has, of which cluster, and when it had all (epoch seconds).

    `cluster` is empty and `at` None where no stamp was ever set.
    """

    offset: int
    cluster: str = ""
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Changelog:
    """What the broker says: the cluster's id, the first offset that is still there, and the one behind the last."""

    cluster: str
    first: int
    end: int


def distrust(copy: Copy, log: Changelog, now: float) -> str | None:
    """Why this copy must not be gone on with, in a phrase, or None. `now` is epoch seconds."""
    if copy.cluster and log.cluster and copy.cluster != log.cluster:
        return f"it is of another cluster, {copy.cluster}, and this is {log.cluster}"
    if copy.offset >= log.end:
        return f"it has offset {copy.offset:,}, and the changelog ends with {log.end - 1:,}"
    if copy.offset + 1 < log.first:
        return f"it has the changelog up to offset {copy.offset:,}, and what is left begins at {log.first:,}"
    away = 0.0 if copy.at is None else now - copy.at
    if away > LONGEST_AWAY_SECONDS and copy.offset < log.end - 1:
        return f"it is {away / 3_600:.0f} hours old, and the marks of rows deleted since may be gone"
    return None


def stamp(cluster: str, now: float) -> bytes:
    """What a copy keeps under STAMP_KEY."""
    return json.dumps({"cluster": cluster, "at": now}).encode()


def read_copy(offset: int | None, stamped: bytes | None) -> Copy | None:
    """The copy as its database has it; None for one that has nothing yet. A stamp that cannot be read is none."""
    if offset is None:
        return None
    try:
        told = json.loads(stamped or b"{}")
        return Copy(offset, str(told.get("cluster", "")), float(told["at"]) if "at" in told else None)
    except (ValueError, TypeError, AttributeError):
        return Copy(offset)
