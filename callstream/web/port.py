"""What the web needs from the engine behind it. The real port stands over Kafka and tables; `fake.py` in memory.

A row of a task, as `GatewayPort.task` gives it and clients see it:

    {tenant, id, chain, version, digest, run, state, priority, created, updated, deadline, run_at,
     steps: [{step, service, started, ended, seconds, attempts, model, tokens_in, tokens_out, notes, cost?, spends?}],
     tokens: {in, out, cached}, cost: {currency: amount}, estimated?: {currency: amount},
     next: {step, service} | null, result, failure: {kind, message, step} | null, held: text | null,
     callback: {url, state, attempts} | null, parent: id | null, inherited, sandbox,
     missing: {chain, version, service, since} | null, subtasks: {of, done, failed} | null}

Amounts of money are decimals as texts; `estimated` is the part of `cost` that is reckoned and not known.
A task that replays another has that one as `parent`; the first `inherited` of its `steps` are the parent's.
A sub-task has the task that made it as `parent`.
`missing` is there while the task's next step waits on a service whose worker does not have that version of its chain.

While its model call waits, clients see `waiting` beside these: {pool, reason, waits_for, lane, tokens, calls_before,
tokens_before, waited_seconds, estimate_seconds, estimate_within_seconds, replica}; before that, while its tenant has
enough waiting and the task is put aside: {pool, reason, waits_for, lane, put_aside, replica}; while a budget of its
tenant or chain is used up also `resets`, epoch seconds, and the reason "budget". While its call is in flight they see
`calling`: {pool, endpoint, lane, since, seconds, replica}. While the timer has it, `waiting` is
{reason: "scheduled", until}, or {reason: "retry", until, attempts, failure: {kind, message, step}}. While the store
is away that its step writes to: {reason: "away", waits_for, sink, waited_seconds, replica}. While something of
it is paused: {reason: "paused", waits_for, paused: {scope, since, by, reason}}. A task that was cancelled and has not
ended has `cancel`: {at, by, reason}.

`state` is one of accepted, running, held, finished, rejected, failed, cancelled; times are epoch seconds, UTC.
`run` is 0 until a failed task is taken up again: its row then goes on, in a later run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from callstream.agents.alarms.board import Board
from callstream.agents.control.commands import AnyCommand
from callstream.agents.control.controls import Controls
from callstream.agents.review import Command
from callstream.agents.schedules.directory import Directory
from callstream.streams.event import Event, Json
from callstream.streams.replay.lineage import Manner
from callstream.web.errors import Unavailable as Unavailable
from callstream.web.hub import Hub
from callstream.web.letters import LetterBox
from callstream.web.waiting import Query

Window = Literal["1m", "10m", "1h"]


class UnknownTable(LookupError):
    """No table of that name, or not that partition of it, is on this worker."""


class NotHeld(Exception):
    """The task waits for no verdict, or not any more; the message says how it is."""


class NotRecorded(LookupError):
    """The recorded input that was asked for is not there; the message says since when there are some."""


class VerdictRefused(ValueError):
    """The verdict cannot be carried out on that task: it edits what is not there. The message says what is."""


@dataclass(frozen=True, slots=True)
class Health:
    """`live`: the process is worth keeping. `ready`: it can serve now. `reasons` says why one of them is not so."""

    live: bool
    ready: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PartitionInfo:
    """One partition of a table. `owner` is the base URL of the worker that has it, None for this one.

    `keys` is approximate; `offset` is the last changelog offset applied. All None where this worker cannot know.
    """

    partition: int
    keys: int | None
    size_bytes: int | None
    offset: int | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class TableInfo:
    """One table of one service, with its partitions in order."""

    name: str
    service: str
    partitions: tuple[PartitionInfo, ...]
    description: str = ""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which rows of one partition: at most `limit`, those after a key in the order of keys, with a prefix."""

    partition: int
    after: bytes | None = None
    limit: int = 50
    prefix: bytes = b""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table."""

    key: bytes
    value: Json


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in the order of their keys, and whether more follow the last one."""

    rows: tuple[Row, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class LatencyWindow:
    """One window of one step and model. `start` is epoch seconds, p50…p99 seconds, `rate` finished calls a second."""

    step: str
    model: str
    start: float
    size_seconds: float
    count: int
    errors: int
    p50: float
    p95: float
    p99: float
    rate: float


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Of which days (as `2026-11-30`, both included), told apart by what, and whose; None: of all."""

    first: str
    last: str
    by: tuple[str, ...]
    tenant: str | None = None
    chain: str | None = None


class TaskPort(Protocol):
    """Tasks: in, out, and what happens to them. Every method but `owner` and `peers` may raise Unavailable."""

    @property
    def letters(self) -> LetterBox:
        """The dead letters of this gateway's partitions."""

    @property
    def updates(self) -> Hub:
        """Where the engine publishes each change of a task's row that this gateway sees."""

    def begin_trace(self, incoming: str | None) -> str | None:
        """The traceparent of the span that a submission begins, child of `incoming` if that is given."""

    def owner(self, key: bytes) -> str | None:
        """Base URL of the gateway that has the key's row, or None if it is this one (or nobody can tell)."""

    def peers(self) -> tuple[str, ...]:
        """Base URLs of all other gateways."""

    async def submit(self, event: Event) -> None:
        """Hand a new task to intake; returns once the log has it."""

    async def task(self, tenant: str, task: str) -> Json | None:
        """The row of a task that this gateway owns."""

    async def review(self, tenant: str, task: str) -> Json | None:
        """The whole row of a task that this gateway owns, with what `callstream.web.held` makes a review of."""

    async def reviews(self, tenant: str, query: Query) -> tuple[list[Json], bool]:
        """Whole rows of held tasks of a tenant on this gateway, in order, and whether all of them are in order."""

    async def say(self, tenant: str, task: str, command: Command) -> str:
        """Hand what a person says about a held task to review; once the log has it, the mark that its note will have.

        Raises NotHeld, VerdictRefused.
        """

    async def replay(self, row: Json, manner: Manner) -> tuple[str, bool]:
        """Start a replay of the task of this row: the id of its task, and whether it was there already.

        Returns once the log has it. Raises NotRecorded.
        """

    async def unfinished(self, tenant: str | None) -> tuple[Mapping[tuple[str, int], int], bool]:
        """Tasks of a tenant (None: of all) here that have not ended, by chain and version; whether those are all."""

    def waiting(self, tenant: str, task: str) -> Json | None:
        """Why the task's model call waits, as the replica that has it told last; None if none has it waiting."""

    def calling(self, tenant: str, task: str) -> Json | None:
        """Which endpoint has the task's model call, and since when; None if no replica says that it is in flight."""

    async def put_blob(self, data: bytes) -> str:
        """Keep bytes for a later submission and give their reference (`blob:` and 64 hex digits)."""


class TablePort(Protocol):
    """What the worker remembers, for people to look at. Every method but `health` may raise Unavailable."""

    def health(self) -> Health:
        """How this worker is."""

    async def tables(self) -> tuple[TableInfo, ...]:
        """Every table whose partitions this worker knows of."""

    async def rows(self, table: str, request: PageRequest) -> Page:
        """One page of rows. Raises UnknownTable."""

    async def row(self, table: str, partition: int, key: bytes) -> Json | None:
        """One row. Raises UnknownTable."""

    def pools(self) -> Json:
        """What each replica that calls models told last of its pools, by replica."""

    async def latency(self, window: Window) -> list[LatencyWindow]:
        """Every window of that size still kept, in no particular order."""

    async def usage(self, query: UsageQuery) -> list[Json]:
        """What calls took and cost, by what was asked for and currency, of the tasks that this gateway owns."""

    def budgets(self) -> list[Json]:
        """Each budget of money over all replicas, as they told last."""


class SchedulePort(Protocol):
    """Schedules: which there are, and commands to them."""

    @property
    def schedules(self) -> Directory:
        """Every schedule, as the service that fires them told last."""

    async def command_schedule(self, event: Event) -> None:
        """Hand in a command to a schedule; returns once the log has it. Raises Unavailable."""


class ProfilePort(Protocol):
    """What is known about users: in."""

    async def put_profile(self, tenant: str, user: str, profile: Json | None) -> None:
        """Have that known about a user, or with None nothing; returns once the log has it. Raises Unavailable."""


class ControlPort(Protocol):
    """Commands: in, and in force."""

    @property
    def controls(self) -> Controls:
        """The commands that this process has heard."""

    async def command(self, command: AnyCommand) -> None:
        """Hand a command to every worker; returns once the log has it and this one has heard it. Raises Unavailable."""

    def pool_models(self) -> dict[str, dict[str, str]]:
        """Every pool that this gateway knows of, with the model of each endpoint, by its name."""


class AlarmPort(Protocol):
    """Alarms, as whoever judges told of them."""

    @property
    def alarms(self) -> Board:
        """Every incident that is open or ended lately."""


class GatewayPort(TaskPort, TablePort, SchedulePort, ControlPort, AlarmPort, ProfilePort, Protocol):
    """All that the web needs."""
