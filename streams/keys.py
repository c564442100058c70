"""Names of tasks: who may be called what, and the one key that every topic and table uses."""

import hashlib
import re
from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

TENANT_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
TASK_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._~-]{0,127}$"
GIVEN_ID_PATTERN = TASK_ID_PATTERN.replace("~", "")
NAME_PATTERN = r"^[a-z][a-z0-9-]{0,47}$"

DERIVED = "~"
"""Joins an id and what was made of it: sub-tasks, shadow copies and replays have it, and no task that is handed in."""


def given_id(task: str) -> str:
    """An id that a caller chose. Raises ValueError for one that reads as if callstream had made it of another."""
    if DERIVED in task:
        raise ValueError(f"must not contain {DERIVED!r}: ids with it are of sub-tasks, replays and shadow copies only")
    return task


Tenant = Annotated[str, StringConstraints(pattern=TENANT_PATTERN)]
TaskId = Annotated[str, StringConstraints(pattern=TASK_ID_PATTERN)]
GivenId = Annotated[str, AfterValidator(given_id), StringConstraints(pattern=GIVEN_ID_PATTERN)]
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]

_KEY = re.compile(rb"^(\d{1,2}):(.+)\Z", re.DOTALL)


def task_key(tenant: str, task: str) -> bytes:
    """Key of a task in topics and tables: the tenant's length, the tenant, the id; no two pairs share one.

    >>> task_key("acme", "mug-1")
    b'4:acme:mug-1'
    """
    return f"{len(tenant)}:{tenant}:{task}".encode()


def split_key(key: bytes) -> tuple[str, str]:
    """The tenant and id that `task_key` joined. Raises ValueError for bytes it did not make."""
    match = _KEY.match(key)
    if match is None:
        raise ValueError(f"not a task key: {key[:80]!r}")
    length, rest = int(match[1]), match[2].decode()
    tenant, task = rest[:length], rest[length + 1 :]
    if task_key(tenant, task) != key:
        raise ValueError(f"not a task key: {key[:80]!r}")
    return tenant, task


def event_id(key: bytes, sequence: int, attempt: int, run: int = 0) -> str:
    """Id of the event that starts one attempt at one step: the same input always has the same id.

    >>> event_id(b"4:acme:mug-1", 3, 1), event_id(b"4:acme:mug-1", 3, 1, run=2)
    ('4:acme:mug-1/3/1', '4:acme:mug-1/3/1/run-2')
    """
    return f"{key.decode()}/{sequence}/{attempt}" + (f"/run-{run}" if run else "")


def id_from_idempotency_key(idempotency_key: str) -> str:
    """Task id of a caller who names none: the same key means the same task, so the log itself finds repeats."""
    return "ik-" + hashlib.sha256(idempotency_key.encode()).hexdigest()[:32]


@lru_cache(maxsize=16_384)
def partition_of(key: bytes, partitions: int) -> int:
    """Partition of a key as Kafka's own default partitioner has it (murmur2), so that any client agrees."""
    return (_murmur2(key) & 0x7FFFFFFF) % partitions


def _murmur2(data: bytes) -> int:
    mask, multiplier, shift = 0xFFFFFFFF, 0x5BD1E995, 24
    length = len(data)
    value = 0x9747B28C ^ length
    whole = length & ~3
    for start in range(0, whole, 4):
        part = int.from_bytes(data[start : start + 4], "little") * multiplier & mask
        part ^= part >> shift
        value = (value * multiplier & mask) ^ (part * multiplier & mask)
    if rest := data[whole:]:
        value = (value ^ int.from_bytes(rest, "little")) * multiplier & mask
    value = (value ^ (value >> 13)) * multiplier & mask
    return value ^ (value >> 15)
