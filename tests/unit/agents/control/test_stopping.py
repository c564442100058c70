"""An actor that obeys commands: what is cancelled ends once, what is paused is sent aside, the rest goes on."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from callstream.agents.actor import Actor
from callstream.agents.aside import Aside, Job
from callstream.agents.control.commands import CancelTask, Scope, Subject, Switch, as_value
from callstream.agents.control.controls import Controls
from callstream.agents.control.holding import Holds
from callstream.agents.control.pausing import PausedAside, PausedRole
from callstream.agents.control.stopping import Stops
from callstream.agents.fakes import FakeDelivery, FakePorts, deliver, stream
from callstream.agents.inference import receipts_state
from callstream.agents.inference.receipts_state import Receipt, State
from callstream.agents.lot import Bucket, Lot, Parked
from callstream.agents.ports import Delivery
from callstream.agents.review import held_row
from callstream.agents.settle import NO_ROLLBACK
from callstream.agents.steps import StepRole
from callstream.streams import strict_json
from callstream.streams.chain import Attempts, Cell, Chain, Chains, Step
from callstream.streams.event import TASK_HELD, End, Event, Failure
from callstream.streams.fakes import MemoryCell
from callstream.streams.outcome import Forward, Outcome, Retry
from callstream.streams.ownership import Claim
from callstream.streams.spend import Spend, SpendKind
from callstream.streams.wire import Record, decode
from callstream.tables.fakes import MemoryRows
from tests.support.events import Input, Say, an_event


class Slow(Step):
    """A step that runs until it is let go, fails as often as it is told, and counts."""

    service, remembers = "infer", True

    def __init__(self, name: str, cuttable: bool = True) -> None:
        self.name = name
        self.cuttable = cuttable  # type: ignore[misc]
        self.attempts = Attempts(most=9, first_pause_seconds=3_000.0)
        self.go = asyncio.Event()
        self.failures = 0
        self.done: set[str] = set()
        self.began: list[str] = []
        self.cut: list[str] = []

    async def was_done(self, event: Event) -> bool:
        """What a test says."""
        return event.task in self.done

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Run."""
        self.began.append(event.task)
        if self.failures:
            self.failures -= 1
            return Retry(Failure(kind="slow", message="not now"))
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cut.append(event.task)
            raise
        return Forward({"text": event.task})


class FakeCalls:
    """Model calls that wait when a test says so."""

    def __init__(self) -> None:
        self.at_gates: set[tuple[str, str]] = set()
        self.cuts: list[str] = []

    def waiting(self) -> frozenset[tuple[str, str]]:
        """Tasks that only wait."""
        return frozenset(self.at_gates)

    def cut(self, tenant: str, task: str) -> None:
        """Keep whose."""
        self.cuts.append(task)


class Bench:
    """An actor over one step, with what it sends and the commands in force."""

    def __init__(self, cuttable: bool = True, places: int = 8) -> None:
        self.step = Slow("copy", cuttable)
        steps = Say("facts", "prepare"), self.step, Say("check", "moderate")
        self.chains = Chains([Chain("shop", Input, steps), Chain("copy", Input, steps)])
        self.ports, self.controls, self.calls = FakePorts(), Controls(), FakeCalls()
        self.role = StepRole("infer", self.chains, stateful=True)
        self.actor = Actor(self.role, self.ports, self.chains, places, 100)
        self.actor.stops = self.stops = Stops("infer", self.controls, self.ports, self.chains, self.role, self.calls)
        self.deliveries: list[FakeDelivery] = []

    async def read(self, *tasks: str, **changes: Any) -> list[FakeDelivery]:
        """Hand over events of these tasks and let everything run that can."""
        events = [an_event(task=task, sequence=2, **changes) for task in tasks]
        found = deliver(events, "infer", len(self.deliveries))
        self.deliveries += found
        self._reading = asyncio.create_task(self.actor.run(stream(found)))
        await settled()
        return found

    def command(self, command: CancelTask | Switch) -> None:
        """Let it be heard."""
        self.controls.hear(command.key, as_value(command))
        self.actor.commanded()

    def sent(self) -> list[tuple[str, Event]]:
        """Topics and events."""
        return [(record.topic.removeprefix("callstream."), read(record)) for record in self.ports.sent]


def read(record: Record) -> Event:
    return decode(record.value, record.headers)


def cancel(task: str = "mug-1", **changes: Any) -> CancelTask:
    given = {"at": 20.0, "by": "ada", "reason": "not needed", "tenant": "acme", "task": task, "before": 20.0}
    return CancelTask.model_validate({**given, **changes})


def pause(paused: bool = True, **scope: Any) -> Switch:
    return Switch(at=20.0, by="ada", scope=Scope.model_validate(scope), paused=paused)


async def settled(turns: int = 200) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


async def test_an_event_of_a_cancelled_task_ends_and_does_not_begin() -> None:
    bench = Bench()
    bench.command(cancel())
    [delivery] = await bench.read("mug-1")
    [(topic, ended)] = bench.sent()
    assert (topic, ended.body.end, ended.type, ended.id) == (
        "finished",
        End.CANCELLED,
        "callstream.task.cancelled",
        "4:acme:mug-1/4/1",
    )
    assert ended.body.failure == Failure(kind="cancelled", message="cancelled by ada: not needed", step="copy")
    assert (bench.step.began, delivery.acked, bench.ports.crashes) == ([], [0], [])


async def test_a_cancel_without_rollback_ends_a_task_as_it_stands() -> None:
    bench = Bench()
    bench.command(cancel(rollback=False))
    await bench.read("mug-1")
    [(topic, ended)] = bench.sent()
    assert (topic, ended.body.end, ended.body.trail[-1].notes[-1]) == ("finished", End.CANCELLED, NO_ROLLBACK)


async def test_whenever_and_wherever_a_cancelled_task_is_met_its_end_is_the_same_record() -> None:
    ends = []
    for time in (1_000.0, 2_000.0):
        bench = Bench()
        bench.ports.time = time
        bench.command(cancel())
        await bench.read("mug-1")
        ends += bench.ports.sent
    assert ends[0] == ends[1]
    # also where the event before it is delivered again, of which it has come
    stops = Stops("prepare", bench.controls, bench.ports, bench.chains, StepRole("prepare", bench.chains, False))
    [earlier] = await stops.records(an_event(), Job(bench.deliveries[0], None), never)
    assert read(earlier).id == read(ends[0]).id


async def never(_event: Event, _delivery: Delivery) -> list[Record]:
    raise AssertionError("it has begun")


async def test_one_that_runs_is_cut_and_what_it_may_have_cost_is_told() -> None:
    bench = Bench()
    reserved = Spend(kind=SpendKind.CANCELLED, endpoint="e", tokens_in=9, cost=Decimal("0.5"), estimated=True)
    started = Receipt(state=State.STARTED, started=1.0, flight="f", endpoint="e", round="0.0.2", reserved=reserved)
    other_step = started.model_copy(update={"round": "0.0.1"})
    row = receipts_state.start(None, "4:acme:mug-1/2/call-1", started)
    bench.ports.cells[b"4:acme:mug-1"] = MemoryCell(receipts_state.start(row, "another step's", other_step))
    first, other = await bench.read("mug-1", "mug-2")
    bench.ports.time = 1_007.0
    bench.command(cancel())
    await settled()
    [(_, ended)] = bench.sent()
    [hop] = ended.body.trail
    assert (bench.step.cut, bench.calls.cuts) == (["mug-1"], ["mug-1"])
    assert (hop.step, hop.started, hop.ended) == ("copy", 1_000.0, 1_007.0)
    assert hop.usage is not None
    assert (hop.usage.calls, hop.usage.endpoint) == (1, "e")
    assert hop.spends == (reserved,)
    assert (first.acked, other.acked) == ([0], [0])
    # the other one goes on, and nothing more comes of the first
    bench.step.go.set()
    await settled()
    assert [(topic, event.task) for topic, event in bench.sent()] == [("finished", "mug-1"), ("moderate", "mug-2")]
    assert bench.ports.crashes == []


async def test_one_that_pauses_between_two_tries_ends_at_once() -> None:
    bench = Bench()
    bench.step.failures = 1
    await bench.read("mug-1")
    bench.command(cancel())
    await settled()
    assert [event.body.end for _, event in bench.sent()] == [End.CANCELLED]
    assert bench.step.began == ["mug-1"]


async def test_a_decision_that_was_made_stands_and_the_next_service_meets_the_command() -> None:
    bench = Bench()
    bench.step.go.set()
    bench.ports.hold()
    await bench.read("mug-1")
    assert bench.ports.waiting == 1
    bench.command(cancel())
    bench.ports.release()
    await settled()
    assert [(topic, event.body.end) for topic, event in bench.sent()] == [("moderate", None)]


async def test_what_cannot_be_cut_comes_to_its_end_and_what_was_done_is_not_undone() -> None:
    bench = Bench(cuttable=False)
    await bench.read("mug-1")
    bench.command(cancel())
    await settled()
    assert (bench.step.cut, bench.sent()) == ([], [])
    bench.step.go.set()
    await settled()
    # when events come of which the one was done before a crash, and the other not
    bench.step.done = {"mug-2"}
    bench.command(cancel("mug-2"))
    bench.command(cancel("mug-3"))
    await bench.read("mug-2", "mug-3")
    assert [(topic, event.task) for topic, event in bench.sent()] == [
        ("moderate", "mug-1"),
        ("moderate", "mug-2"),
        ("finished", "mug-3"),
    ]


async def test_a_revocation_leaves_what_was_cut_to_its_next_owner() -> None:
    bench = Bench()
    [delivery] = await bench.read("mug-1")
    bench.command(cancel())
    bench.actor.revoke()
    await settled()
    assert (bench.sent(), delivery.acked, bench.ports.crashes) == ([], [], [])


async def test_a_drain_hands_back_what_runs_though_commands_are_in_force() -> None:
    bench = Bench()
    bench.command(cancel("another"))
    [delivery] = await bench.read("mug-1")
    assert not await bench.actor.drain(0.0)
    assert (bench.sent(), delivery.acked, bench.ports.crashes) == ([], [], [])


@pytest.mark.parametrize("scope", [{"chain": "shop"}, {"tenant": "acme"}, {"task": "mug-1", "tenant": "acme"}])
async def test_a_paused_event_is_sent_aside_as_it_is_and_acknowledged(scope: dict[str, Any]) -> None:
    bench = Bench()
    bench.command(pause(**scope))
    [delivery] = await bench.read("mug-1", deadline=99.0, outputs={"facts": {"a": 1}})
    [(topic, event)] = bench.sent()
    assert (topic, event) == ("paused", decode(delivery.value, delivery.headers))
    assert (delivery.acked, bench.step.began) == ([0], [])


async def test_a_call_that_only_waits_is_taken_back_by_a_pause_and_one_that_runs_is_not() -> None:
    bench = Bench()
    await bench.read("mug-1", "mug-2")
    bench.calls.at_gates = {("acme", "mug-1")}
    bench.command(pause(chain="shop"))
    await settled()
    assert [(topic, event.task) for topic, event in bench.sent()] == [("paused", "mug-1")]
    assert bench.calls.cuts == ["mug-1"]
    bench.step.go.set()
    await settled()
    assert bench.sent()[1:][0][0] == "moderate"


async def test_a_paused_service_begins_nothing_until_it_is_resumed() -> None:
    bench = Bench()
    bench.step.go.set()
    bench.command(pause(service="infer"))
    await bench.read("mug-1", "mug-2")
    assert (bench.actor.resting, bench.step.began, bench.actor.taken) == (True, [], 0)
    bench.command(pause(False, service="infer"))
    await settled()
    assert (bench.actor.resting, bench.step.began) == (False, ["mug-1", "mug-2"])


async def test_cancelled_tasks_in_the_lot_end_out_of_their_turn() -> None:
    bench, rows = Bench(places=2), MemoryRows()
    lot = Lot(rows, bench.role.queue_of)
    bench.actor.aside = aside = Aside(lot, 2, bench.actor.has_place, of_rows(rows))
    bench.stops.waiting, bench.stops.partitions = aside.cancelled, lot.partitions
    await lot.open(0)
    await bench.read(*(f"mug-{number}" for number in range(9)))
    assert len(rows.written) > 5
    began = list(bench.step.began)
    bench.command(cancel("mug-8"))
    bench.command(cancel("mug-5"))
    keeping = asyncio.create_task(bench.actor.keep_stopped())
    await asyncio.wait_for(until(lambda: len(bench.sent()) == 2), 5.0)
    keeping.cancel()
    assert {event.task for _, event in bench.sent()} == {"mug-5", "mug-8"}
    assert bench.step.began == began
    # and their rows are gone, while the others are still done
    bench.step.go.set()
    await settled(1_000)
    assert sorted(event.task for topic, event in bench.sent() if topic == "moderate") == [
        f"mug-{number}" for number in (0, 1, 2, 3, 4, 6, 7)
    ]
    assert list(rows.scan(0)) == []
    assert bench.ports.crashes == []


async def test_a_cancelled_event_that_comes_is_not_put_into_the_lot() -> None:
    bench, rows = Bench(places=1), MemoryRows()
    bench.actor.aside = Aside(Lot(rows, bench.role.queue_of), 1, bench.actor.has_place, of_rows(rows))
    bench.command(cancel("mug-2"))
    await bench.read("mug-1", "mug-2")
    assert [event.task for _, event in bench.sent()] == ["mug-2"]


def of_rows(rows: MemoryRows) -> Callable[[Delivery], Parked]:
    """What makes an event of a lot over these rows."""

    def parked(one: Delivery) -> Parked:
        return Parked(one.topic, one.partition, one.offset, one.key, one.value, one.headers, rows.claim(one.partition))

    return parked


async def until(look: Callable[[], bool]) -> None:
    while not look():  # noqa: ASYNC110 - what it waits for is anything
        await asyncio.sleep(0.01)


class Waitroom:
    """The service `paused` over rows that outlive it."""

    def __init__(self, controls: Controls, rows: MemoryRows, most: int = 100) -> None:
        self.bench = Bench()
        self.ports, self.controls = FakePorts(), controls
        self.lot = Lot(rows, lambda _chain, _version, _sequence: None, most)
        role = PausedRole(controls, lambda: any(map(self.lot.full, self.lot.partitions())))
        self.actor = Actor(role, self.ports, self.bench.chains, 4, 100)
        self.actor.aside = aside = PausedAside(self.lot, self.actor.has_place, of_rows(rows), controls)
        self.actor.stops = Stops("paused", controls, self.ports, self.bench.chains)
        self.actor.stops.waiting, self.actor.stops.partitions = aside.cancelled, self.lot.partitions

    async def read(self, *events: Event, first: int = 0) -> list[FakeDelivery]:
        """Hand these over."""
        found = deliver(events, "paused", first)
        self._reading = asyncio.create_task(self.actor.run(stream(found)))
        await settled()
        return found

    def sent(self) -> list[tuple[str, str]]:
        """Topics and tasks."""
        return [(record.topic.removeprefix("callstream."), read(record).task) for record in self.ports.sent]


def after(*commands: CancelTask | Switch) -> Controls:
    controls = Controls()
    for command in commands:
        controls.hear(command.key, as_value(command))
    return controls


async def test_paused_events_lie_in_the_table_until_nothing_of_them_is_paused_and_go_back_in_their_order() -> None:
    rows, shop, acme = MemoryRows(), pause(chain="shop"), pause(tenant="acme")
    controls = after(shop, acme)
    room = Waitroom(controls, rows)
    events = [an_event(task=f"mug-{number}", sequence=2, priority="low") for number in range(6)]
    [*_, last] = await room.read(*events, replace(events[0], tenant="other"))
    assert (room.sent(), last.acked) == ([], list(range(7)))
    # another worker has the table now
    room = Waitroom(controls, rows)
    await room.lot.open(0)
    controls.hear(shop.key, as_value(pause(False, chain="shop")))
    room.actor.commanded()
    await settled()
    assert room.sent() == [("infer.low", "mug-0")]
    assert read(room.ports.sent[0]).tenant == "other"
    controls.hear(acme.key, as_value(pause(False, tenant="acme")))
    room.actor.commanded()
    await settled(1_000)
    assert room.sent()[1:] == [("infer.low", event.task) for event in events]
    assert [read(record) for record in room.ports.sent[1:]] == events
    assert (list(rows.scan(0)), room.ports.crashes) == ([], [])


async def test_a_paused_task_is_released_alone_and_stays_when_it_is_paused_itself() -> None:
    shop, one = pause(chain="shop"), pause(task="mug-1", tenant="acme")
    controls = after(shop)
    room = Waitroom(controls, MemoryRows())
    await room.read(an_event(sequence=2), an_event(task="mug-2", sequence=2))
    controls.hear(one.key, as_value(one))
    controls.hear(shop.key, as_value(pause(False, chain="shop")))
    room.actor.commanded()
    await settled()
    assert room.sent() == [("paused", "mug-1"), ("infer", "mug-2")]
    await room.read(read(room.ports.sent[0]), first=2)
    assert len(room.sent()) == 2
    controls.hear(one.key, as_value(pause(False, task="mug-1", tenant="acme")))
    room.actor.commanded()
    await settled()
    assert room.sent()[2:] == [("infer", "mug-1")]


async def test_a_full_table_reads_no_further_and_lets_go_what_is_resumed() -> None:
    copy, shop = pause(chain="copy"), pause(chain="shop")
    controls, rows = after(copy, shop), MemoryRows()
    room = Waitroom(controls, rows, most=3)
    deliveries = await room.read(
        an_event(task="c-1", chain="copy"), *(an_event(task=f"s-{number}", sequence=2) for number in range(60))
    )
    assert room.sent() == []
    assert len(list(rows.scan(0))) <= room.actor.taken < len(deliveries)
    controls.hear(copy.key, as_value(pause(False, chain="copy")))
    room.actor.commanded()
    await settled()
    assert room.sent() == [("prepare", "c-1")]


async def test_a_cancelled_task_ends_where_it_is_paused() -> None:
    controls = after(pause(chain="shop"))
    room = Waitroom(controls, MemoryRows())
    await room.read(an_event(sequence=2), an_event(task="mug-2", sequence=2))
    controls.hear(cancel().key, as_value(cancel()))
    keeping = asyncio.create_task(room.actor.keep_stopped())
    await asyncio.wait_for(until(lambda: bool(room.sent())), 5.0)
    keeping.cancel()
    [(topic, ended)] = [(record.topic, read(record)) for record in room.ports.sent]
    assert (topic, ended.task, ended.body.end) == ("callstream.finished", "mug-1", End.CANCELLED)
    assert ended.body.failure is not None
    assert ended.body.failure.step == "copy"


async def test_the_desk_is_told_of_cancelled_holds_by_the_held_event_itself() -> None:
    rows, sent = MemoryRows(2), list[tuple[Event, int]]()
    mug = an_event(task="mug-1", sequence=3, type=TASK_HELD, held="why").extended(ancestry="x")
    for event in (mug, an_event(task="mug-2", sequence=3, type=TASK_HELD, held="why")):
        await rows.write(rows.claim(1), event.key, strict_json.dumps(held_row(event, None)))
    ended = {**held_row(an_event(task="mug-3", type=TASK_HELD), None), "state": "decided"}
    await rows.write(rows.claim(1), b"4:acme:mug-3", strict_json.dumps(ended))

    async def send(record: Record, claim: Claim) -> None:
        assert record.topic == "callstream.review"
        sent.append((read(record), claim.partition))

    def wanted(subject: Subject | None) -> bool:
        return subject is not None and subject.task in ("mug-1", "mug-3") and subject.state == "held"

    holds = Holds(rows, send)
    for _ in range(3):
        assert [jobs async for jobs in holds.cancelled(wanted)] == [[]]
    assert sent == [(mug, 1)]


async def test_what_was_picked_out_of_the_lot_is_not_taken_in_its_turn() -> None:
    bench, rows = Bench(), MemoryRows()
    lot = Lot(rows, bench.role.queue_of)
    await lot.open(0)
    bucket = Bucket("callstream.infer", "copy", "acme")
    for one in deliver([an_event(task=task, sequence=2) for task in ("mug-1", "mug-2")], "infer"):
        await lot.put(bucket, of_rows(rows)(one))
    assert bucket is not None
    [[(_, picked)]] = [found async for found in lot.pick(lambda headers: ("ce_subject", b"mug-1") in headers)]
    assert (decode(picked.value, picked.headers).task, lot.waiting(bucket)) == ("mug-1", 1)
    taken = lot.take(bucket)
    assert taken is not None
    assert decode(taken.value, taken.headers).task == "mug-2"
    assert [found async for found in lot.pick(lambda _headers: True)] == []
