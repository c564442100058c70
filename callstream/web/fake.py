"""An engine in memory that keeps the promises of `port.py`, for tests and for trying the web without Kafka.

Nothing moves by itself: `advance` takes a task one step on and `end` ends it, each publishing the change.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from callstream.agents.alarms.board import Board
from callstream.agents.control.commands import AnyCommand, as_value
from callstream.agents.control.controls import Controls
from callstream.agents.letters.rehearsal import Rehearsal
from callstream.agents.review import Command, ReviewDesk, Verdict, command_event, refusal, said_in
from callstream.agents.review.fold import shown
from callstream.agents.schedules.command import apply, read_command
from callstream.agents.schedules.directory import Directory
from callstream.streams import strict_json
from callstream.streams.chain import Chains
from callstream.streams.event import Event, Json
from callstream.streams.fakes import MemoryCell
from callstream.streams.keys import partition_of, task_key
from callstream.streams.partial import PARTIAL
from callstream.streams.replay.lineage import Manner, child_of, named
from callstream.streams.topics import INTAKE, topic_of
from callstream.streams.wire import encode
from callstream.tables.tasks import ENDED
from callstream.tables.usage import UsageKey, grouped
from callstream.web.fake_letters import FakeLetters
from callstream.web.held import held_event, review_in, shown_to_all
from callstream.web.hub import Hub, Update
from callstream.web.letters import LetterBox
from callstream.web.port import (
    Health,
    LatencyWindow,
    NotHeld,
    NotRecorded,
    Page,
    PageRequest,
    PartitionInfo,
    Row,
    TableInfo,
    Unavailable,
    UnknownTable,
    UsageQuery,
    VerdictRefused,
    Window,
)
from callstream.web.rows import accepted
from callstream.web.usage_rows import wanted
from callstream.web.waiting import Query, entry_of, place_of

PARTITIONS = 4


class FakePort:
    """Everything the web needs, in dictionaries. Its public attributes may be set to play out a situation.

    `unavailable` makes every call raise Unavailable with that text; `owners` and `others` name other gateways.
    """

    def __init__(self, chains: Chains, clock: Callable[[], float], epoch: str = "fake") -> None:
        self.events: list[Event] = []
        self.verdicts: list[tuple[str, str, Verdict]] = []
        self.blobs: list[bytes] = []
        self.tables_by_name: dict[str, dict[bytes, Json]] = {"tasks": {}}
        self.services = {"tasks": "gateway"}
        self.windows: dict[Window, list[LatencyWindow]] = {}
        self.budgets_told: list[Json] = []
        self.spent: list[tuple[UsageKey, Json]] = []
        self.state = Health(live=True, ready=True)
        self.unavailable = ""
        self.swept: set[str] = set()
        self.owners: dict[bytes, str] = {}
        self.others: tuple[str, ...] = ()
        self.replicas: Json = {}
        self.calls: dict[tuple[str, str], Json] = {}
        self.in_flight: dict[tuple[str, str], Json] = {}
        self.commands: list[Event] = []
        self.obeys = True
        self.schedules = Directory()
        self.profiles: dict[tuple[str, str], Json] = {}
        self.schedules.caught_up()
        self.alarms = Board()
        self.alarms.caught_up()
        self._chains = chains
        self._clock = clock
        self._hub = Hub(epoch)
        self._desk = ReviewDesk(chains=chains)
        self._reviews: dict[bytes, MemoryCell] = {}
        self._controls = Controls()
        self.dead = FakeLetters(chains, PARTITIONS, clock, Rehearsal(chains, None))

    @property
    def letters(self) -> LetterBox:
        """Those that came to the desk `dead`."""
        self._check()
        return self.dead.box

    def pools(self) -> Json:
        """What was put into `replicas`."""
        return self.replicas

    def waiting(self, tenant: str, task: str) -> Json | None:
        """What was put into `calls`."""
        return self.calls.get((tenant, task))

    def calling(self, tenant: str, task: str) -> Json | None:
        """What was put into `in_flight`."""
        return self.in_flight.get((tenant, task))

    @property
    def controls(self) -> Controls:
        """What was commanded."""
        return self._controls

    async def command(self, command: AnyCommand) -> None:
        """Obey at once."""
        self._check()
        self._controls.hear(command.key, as_value(command))

    def pool_models(self) -> dict[str, dict[str, str]]:
        """Those in `replicas`."""
        found = [pool for pools in self.replicas.values() for pool in pools]
        return {pool["pool"]: {one["endpoint"]: one["model"] for one in pool.get("endpoints", ())} for pool in found}

    @property
    def updates(self) -> Hub:
        """Where changes are published."""
        return self._hub

    def begin_trace(self, incoming: str | None) -> str | None:
        """The caller's trace, or a fixed one."""
        return incoming or "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    def owner(self, key: bytes) -> str | None:
        """Who `owners` says."""
        return self.owners.get(key)

    def peers(self) -> tuple[str, ...]:
        """Who `others` says."""
        return self.others

    async def submit(self, event: Event) -> None:
        """Keep the event and give its task a row. Raises EventTooLarge, as the log's own port does."""
        self._check()
        encode(event, topic_of(INTAKE))
        self.events.append(event)
        self._write(event.key, accepted(event, self._chains.current(event.chain)))

    async def put_profile(self, tenant: str, user: str, profile: Json | None) -> None:
        """Keep it."""
        self._check()
        self.profiles.pop((tenant, user), None)
        if profile is not None:
            self.profiles[tenant, user] = profile

    async def command_schedule(self, event: Event) -> None:
        """Keep the command and, if it `obeys`, change the schedule at once."""
        self._check()
        self.commands.append(event)
        if self.obeys:
            command = read_command(event)
            after = apply(self.schedules.get(event.tenant, event.task), command, self._clock())
            self.schedules.hear(event.key.decode(), None if after is None else strict_json.dumps(after.row()))

    async def task(self, tenant: str, task: str) -> Json | None:
        """The task's row."""
        row = await self.review(tenant, task)
        return None if row is None else shown_to_all(row)

    async def review(self, tenant: str, task: str) -> Json | None:
        """The task's whole row."""
        self._check()
        return self.tables_by_name["tasks"].get(task_key(tenant, task))

    async def reviews(self, tenant: str, query: Query) -> tuple[list[Json], bool]:
        """Held tasks of a tenant, in order."""
        self._check()
        rows = (row for row in self.tables_by_name["tasks"].values() if row["tenant"] == tenant)
        held = sorted((row for row in rows if row["state"] == "held"), key=place_of)
        found = [row for row in held if query.after is None or place_of(row) > query.after]
        return [row for row in found if query.takes(entry_of(row))][: query.limit], True

    async def unfinished(self, tenant: str | None) -> tuple[Mapping[tuple[str, int], int], bool]:
        """Counted from the rows as they are."""
        self._check()
        rows = (row for row in self.tables_by_name["tasks"].values() if row["state"] not in ENDED)
        return Counter((row["chain"], row["version"]) for row in rows if tenant in (None, row["tenant"])), True

    async def say(self, tenant: str, task: str, command: Command) -> str:
        """Keep a verdict on a held task and, if it `obeys`, have a desk of its own take in what is said."""
        self._check()
        row = self.tables_by_name["tasks"].get(task_key(tenant, task))
        if row is None or row["state"] != "held":
            raise NotHeld("it is not held")
        held = held_event(row)
        if isinstance(command, Verdict):
            if wrong := refusal(held, command):
                raise VerdictRefused(wrong)
            self.verdicts.append((tenant, task, command))
        event = command_event(held, command, self._clock())
        if self.obeys:
            cell = self._reviews.setdefault(held.key, MemoryCell())
            if cell.value is None:
                await self._desk.act(held, cell)
                await cell.save({**(cell.value or {}), "review": review_in(row)})
            await self._desk.act(event, cell)
            if cell.value is not None:
                self._change(row, review=shown(cell.value), state=_state_after(cell.value))
        return said_in(event).mark

    async def replay(self, row: Json, manner: Manner) -> tuple[str, bool]:
        """Give the new task a row that says what it is. Raises NotRecorded for steps in `swept`."""
        self._check()
        child = child_of(row["tenant"], row["id"], named(manner), PARTITIONS)
        if await self.task(row["tenant"], child) is not None:
            return child, True
        if manner.step in self.swept:
            raise NotRecorded(f"the input of step {manner.step!r} was swept")
        self._write(task_key(row["tenant"], child), row | {"id": child, "parent": row["id"], "sandbox": manner.sandbox})
        return child, False

    async def put_blob(self, data: bytes) -> str:
        """Keep the bytes under a number."""
        self._check()
        self.blobs.append(data)
        return f"blob:{len(self.blobs):064x}"

    def health(self) -> Health:
        """What `state` says."""
        return self.state

    async def tables(self) -> tuple[TableInfo, ...]:
        """The tables as they are, their sizes measured by the length of their text."""
        self._check()
        return tuple(self._info(name) for name in sorted(self.tables_by_name))

    async def rows(self, table: str, request: PageRequest) -> Page:
        """One page of rows."""
        rows = self._partition(table, request.partition)
        keys = sorted(key for key in rows if key.startswith(request.prefix) and key > (request.after or b""))
        return Page(tuple(Row(key, rows[key]) for key in keys[: request.limit]), more=len(keys) > request.limit)

    async def row(self, table: str, partition: int, key: bytes) -> Json | None:
        """One row."""
        return self._partition(table, partition).get(key)

    async def latency(self, window: Window) -> list[LatencyWindow]:
        """What `windows` holds."""
        self._check()
        return self.windows.get(window, [])

    def budgets(self) -> list[Json]:
        """What was put into `budgets_told`."""
        return self.budgets_told

    async def usage(self, query: UsageQuery) -> list[Json]:
        """Sums of what `spent` holds."""
        self._check()
        return grouped((one for one in self.spent if wanted(one[0], query)), query.by)

    def advance(self, tenant: str, task: str, **hop: Any) -> None:
        """Finish the task's next step; `hop` replaces members of its entry in `steps`."""
        row = self._row(tenant, task)
        steps = self._chains.get(row["chain"], row["version"]).steps
        done, now = len(row["steps"]), self._clock()
        entry = {
            "step": steps[done].name,
            "service": steps[done].service,
            "started": row["updated"],
            "ended": now,
            "seconds": now - row["updated"],
            "attempts": 1,
            "model": "",
            "tokens_in": 0,
            "tokens_out": 0,
            "notes": [],
        }
        following = steps[done + 1] if done + 1 < len(steps) else None
        coming = {"step": following.name, "service": following.service} if following else None
        self._change(row, state="running", steps=[*row["steps"], entry | hop], next=coming)

    def write(self, tenant: str, task: str, step: str, text: str) -> None:
        """A step's model has written so much of its answer."""
        row = self._row(tenant, task)
        part = row.get(PARTIAL, {"part": 0})["part"] + 1
        told = {"step": step, "start": 0, "characters": len(text), "text": text, "part": part}
        self._change(row, **{PARTIAL: told | {"run": 0, "sequence": len(row["steps"])}})

    def end(self, tenant: str, task: str, state: str = "finished", **members: Any) -> None:
        """End the task; `members` (result, failure) join its row."""
        self._change(self._row(tenant, task), state=state, next=None, held=None, **members)

    def hold(self, tenant: str, task: str, reason: str, **members: Any) -> None:
        """Let the task wait for a person; `members` (outputs, input, text, review) join its row."""
        self._change(self._row(tenant, task), state="held", held=reason, **members)

    def touch(self, tenant: str, task: str) -> None:
        """Publish the task's row once more, changed in nothing but its time."""
        self._change(self._row(tenant, task))

    def _change(self, row: Json, **members: Any) -> None:
        if row["state"] in ENDED:
            raise ValueError(f"task {row['id']} has ended")
        self._write(task_key(row["tenant"], row["id"]), row | {"updated": self._clock()} | members)

    def _write(self, key: bytes, row: Json) -> None:
        self.tables_by_name["tasks"][key] = row
        self._hub.publish(
            Update(row["tenant"], row["id"], row["chain"], row["state"], len(row["steps"]), shown_to_all(row))
        )

    def _row(self, tenant: str, task: str) -> Json:
        return self.tables_by_name["tasks"][task_key(tenant, task)]

    def _partition(self, table: str, partition: int) -> dict[bytes, Json]:
        self._check()
        if table not in self.tables_by_name or not 0 <= partition < PARTITIONS:
            raise UnknownTable(f"no partition {partition} of a table {table!r} is here")
        rows = self.tables_by_name[table]
        return {key: row for key, row in rows.items() if partition_of(key, PARTITIONS) == partition}

    def _info(self, name: str) -> TableInfo:
        sizes: list[list[int]] = [[] for _ in range(PARTITIONS)]
        for key, row in self.tables_by_name[name].items():
            sizes[partition_of(key, PARTITIONS)].append(len(key) + len(repr(row)))
        parts = tuple(PartitionInfo(n, len(each), sum(each), offset=len(each)) for n, each in enumerate(sizes))
        return TableInfo(name, self.services.get(name, "gateway"), parts)

    def _check(self) -> None:
        if self.unavailable:
            raise Unavailable(self.unavailable)


def _state_after(review: Json) -> str:
    """What a task does whose review has come that far."""
    if review["state"] == "held":
        return "held"
    return "rejected" if review["verdict"]["verdict"] == "reject" else "running"
