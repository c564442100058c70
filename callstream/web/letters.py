"""The dead letters of one gateway's partitions, as the web reads them and hands in what is decided about them.

The same over Kafka and in memory: what it needs is a table and a way to send an event.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from callstream.agents.letters.commands import Command, Job, to_partition, to_task
from callstream.agents.letters.parts import MOST_REFUSALS, job_key, part_of
from callstream.agents.letters.rehearsal import Rehearsal
from callstream.agents.letters.store import Shelf
from callstream.streams import strict_json
from callstream.streams.event import Event, Json
from callstream.streams.expressions import Expression
from callstream.streams.keys import partition_of, task_key
from callstream.tables.letters import JOBS, KINDS, LETTERS, UNREADABLE, done_by, letter_key, summary, values_of
from callstream.tables.rows import Rows
from callstream.web.errors import Unavailable

SCANNED_IN_A_ROW = 200
"""Rows that are looked at before others get a turn."""
MOST_SCANNED = 4_000
"""Rows of a partition that are looked at for one page: a condition that holds for few ends a page early."""
MOST_GROUPED = 50_000
"""Rows of a partition that are looked at to group them."""
MOST_GROUPS = 500
MOST_JOBS = 100
LOOK_SECONDS = 0.05
ACCEPTED = "accepted"
"""The state of a job that is on the log, and which no partition has yet begun."""
ACCEPTED_SECONDS = 3600.0
"""How long a gateway remembers the jobs that it has put there."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters: of that state (None: any), those that a condition holds for."""

    state: str | None = None
    condition: Expression | None = None

    def takes(self, row: Json, now: float) -> bool:
        """Whether it is one of them. Raises BadExpression."""
        if self.state is not None and row["state"] != self.state:
            return False
        return self.condition is None or self.condition.holds(values_of(row, now))


@dataclass(slots=True)
class Found:
    """Letters in the order of their keys: all of them up to the key `upto`, or all that there are if that is None."""

    letters: list[tuple[bytes, Json]] = field(default_factory=list)
    upto: bytes | None = None
    looked_at: int = 0


@dataclass(frozen=True, slots=True)
class Letter:
    """One letter: its row and its event, which one that nobody could read has not."""

    key: bytes
    partition: int
    row: Json
    event: Event | None


@dataclass(slots=True)
class LetterBox:
    """The letters that this gateway has. `send` puts an event onto the topic of commands and returns once it is there.

    `task_row` gives the row of a task by partition and key; `rehearsal` runs steps dry. Every method may raise
    Unavailable.
    """

    rows: Rows
    partitions: int
    send: Callable[[Event], Awaitable[None]]
    task_row: Callable[[int, bytes], Json | None]
    rehearsal: Rehearsal
    clock: Callable[[], float] = time.time
    rate: float = 50.0
    """Redrives a second of a job that names none."""
    _begun: OrderedDict[str, Json] = field(default_factory=OrderedDict)

    async def find(self, wanted: Wanted, after: bytes, limit: int) -> Found:
        """At least the first `limit` letters behind a key, if so many are within reach. Raises BadExpression."""
        whole = Found()
        now = self.clock()
        for partition in self._open():
            found = await self._find_in(partition, wanted, max(after, LETTERS), limit, now)
            whole.letters += found.letters
            whole.looked_at += found.looked_at
            if found.upto is not None:
                whole.upto = found.upto if whole.upto is None else min(whole.upto, found.upto)
        return bounded(whole, limit)

    async def group(self, wanted: Wanted) -> tuple[list[Json], bool]:
        """Causes with how many letters have them, and whether every letter was looked at. Raises BadExpression."""
        groups: dict[str, Json] = {}
        whole = True
        now = self.clock()
        for partition in self._open():
            looked_at = 0
            async for _, row in self._scan(partition, LETTERS):
                looked_at += 1
                if wanted.takes(row, now):
                    if row["cause"] in groups or len(groups) < MOST_GROUPS:
                        merge(groups, group_of(row))
                    else:
                        whole = False
                if looked_at == MOST_GROUPED:
                    whole = False
                    break
        return list(groups.values()), whole

    def letter(self, tenant: str, task: str, kind: str | None) -> Letter | None:
        """One letter by its task, the first there is of these: the task's own, a callback's, a refused event's."""
        partitions = self._open()
        for one in KINDS if kind is None else (kind,):
            whose = "" if one == UNREADABLE else tenant
            at = partitions if one == UNREADABLE else [partition_of(task_key(tenant, task), self.partitions)]
            key = letter_key(one, whose, task)
            for partition in at:
                if partition not in partitions:
                    raise Unavailable("this gateway does not own the task's partition just now")
                shelf = self._shelf(partition)
                if (row := shelf.read(key)) is not None:
                    return Letter(key, partition, row, shelf.event(key))
        return None

    async def command(self, letter: Letter, command: Command, wait_seconds: float) -> Json | None:
        """Hand a decision in and wait until it is carried out or refused.

        Gives the line of the audit that says so; None if the time was over before.
        """
        now = self.clock()
        if letter.row["letter"] == UNREADABLE:
            await self.send(to_partition(command, letter.partition, self.partitions, now))
        else:
            await self.send(to_task(command, letter.row, now))
        end = time.monotonic() + wait_seconds
        while time.monotonic() < end:
            row = self._shelf(letter.partition).read(letter.key)
            if row is not None and (done := done_by(row, command.id)) is not None:
                return done
            await asyncio.sleep(LOOK_SECONDS)
        return None

    async def all_partitions(self, command: Command) -> None:
        """Hand in what is decided about a job, to each partition. What was handed in before may be so again."""
        now = self.clock()
        events = [to_partition(command, one, self.partitions, now) for one in range(self.partitions)]
        await asyncio.gather(*(self.send(event) for event in events))
        if (part := part_of(None, command, self.clock())) is not None:
            self._begun[part["job"]] = part | {"state": ACCEPTED}
            while len(self._begun) > MOST_JOBS:
                self._begun.popitem(last=False)

    def accepted(self, job: Job) -> Json | None:
        """A job that this gateway has put on the log, as a part of it will begin; None for one that is not so new."""
        part = self._begun.get(job.id)
        return part if part is not None and part["created"] > self.clock() - ACCEPTED_SECONDS else None

    def jobs(self) -> list[Json]:
        """The parts of the jobs in these partitions, each with its partition."""
        return [
            part | {"partition": partition}
            for partition in self._open()
            for _, part in self._shelf(partition).scan(JOBS, b"", MOST_JOBS)
        ]

    def job(self, job: Job) -> list[Json]:
        """The parts of one job."""
        parts = ((partition, self._shelf(partition).read(job_key(job.id))) for partition in self._open())
        return [part | {"partition": partition} for partition, part in parts if part is not None]

    def _open(self) -> list[int]:
        partitions = self.rows.open_partitions()
        if not partitions:
            raise Unavailable("the group is sharing out its partitions, or tables are being recovered")
        return partitions

    def _shelf(self, partition: int) -> Shelf:
        return Shelf(self.rows, self.rows.claim(partition))

    async def _scan(self, partition: int, after: bytes) -> AsyncIterator[tuple[bytes, Json]]:
        """Every letter of a partition behind a key; others get a turn between batches, and it may go meanwhile."""
        while partition in self.rows.open_partitions():
            batch = list(self.rows.scan(partition, after, SCANNED_IN_A_ROW))
            for key, raw in batch:
                if not key.startswith(LETTERS):
                    return
                yield key, strict_json.unpack(raw)
            if len(batch) < SCANNED_IN_A_ROW:
                return
            after = batch[-1][0]
            await asyncio.sleep(0)
        raise Unavailable("the group is sharing out its partitions")

    async def _find_in(self, partition: int, wanted: Wanted, after: bytes, limit: int, now: float) -> Found:
        found = Found()
        async for key, row in self._scan(partition, after):
            found.looked_at += 1
            if wanted.takes(row, now):
                found.letters.append((key, row))
            if found.looked_at >= MOST_SCANNED or len(found.letters) >= limit:
                found.upto = key
                break
        return found


def bounded(found: Found, limit: int) -> Found:
    """At most `limit` letters, in order, without those beyond what all partitions were looked through to."""
    letters = sorted(found.letters, key=lambda letter: letter[0])
    if found.upto is not None:
        letters = [letter for letter in letters if letter[0] <= found.upto]
    if len(letters) > limit:
        return Found(letters[:limit], letters[limit - 1][0], found.looked_at)
    return Found(letters, found.upto, found.looked_at)


def group_of(row: Json) -> Json:
    """A group of one letter."""
    return {
        "cause": row["cause"],
        "step": row["step"],
        "kind": row["kind"],
        "letters": 1,
        "first": row["died"],
        "last": row["died"],
        "example": summary(row),
    }


def merge(groups: dict[str, Json], group: Json) -> None:
    """Take a group into those that are there."""
    known = groups.get(group["cause"])
    if known is None:
        groups[group["cause"]] = dict(group)
        return
    known["letters"] += group["letters"]
    known["first"] = min(known["first"], group["first"])
    known["last"] = max(known["last"], group["last"])


def whole_job(parts: list[Json], partitions: int) -> Json:
    """A job from its parts: it is done when all are. Parts that no gateway tells of are `missing`."""
    first = parts[0]
    states = {part["state"] for part in parts}
    state = next((one for one in ("running", "paused", "cancelled", ACCEPTED) if one in states), "done")
    told: Json = {name: first[name] for name in ("job", "where", "rate", "by", "reason", "from_step", "ask_again")}
    counted = [part["matched"] for part in parts if part["matched"] is not None]
    told |= {"does": first.get("does", "redrive"), "tasks": len(first.get("tasks", ())), "patch": first.get("patch")}
    refusals = [one for part in parts for one in part.get("refusals", ())]
    return told | {
        "left": sum(part.get("left", 0) for part in parts),
        "refusals": refusals[:MOST_REFUSALS],
        "state": "running" if len(parts) < partitions and state == "done" else state,
        "created": min(part["created"] for part in parts),
        "changed": max(part["changed"] for part in parts),
        "matched": sum(counted) if len(counted) == len(parts) else None,
        "sent": sum(part["sent"] for part in parts),
        "looked_at": sum(part["looked_at"] for part in parts),
        "refused": next((part["refused"] for part in parts if "refused" in part), None),
        "missing": partitions - len(parts),
    }
