"""Replays: recorded inputs are found on the topics and started as new tasks, each once however often this is run.

Partition by partition, twice: first the attributes of every record since the beginning are looked at, for tasks that
this very replay has started already; then the recorded inputs are read and what is not there yet is started. A task
and its replay are in one partition of one service's topics, so what is remembered is of one partition at a time.
"""

import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from callstream.streams import topics as names
from callstream.streams.blobs import BlobMissing, BlobStore, BlobTooLarge, check_out
from callstream.streams.chain import UnknownChain
from callstream.streams.event import Event
from callstream.streams.expressions import Expression, NotEvaluated
from callstream.streams.foreseen import Foreseen
from callstream.streams.keys import partition_of, task_key
from callstream.streams.replay.lineage import Manner, begin, child_of, named
from callstream.streams.replay.recorded import Reach, Span, Topics
from callstream.streams.replay.selection import Selection, gone, never_reached
from callstream.streams.replay.sending import Outlet
from callstream.streams.replay.where import values_of
from callstream.streams.topics import topic_of
from callstream.streams.wire import BadEvent, EventTooLarge, decode

MOST_REMEMBERED = 1_000_000
"""Tasks of one partition that are told apart; each takes some 100 bytes."""
MOST_EXAMPLES = 5


class CannotReplay(Foreseen):
    """Nothing is started; the message says what was asked, why it cannot be done, and what can."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which tasks: one, or those of a chain whose input was recorded in [since, until) and of which `where` holds."""

    selection: Selection
    task: str | None = None
    since: float | None = None
    until: float | None = None
    where: Expression | None = None

    def name(self, manner: Manner) -> str:
        """The replay's name: for one task it follows from the manner alone, by whichever door it comes."""
        if self.task is not None:
            return named(manner)
        chosen = self.selection
        rule = self.where.text if self.where is not None else None
        told = {"since": self.since, "until": self.until, "where": rule}
        return named(manner, chain=chosen.chain, tenant=chosen.tenant, **told)


@dataclass
class Summary:
    """What a replay did. `examples` are reasons of refused tasks, the first few."""

    found: int = 0
    started: int = 0
    already: int = 0
    refused: int = 0
    examples: list[str] = field(default_factory=list)
    children: list[str] = field(default_factory=list)

    def refuse(self, task: str, why: str) -> None:
        """Count a task that cannot be replayed."""
        self.refused += 1
        if len(self.examples) < MOST_EXAMPLES:
            self.examples.append(f"{task}: {why}")

    def begun(self, child: str, already: bool) -> None:
        """Count a task that was started, now or before."""
        self.already += already
        self.started += not already
        if len(self.children) < MOST_EXAMPLES:
            self.children.append(child)


Told = Callable[[int, int, Summary], None]
"""Hears how many records of how many were read."""


class Replay:
    """One replay over open topics. `clock` gives epoch seconds."""

    def __init__(
        self, topics: Topics, blobs: BlobStore, wanted: Wanted, manner: Manner, clock: Callable[[], float]
    ) -> None:
        self._topics = topics
        self._blobs = blobs
        self._wanted = wanted
        self._manner = manner
        self._clock = clock
        self._name = wanted.name(manner)
        self._read = self._all = 0
        self.summary = Summary()

    async def run(self, outlet: Outlet, told: Told) -> Summary:
        """Start what is found. Raises CannotReplay, TopicsUnreadable, BlobError, UnknownStep, UnknownChain."""
        sources = self._wanted.selection.topics()
        self._partitions = await self._topics.partitions(sources[0])
        spans = await self._spans(sources)
        # Looked at twice, and where a rule asks for states, their topic once.
        self._all = sum(2 * (span.end - span.start) for span in spans)
        for partition in sorted({span.partition for span in spans}):
            mine = [span for span in spans if span.partition == partition]
            begun = await self._begun(mine, told)
            states = await self._states(partition)
            await self._start(mine, begun, states, (outlet, told))
        await outlet.flush()
        if self._wanted.task is not None and not self.summary.found and not self.summary.refused:
            raise CannotReplay(await self._missing(sources))
        return self.summary

    async def _spans(self, sources: tuple[str, ...]) -> list[Span]:
        """The parts of the topics to be read. Raises CannotReplay for a range that was swept."""
        wanted, partition = self._wanted, None
        if wanted.task is not None:
            partition = partition_of(task_key(wanted.selection.tenant or "", wanted.task), self._partitions)
        elif wanted.since is not None:
            for reach in await self._topics.reach(sources):
                if reach.misses(wanted.since):
                    raise CannotReplay(swept(f"records since {moment(wanted.since)}", reach))
        return [span for topic in sources for span in await self._topics.spans(topic, wanted.since, partition)]

    async def _records(self, span: Span, told: Told) -> AsyncIterator[Any]:
        async for records in self._topics.read(span):
            for record in records:
                yield record
            self._read = min(self._all, self._read + len(records))
            told(self._read, self._all, self.summary)

    async def _begun(self, spans: list[Span], told: Told) -> set[bytes]:
        """The tasks that this replay has started already, by a hash of their ids."""
        begun: set[bytes] = set()
        for span in spans:
            async for record in self._records(span, told):
                told_of = dict(record.headers)
                parent = (told_of.get("ce_parent") or b"").decode("utf-8", "replace")
                tenant = (told_of.get("ce_tenant") or b"").decode("utf-8", "replace")
                task = (told_of.get("ce_subject") or b"").decode("utf-8", "replace")
                if parent and child_of(tenant, parent, self._name, self._partitions) == task:
                    remember(begun, tenant, task)
        return begun

    async def _states(self, partition: int) -> dict[bytes, str]:
        """How the tasks of a partition ended, if the rule asks for it."""
        if self._wanted.where is None or not self._wanted.where.needs("state"):
            return {}
        states: dict[bytes, str] = {}
        for span in await self._topics.spans(topic_of(names.FINISHED), self._wanted.since, partition):
            async for records in self._topics.read(span):
                for record in records:
                    kind = dict(record.headers).get("ce_type") or b""
                    states[mark(record.key or b"")] = kind.decode("utf-8", "replace").rpartition(".")[2]
                _bounded(states)
        return states

    async def _start(
        self, spans: list[Span], begun: set[bytes], states: dict[bytes, str], way: tuple[Outlet, Told]
    ) -> None:
        outlet, told = way
        done: set[bytes] = set()
        only = self._wanted.task
        latest: tuple[Event, str] | None = None
        for span in spans:
            async for record in self._records(span, told):
                event = await self._input(record, done)
                if event is None or not self._holds(event, states):
                    continue
                if only is not None:
                    # Of several the last counts: one that was put right and sent again.
                    latest = (event, record.topic)
                    continue
                remember(done, event.tenant, event.task)
                await self._begin(event, record.topic, begun, outlet)
        if latest is not None:
            await self._begin(*latest, begun, outlet)

    async def _input(self, record: Any, done: set[bytes]) -> Event | None:
        """The recorded input that a record is, if it is one that is wanted and not done."""
        wanted = self._wanted
        if not self._in_time(record.timestamp / 1000) or not wanted.selection.may_be(record.headers):
            return None
        if wanted.task is not None:
            if record.key != task_key(wanted.selection.tenant or "", wanted.task):
                return None
        elif mark(record.key or b"") in done or any(name == "ce_parent" for name, _ in record.headers):
            return None
        try:
            event = decode(await check_out(record.value, record.headers, self._blobs), record.headers)
            return event if wanted.selection.is_input(event) else None
        except UnknownChain as error:
            self._refuse(record, done, gone(error))
        except BlobMissing as error:
            self._refuse(record, done, f"its body was a claim check, and {error}")
        except (BadEvent, BlobTooLarge) as error:
            self._refuse(record, done, str(error))
        return None

    def _refuse(self, record: Any, done: set[bytes], why: str) -> None:
        task = (dict(record.headers).get("ce_subject") or b"?").decode("utf-8", "replace")
        done.add(mark(record.key or b""))
        _bounded(done)
        self.summary.refuse(task, why)

    def _in_time(self, when: float) -> bool:
        since, until = self._wanted.since, self._wanted.until
        return (since is None or when >= since) and (until is None or when < until)

    def _holds(self, event: Event, states: dict[bytes, str]) -> bool:
        if self._wanted.where is None:
            return True
        try:
            return self._wanted.where.holds(values_of(event, states.get(mark(event.key), "running")))
        except NotEvaluated as error:
            self.summary.refuse(event.task, f"--where: {error}")
            return False

    async def _begin(self, event: Event, topic: str, begun: set[bytes], outlet: Outlet) -> None:
        self.summary.found += 1
        child = child_of(event.tenant, event.task, self._name, self._partitions)
        already = mark(task_key(event.tenant, child)) in begun
        if not already:
            try:
                await outlet.send(begin(event, self._manner, child, self._clock()), topic)
            except EventTooLarge as error:
                self.summary.refuse(event.task, str(error))
                return
        self.summary.begun(child, already)

    async def _missing(self, sources: tuple[str, ...]) -> str:
        """Why a task has no recorded input, from what else the topics say of it."""
        wanted = self._wanted
        task, step = wanted.task or "", wanted.selection.step
        key = task_key(wanted.selection.tenant or "", task)
        partition = partition_of(key, self._partitions)
        ended = await self._last(names.FINISHED, partition, key)
        reach = next((one for one in await self._topics.reach(sources) if one.complete_since is not None), None)
        if ended is not None:
            own = ended.body.trail[ended.inherited :]
            if ended.parent is not None and step not in [hop.step for hop in own]:
                taken = [hop.step for hop in ended.body.trail[: ended.inherited]]
                if step in taken:
                    return f"task {task!r} began behind step {step!r}, as a replay of {ended.parent!r}: replay that one"
            if step not in [hop.step for hop in own]:
                return never_reached(task, step, [hop.step for hop in ended.body.trail], str(ended.body.end))
        elif await self._last(names.INTAKE, partition, key) is not None and reach is None:
            return never_reached(task, step, None, None)
        if reach is not None:
            return swept(f"the input of step {step!r} of task {task!r}", reach)
        asked = f" since {moment(wanted.since)}" if wanted.since is not None else ""
        whose = f"of tenant {wanted.selection.tenant!r} " if wanted.selection.tenant else ""
        return f"no task {task!r} {whose}is on the topics{asked}; nothing was started"

    async def _last(self, name: str, partition: int, key: bytes) -> Event | None:
        """The last event of a task on a topic."""
        found = None
        for span in await self._topics.spans(topic_of(name), None, partition):
            async for records in self._topics.read(span):
                for record in records:
                    if record.key == key:
                        try:
                            found = decode(await check_out(record.value, record.headers, self._blobs), record.headers)
                        except (BadEvent, BlobMissing, BlobTooLarge):
                            continue
        return found


def swept(asked: str, reach: Reach) -> str:
    """That something was asked for which is not there any more."""
    kept = f"{reach.retention_seconds / 3600:g} h" if reach.retention_seconds is not None else "no set time"
    since = reach.complete_since
    there = f"has records since {moment(since)} only" if since is not None and reach.records else "has no records left"
    return f"{asked}: not there any more; {reach.topic} {there} (kept for {kept}), so nothing was started"


def moment(seconds: float) -> str:
    """A time as it may be given back to `--since`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def mark(key: bytes) -> bytes:
    """A task's key in a few bytes."""
    return hashlib.blake2b(key, digest_size=8).digest()


def remember(marks: set[bytes], tenant: str, task: str) -> None:
    """Add a task to those of a partition. Raises CannotReplay when they are too many to be told apart."""
    marks.add(mark(task_key(tenant, task)))
    _bounded(marks)


def _bounded(kept: set[bytes] | dict[bytes, str]) -> None:
    if len(kept) > MOST_REMEMBERED:
        raise CannotReplay(
            f"more than {MOST_REMEMBERED:,} tasks of one partition: replay less at a time, with --since and --until"
        )
