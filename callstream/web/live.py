"""The real port: the gateway's tables, the log and the blob store behind the web."""

import asyncio
import json
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping

from callstream.agents.alarms.board import Board
from callstream.agents.control.commands import AnyCommand, record_of
from callstream.agents.control.controls import Controls
from callstream.agents.control.room import ControlRoom
from callstream.agents.inference.admission.report import Reports, budgets_in, used_up
from callstream.agents.review import Command, Verdict, command_event, refusal, said_in
from callstream.agents.schedules.directory import Directory
from callstream.streams import strict_json, topics
from callstream.streams.blobs import BlobError, BlobStore, BlobTooLarge, check_in
from callstream.streams.engine import ServiceApp
from callstream.streams.event import Event, Json
from callstream.streams.keys import partition_of, task_key
from callstream.streams.replay.lineage import Manner, begin, child_of, named
from callstream.streams.strict_json import BadJson
from callstream.streams.topics import topic_of
from callstream.streams.tracing import Tracing
from callstream.streams.wire import MAX_RECORD_BYTES, LogUnavailable, Record, encode
from callstream.tables.durable import DurableTable, Readable
from callstream.tables.journal import Journal
from callstream.tables.latency import Window, WindowKey, merged
from callstream.tables.profiles import profile_key
from callstream.tables.rows import Rows
from callstream.web.census import count_unfinished
from callstream.web.held import held_event, shown_to_all
from callstream.web.hub import Hub, Update
from callstream.web.letters import LetterBox
from callstream.web.port import (
    Health,
    LatencyWindow,
    NotHeld,
    Page,
    PageRequest,
    PartitionInfo,
    Row,
    TableInfo,
    Unavailable,
    UnknownTable,
    UsageQuery,
    VerdictRefused,
)
from callstream.web.port import Window as WindowName
from callstream.web.replays import Recorded
from callstream.web.usage_rows import usage_of
from callstream.web.waiting import Query, Waiting

PROFILES_TOPIC = topics.changelog_of("prepare", topics.PROFILES)

log = logging.getLogger("callstream.web")

WINDOW_SECONDS = {"1m": 60, "10m": 600, "1h": 3_600}
MOST_SCANNED = 20_000
SHOWN_DEPTH = 128
MOST_REPLAYED = 10_000
CONFIRM_SECONDS = 8.0
"""How long a client waits for the broker: shorter than most clients do, so that they are told why."""
SILENT_SECONDS = 5.0
"""When a record has waited for so long no more is handed to the producer: it would be sent with all its repeats."""


class LivePort:
    """What the web asks of one gateway. `journal`, `letters`, `recorded`, `room` and `usage_rows` are set by
    whoever builds them, as is `pools_set`, which gives the pools of the settings, and the model of each endpoint there.

    `shown` are the tables of this process for people to look at, by name, each with its service; `queue_of` gives the
    pool that a step calls (of a chain, its version and the step's number), None if it calls none.
    """

    journal: Journal
    room: ControlRoom
    letters: LetterBox
    recorded: Recorded
    usage_rows: Rows

    def __init__(
        self, app: ServiceApp, tasks: DurableTable, latency: DurableTable, blobs: BlobStore, tracing: Tracing
    ) -> None:
        self._app = app
        self._tasks = tasks
        self._latency = latency
        self._blobs = blobs
        self._tracing = tracing
        self._hub = Hub(epoch=secrets.token_hex(4))
        self.shown: dict[str, tuple[Readable, str]] = {}
        self.queue_of: Callable[[str, int, int], str | None] = lambda _chain, _version, _sequence: None
        self.pools_set: Callable[[], Mapping[str, Mapping[str, str]]] = dict
        self._reports = Reports()
        self.schedules = Directory()
        self.alarms = Board()
        self._replayed: OrderedDict[bytes, None] = OrderedDict()
        self.waiting_for_people = Waiting(tasks, self._owned, lambda *at: self.journal.row(*at), app.partitions)

    @property
    def updates(self) -> Hub:
        """Where each change of a row is published."""
        return self._hub

    def changed(self, row: Json) -> None:
        """A row is on the log: tell whoever listens."""
        self.waiting_for_people.changed(row)
        self._hub.publish(Update(row["tenant"], row["id"], row["chain"], row["state"], row["sequence"], public(row)))

    def hear(self, replica: str, raw: bytes) -> None:
        """A replica tells of its gates."""
        try:
            report = strict_json.loads(raw, MAX_RECORD_BYTES)
        except BadJson as error:
            log.warning("the report of replica %s is ignored: %s", replica[:100], error)
            return
        self._reports.hear(replica[:200], report, time.monotonic())

    def pools(self) -> Json:
        """What each replica told last of its pools."""
        alive = self._reports.alive(time.monotonic())
        return {replica: report["pools"] for replica, report in alive.items() if not report.get("sinks")}

    @property
    def controls(self) -> Controls:
        """The commands in force."""
        return self.room.controls

    async def command(self, command: AnyCommand) -> None:
        """Hand a command to every worker; returns once the log has it and this one has heard it. Raises Unavailable."""
        await self._produce(record_of(command))
        await self.room.heard(command)

    def pool_models(self) -> dict[str, dict[str, str]]:
        """The pools of this worker's settings, and those that replicas tell of."""
        found = {pool: dict(models) for pool, models in self.pools_set().items()}
        for pool in (pool for pools in self.pools().values() for pool in pools if isinstance(pool, dict)):
            there = {one["endpoint"]: one["model"] for one in pool.get("endpoints", ())}
            found[pool["pool"]] = {**there, **found.get(pool["pool"], {})}
        return found

    def waiting(self, tenant: str, task: str) -> Json | None:
        """Why a task's call waits."""
        now = time.monotonic()
        if (why := self._reports.why(tenant, task, now)) is not None:
            return why
        try:
            row = self._row(tenant, task)
        except Unavailable:
            return None
        pool = self.queue_of(row["chain"], row["version"], row["sequence"]) if row is not None else None
        if row is None or pool is None or (aside := self._reports.aside(tenant, pool, row["priority"], now)) is None:
            return None
        return aside | used_up(self._reports.alive(now), tenant, row["chain"])

    def calling(self, tenant: str, task: str) -> Json | None:
        """Which endpoint has a task's call."""
        return self._reports.calling(tenant, task, time.monotonic())

    def begin_trace(self, incoming: str | None) -> str | None:
        """The traceparent of the span that a submission begins."""
        with self._tracing.span("submit", incoming) as span:
            return span.traceparent

    def owner(self, key: bytes) -> str | None:
        """Base URL of the gateway that owns a key, None if it is this one or nobody can tell."""
        partition = partition_of(key, self._app.partitions)
        if partition in self._app.ownership.owned:
            return None
        # Not the router's own look-up by key: it needs the producer's metadata, and a new worker has none yet.
        for url, topics_held in self._app.router.table_metadata(self._tasks.name).items():
            if any(partition in partitions for partitions in topics_held.values()):
                return None if _base(url) == str(self._app.conf.canonical_url).rstrip("/") else _base(url)
        return None

    def peers(self) -> tuple[str, ...]:
        """Base URLs of all other gateways."""
        me = str(self._app.conf.canonical_url).rstrip("/")
        return tuple(url for url in map(_base, self._app.router.table_metadata(self._tasks.name)) if url != me)

    async def submit(self, event: Event) -> None:
        """Hand a new task to intake; returns once the log has it. Raises Unavailable, EventTooLarge."""
        await self._produce(encode(event, topic_of(topics.INTAKE)))

    async def command_schedule(self, event: Event) -> None:
        """Hand in a command to a schedule; returns once the log has it. Raises Unavailable, EventTooLarge."""
        await self._produce(encode(event, topic_of(topics.SCHEDULES)))

    async def task(self, tenant: str, task: str) -> Json | None:
        """The row of a task that this gateway owns. Raises Unavailable."""
        row = self._row(tenant, task)
        return public(row) if row is not None else None

    async def review(self, tenant: str, task: str) -> Json | None:
        """The whole row of a task that this gateway owns. Raises Unavailable."""
        return self._row(tenant, task)

    async def reviews(self, tenant: str, query: Query) -> tuple[list[Json], bool]:
        """The whole rows of held tasks of a tenant here, in order, and whether that is all. Raises Unavailable."""
        return await self.waiting_for_people.page(tenant, query)

    async def unfinished(self, tenant: str | None) -> tuple[Mapping[tuple[str, int], int], bool]:
        """Tasks on this gateway that have not ended, by chain and version. Raises Unavailable."""
        prefix = b"" if tenant is None else task_key(tenant, "")
        return await count_unfinished(self._tasks, self._owned, prefix, self.journal.unwritten())

    async def say(self, tenant: str, task: str, command: Command) -> str:
        """Hand what is said about a held task to review. Raises Unavailable, NotHeld, VerdictRefused."""
        row = self._row(tenant, task)
        if row is None or row["state"] != "held":
            raise NotHeld(f"its state is {row['state']}" if row else "no such task is known")
        held = held_event(row)
        if isinstance(command, Verdict) and (wrong := refusal(held, command)):
            raise VerdictRefused(wrong)
        event = command_event(held, command, time.time())
        await self._produce(encode(event, topic_of(topics.VERDICTS)))
        return said_in(event).mark

    async def replay(self, row: Json, manner: Manner) -> tuple[str, bool]:
        """Start a replay of a task, unless it is there. Raises Unavailable, NotRecorded, EventTooLarge."""
        tenant, child = row["tenant"], child_of(row["tenant"], row["id"], named(manner), self._app.partitions)
        key = task_key(tenant, child)
        async with self.recorded.turns.turn(key):
            if key in self._replayed or self._row(tenant, child) is not None:
                return child, True
            event, topic = await self.recorded.find(row, manner.step)
            await self._produce(encode(begin(event, manner, child, time.time()), topic))
            # The table has its row a moment later.
            self._replayed[key] = None
            if len(self._replayed) > MOST_REPLAYED:
                self._replayed.popitem(last=False)
            return child, False

    async def put_blob(self, data: bytes) -> str:
        """Keep bytes for a later submission and give their reference. Raises Unavailable, BlobTooLarge."""
        try:
            return await self._blobs.put(data)
        except BlobTooLarge:
            raise
        except BlobError as error:
            raise Unavailable(str(error)) from None

    def health(self) -> Health:
        """Live while the app has not failed; ready when it owns partitions and their rows are recovered."""
        reasons = []
        if self._app.failure is not None:
            return Health(False, False, (f"{type(self._app.failure).__name__}: {self._app.failure}",))
        if not self._app.ownership.owned:
            reasons.append("the group has given this gateway no partitions yet")
        if self._app.rebalancing:
            reasons.append("the group is sharing out its partitions")
        elif self._app.in_recovery:
            reasons.append("tables are being recovered from their changelogs")
        return Health(True, not reasons, tuple(reasons))

    async def tables(self) -> tuple[TableInfo, ...]:
        """Every table of this process, with the partitions that it has."""
        return tuple(_info(name, table, service) for name, (table, service) in self.shown.items())

    async def rows(self, table: str, request: PageRequest) -> Page:
        """One page of rows. Raises UnknownTable."""
        source = self._open(table, request.partition)
        rows: list[Row] = []
        start = max(request.after or b"", request.prefix)
        include_start = request.after is None or request.prefix > request.after
        if include_start and request.prefix and (raw := source.read(request.partition, request.prefix)) is not None:
            rows.append(Row(request.prefix, _members(raw)))
        for key, value in source.scan(request.partition, start, request.limit + 1):
            if not key.startswith(request.prefix):
                break
            rows.append(Row(key, _members(value)))
        return Page(tuple(rows[: request.limit]), len(rows) > request.limit)

    async def row(self, table: str, partition: int, key: bytes) -> Json | None:
        """One row. Raises UnknownTable."""
        raw = self._open(table, partition).read(partition, key)
        return None if raw is None else _members(raw)

    async def latency(self, window: WindowName) -> list[LatencyWindow]:
        """Every window of that size still kept."""
        size = WINDOW_SECONDS[window]
        prefix = f"{size:05d}|".encode()
        rows = (
            (key, json.loads(value))
            for partition in sorted(self._owned())
            for key, value in self._scan(self._latency, partition, prefix)
        )
        now = time.time()
        return [_latency(key, one, now) for key, one in merged(rows).items()]

    async def usage(self, query: UsageQuery) -> list[Json]:
        """Sums by what was asked for."""
        return await usage_of(self.usage_rows, sorted(self._owned()), query)

    def budgets(self) -> list[Json]:
        """Each budget over all replicas, as they told last."""
        return budgets_in(self._reports.alive(time.monotonic()))

    def sends(self, topic: str) -> Callable[[Event], Awaitable[None]]:
        """What sends events to a topic, by its short name, and returns once the log has them. Raises Unavailable."""

        async def send(event: Event) -> None:
            await self._produce(encode(event, topic_of(topic)))

        return send

    async def put_profile(self, tenant: str, user: str, profile: Json | None) -> None:
        """Have that known about a user, or with None nothing; returns once the log has it. Raises Unavailable."""
        key = profile_key(tenant, user)
        value = None if profile is None else strict_json.dumps(profile)
        partition = partition_of(key, self._app.partitions)

        async def send() -> None:
            sent = await self._app.enqueue(PROFILES_TOPIC, partition, key, value)
            await self._app.delivered(sent, f"topic {PROFILES_TOPIC}")

        await self._confirmed(send)

    async def _produce(self, record: Record) -> None:
        async def send() -> None:
            await self._app.produce(await check_in(record, self._blobs))

        await self._confirmed(send)

    async def _confirmed(self, send: Callable[[], Awaitable[None]]) -> None:
        silent = self._app.unconfirmed_seconds()
        if silent > SILENT_SECONDS:
            raise Unavailable(f"the broker has not confirmed anything for {silent:.0f} s; nothing was sent")
        try:
            async with asyncio.timeout(CONFIRM_SECONDS):
                await send()
        except (LogUnavailable, BlobError) as error:
            raise Unavailable(str(error)) from None
        except TimeoutError:
            unsure = "it may get there yet: send the same again, with the same id or Idempotency-Key"
            raise Unavailable(f"the broker did not confirm it within {CONFIRM_SECONDS:g} s; {unsure}") from None

    def _row(self, tenant: str, task: str) -> Json | None:
        key = task_key(tenant, task)
        partition = partition_of(key, self._app.partitions)
        if partition not in self._owned():
            raise Unavailable("this gateway does not own the task's partition; the group is sharing out partitions")
        return self.journal.row(partition, key)

    def _owned(self) -> frozenset[int]:
        if self._app.rebalancing or self._app.in_recovery or not self._app.ownership.owned:
            raise Unavailable("; ".join(self.health().reasons) or "the gateway is starting")
        return self._app.ownership.owned

    def _scan(self, table: DurableTable, partition: int, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Every row with a prefix, at most `MOST_SCANNED`."""
        for key, value in table.scan(partition, prefix, MOST_SCANNED):
            if not key.startswith(prefix):
                return
            yield key, value

    def _open(self, name: str, partition: int) -> Readable:
        if name not in self.shown or partition not in self.shown[name][0].open_partitions():
            raise UnknownTable(f"no partition {partition} of a table {name!r} is here")
        return self.shown[name][0]


def public(row: Json) -> Json:
    """A task's row as clients see it."""
    shown = shown_to_all(row)
    if subtasks := row.get("subtasks"):
        counts = {member: int(subtasks[member], 16).bit_count() for member in ("done", "failed")}
        shown["subtasks"] = {"of": subtasks["of"], **counts}
    return shown


def _info(name: str, table: Readable, service: str) -> TableInfo:
    parts = []
    for partition in table.open_partitions():
        keys, size, offset = table.size(partition)
        parts.append(PartitionInfo(partition, keys, size, offset))
    return TableInfo(name, service, tuple(parts))


def _members(raw: bytes) -> Json:
    """A row as JSON. Who puts a profile onto its topic may have put anything there."""
    try:
        value = strict_json.loads(raw, len(raw), SHOWN_DEPTH)
    except strict_json.BadJson as error:
        return {"unreadable": str(error)}
    return value if isinstance(value, dict) else {"unreadable": f"{type(value).__name__}, not an object"}


def _latency(key: WindowKey, window: Window, now: float) -> LatencyWindow:
    lasted = min(float(key.size), max(now - key.start, 1.0))
    return LatencyWindow(
        step=key.step,
        model=key.model,
        start=float(key.start),
        size_seconds=float(key.size),
        count=window.count,
        errors=window.errors,
        p50=window.quantile(0.5),
        p95=window.quantile(0.95),
        p99=window.quantile(0.99),
        rate=window.count / lasted,
    )


def _base(url: object) -> str:
    text = str(url)
    return (text if "://" in text else f"http://{text}").rstrip("/")
