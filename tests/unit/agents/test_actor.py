import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from callstream.agents.actor import Actor
from callstream.agents.fakes import FakeDelivery, FakePorts, deliver, stream
from callstream.agents.joining import Join
from callstream.agents.ports import Delivery, Policy
from callstream.streams.chain import Attempts, Cell, Chain, Chains, UnknownChain
from callstream.streams.event import End, Event, Failure, Waiting, WaitReason
from callstream.streams.letters import is_unreadable
from callstream.streams.outcome import Bury, FanOut, Finish, Forward, Hold, Outcome, Resume, Retry, Subtask
from callstream.streams.ownership import LostOwnership
from callstream.streams.wire import MAX_BODY_BYTES, LogUnavailable, Record, decode, encode
from tests.support.events import CHAINS, Input, Say, an_event

AT_ONCE = Attempts(most=3, first_pause_seconds=0.0)
SLOW = Failure(kind="slow", message="not now")
Act = Callable[[Event, Cell], Awaitable[Outcome]]


class Script:
    """A role that does what a test says, and keeps the order in which events began."""

    service = "prepare"

    def __init__(self, act: Act, stateful: bool = False, **policy: Any) -> None:
        self._act = act
        self._policy = replace(Policy("facts", AT_ONCE, keeps_deadline=True), **policy)
        self.stateful = stateful
        self.began: list[str] = []
        self.running = 0
        self.most = 0

    def policy(self, event: Event) -> Policy:
        """The same for every event, but for a chain that nobody knows."""
        if event.chain == "nowhere":
            raise UnknownChain("x" * 9_000)
        return self._policy

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Count, and do it."""
        self.began.append(event.task)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await self._act(event, state)
        finally:
            self.running -= 1


class Gates:
    """An act that waits at each event's gate until a test opens it."""

    def __init__(self) -> None:
        self._gates: dict[str, asyncio.Event] = {}

    def __getitem__(self, task: str) -> asyncio.Event:
        return self._gates.setdefault(task, asyncio.Event())

    async def __call__(self, event: Event, state: Cell) -> Outcome:
        await self[event.task].wait()
        return Forward({"done": event.task})


async def forward(event: Event, state: Cell) -> Outcome:
    return Forward({"done": event.task})


def raising(error: BaseException) -> Act:
    async def act(event: Event, state: Cell) -> Outcome:
        raise error

    return act


def giving(outcome: Any) -> Act:
    async def act(event: Event, state: Cell) -> Outcome:
        return outcome  # type: ignore[no-any-return]  # as a step without types may have it

    return act


async def queued(source: asyncio.Queue[Delivery]) -> AsyncIterator[Delivery]:
    """A stream that a test feeds."""
    while True:
        yield await source.get()


def events(*tasks: str, **changes: Any) -> list[Event]:
    return [an_event(task=task, **changes) for task in tasks]


def an_actor(role: Script, ports: FakePorts, concurrency: int = 8, max_unfinished: int = 16) -> Actor:
    return Actor(role, ports, CHAINS, concurrency, max_unfinished)


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(50):
        await asyncio.sleep(0)


async def handled(role: Script, ports: FakePorts, deliveries: Iterable[Delivery], **bounds: int) -> Actor:
    """Take the deliveries and let what runs come to its end."""
    actor = an_actor(role, ports, **bounds)
    await actor.run(stream(deliveries))
    assert await actor.drain(5.0)
    return actor


def read(record: Record) -> Event:
    return decode(record.value, record.headers)


async def test_what_an_event_causes_is_sent_and_then_it_is_acknowledged() -> None:
    ports = FakePorts()
    ports.hold()
    [delivery] = deliver(events("a"), "prepare")
    actor = an_actor(Script(forward), ports)
    await actor.run(stream([delivery]))
    await settled()
    assert (ports.waiting, delivery.acked, ports.sent) == (1, [], [])
    ports.release()
    await settled()
    assert (ports.topics(), delivery.acked) == (["infer"], [0])
    assert (actor.snapshot().running, actor.snapshot().finished, actor.snapshot().ledger.taken) == (0, 1, 0)


async def test_every_record_of_an_outcome_is_sent_before_the_acknowledgement() -> None:
    ports = FakePorts()
    ports.refuse("finished")
    [delivery] = deliver(events("a"), "prepare")
    await handled(Script(giving(Bury(SLOW))), ports, [delivery])
    assert (ports.topics(), delivery.acked) == (["dead"], [])
    [crash] = ports.crashes
    assert isinstance(crash, LogUnavailable)


async def test_acknowledgements_leave_in_the_order_of_offsets_whatever_finishes_first() -> None:
    gates, ports = Gates(), FakePorts()
    deliveries = deliver(events("a", "b", "c", "d"), "prepare", first_offset=7)
    acked = deliveries[0].acked
    actor = an_actor(Script(gates), ports)
    await actor.run(stream(deliveries))
    for task, expected in (("d", []), ("b", []), ("a", [7, 8]), ("c", [7, 8, 9, 10])):
        gates[task].set()
        await settled()
        assert acked == expected
    assert [read(record).task for record in ports.sent] == ["d", "b", "a", "c"]


async def test_no_more_run_than_may_and_each_that_ends_makes_room_for_the_next() -> None:
    gates, ports = Gates(), FakePorts()
    role = Script(gates)
    actor = an_actor(role, ports, concurrency=2)
    run = asyncio.create_task(actor.run(stream(deliver(events("a", "b", "c", "d"), "prepare"))))
    await settled()
    assert role.began == ["a", "b"]
    gates["b"].set()
    await settled()
    assert role.began == ["a", "b", "c"]
    for task in "acd":
        gates[task].set()
    await run
    await settled()
    assert (role.began, role.most) == (["a", "b", "c", "d"], 2)


async def test_what_is_done_but_not_acknowledged_counts_too() -> None:
    gates, ports = Gates(), FakePorts()
    role = Script(gates)
    actor = an_actor(role, ports, max_unfinished=3)
    for task in "bcdef":
        gates[task].set()
    run = asyncio.create_task(actor.run(stream(deliver(events(*"abcdef"), "prepare"))))
    await settled()
    assert role.began == ["a", "b", "c"]
    assert actor.snapshot().ledger.lowest == {("callstream.prepare", 0): 0}
    gates["a"].set()
    await run
    await settled()
    assert role.began == list("abcdef")


async def test_a_backlog_of_one_topic_leaves_room_for_another() -> None:
    gates, ports = Gates(), FakePorts()
    role = Script(gates)
    actor = an_actor(role, ports, concurrency=4)
    actor.most_of_a_topic = 2
    runs = [asyncio.create_task(actor.run(stream(deliver(events("a", "b", "c", "d"), "prepare"))))]
    await settled()
    assert role.began == ["a", "b"]
    runs.append(asyncio.create_task(actor.run(stream(deliver(events("e"), "prepare.high")))))
    await settled()
    assert role.began == ["a", "b", "e"]
    for task in "abcde":
        gates[task].set()
    await asyncio.gather(*runs)
    await settled()
    assert sorted(role.began) == list("abcde")


async def test_several_streams_share_the_room() -> None:
    gates, ports = Gates(), FakePorts()
    role = Script(gates)
    actor = an_actor(role, ports, concurrency=2)
    runs = [
        asyncio.create_task(actor.run(stream(deliver(events(*(f"{topic}{n}" for n in range(9))), topic))))
        for topic in ("prepare", "infer", "moderate")
    ]
    await settled()
    assert role.running <= 2 + len(runs) - 1
    for task in (f"{topic}{n}" for topic in ("prepare", "infer", "moderate") for n in range(9)):
        gates[task].set()
    await asyncio.gather(*runs)
    await settled()
    assert len(role.began) == 27
    assert role.most <= 2 + len(runs) - 1


async def test_a_step_that_fails_is_tried_again_and_then_buried_with_what_it_said() -> None:
    ports = FakePorts()
    [delivery] = deliver(events("a"), "prepare")
    role = Script(raising(KeyError("colour")))
    actor = await handled(role, ports, [delivery])
    assert (len(role.began), ports.topics(), delivery.acked, ports.crashes) == (3, ["dead", "finished"], [0], [])
    dead = read(ports.sent[0])
    assert dead.body.failure is not None
    assert (dead.body.failure.kind, dead.body.failure.message) == ("bug", "KeyError: 'colour'")
    assert "in act" in dead.body.failure.traceback
    [hop] = dead.body.trail
    assert hop.attempts == 3
    assert hop.notes[:3] == tuple(f"attempt {n}: bug: KeyError: 'colour'" for n in (1, 2, 3))
    assert actor.progress == 3


async def test_a_step_that_succeeds_in_the_end_says_how_often_it_was_tried() -> None:
    outcomes: Iterator[Outcome] = iter([Retry(SLOW), Retry(SLOW, after_seconds=0.0), Forward({"a": 1})])

    async def act(event: Event, state: Cell) -> Outcome:
        return next(outcomes)

    ports = FakePorts()
    await handled(Script(act), ports, deliver(events("a"), "prepare"))
    [hop] = read(ports.sent[0]).body.trail
    assert (hop.attempts, hop.notes) == (3, ("attempt 1: slow: not now", "attempt 2: slow: not now"))


async def test_attempts_that_were_made_elsewhere_count() -> None:
    ports = FakePorts()
    role = Script(giving(Retry(SLOW)))
    await handled(role, ports, deliver(events("a", attempt=3), "prepare"))
    assert (role.began, ports.topics()) == (["a"], ["dead", "finished"])


class Unprintable(Exception):
    """An error that cannot even say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no")


class Panic(BaseException):
    """What native libraries raise: no Exception."""


@pytest.mark.parametrize(
    "error",
    [
        ValueError("\ud800" * 20_000),
        Unprintable(),
        Panic("rust"),
        asyncio.CancelledError(),
        RecursionError(),
        ExceptionGroup("many", [KeyError("a")] * 500),
        TimeoutError("of a database"),
    ],
    ids=["half", "unprintable", "panic", "cancelled", "recursion", "group", "timeout"],
)
async def test_no_error_of_a_step_stops_the_worker(error: BaseException) -> None:
    ports = FakePorts()
    deliveries = deliver(events("a", "b"), "prepare")
    await handled(Script(raising(error)), ports, deliveries)
    assert (ports.topics(), ports.crashes, deliveries[0].acked) == (["dead", "finished"] * 2, [], [0, 1])
    failure = read(ports.sent[0]).body.failure
    assert failure is not None
    assert failure.kind == "bug"
    assert type(error).__name__ in failure.message


@pytest.mark.parametrize(
    "outcome",
    [
        None,
        {"text": "A mug."},
        Forward({"text": float("nan")}),
        Forward({"text": "x" * 5_000_000}),
        Forward(["text"]),  # type: ignore[arg-type]
        Hold("x", {"text": object()}),
        Finish({"text": "\ud800"}),
    ],
    ids=["none", "dict", "nan", "large", "list", "object", "half"],
)
async def test_an_outcome_that_cannot_be_performed_is_a_burial(outcome: Any) -> None:
    ports = FakePorts()
    deliveries = deliver(events("mug-1", "b"), "prepare")
    await handled(Script(giving(outcome)), ports, deliveries)
    assert (ports.topics(), ports.crashes, deliveries[0].acked) == (["dead", "finished"] * 2, [], [0, 1])
    assert read(ports.sent[1]).body.end is End.FAILED


async def test_a_verdict_that_cannot_be_performed_ends_the_task_that_was_held() -> None:
    ports = FakePorts()
    held = an_event(sequence=2)
    verdict = events("mug-1", type="callstream.review.verdict", sequence=3)
    await handled(Script(giving(Resume(held, Forward({"x": float("nan")})))), ports, deliver(verdict, "verdicts"))
    assert ports.topics() == ["dead", "finished"]
    assert (read(ports.sent[0]).sequence, read(ports.sent[1]).body.end) == (2, End.FAILED)


async def test_a_step_that_takes_too_long_is_tried_again() -> None:
    async def act(event: Event, state: Cell) -> Outcome:
        await asyncio.Event().wait()
        raise AssertionError

    ports = FakePorts()
    role = Script(act, timeout_seconds=0.001)
    await handled(role, ports, deliver(events("a"), "prepare"))
    failure = read(ports.sent[0]).body.failure
    assert failure == Failure(kind="timeout", message="'facts' took longer than 0.001 s", step="facts")
    assert len(role.began) == 3


async def test_past_its_deadline_a_task_does_not_start_a_step() -> None:
    ports = FakePorts()
    role = Script(forward)
    await handled(role, ports, deliver(events("a", deadline=ports.time - 1), "prepare"))
    assert (role.began, ports.topics()) == ([], ["dead", "finished"])
    failure = read(ports.sent[0]).body.failure
    assert failure is not None
    said, _, where = failure.message.partition("; ")
    assert (failure.kind, said) == ("deadline", "its deadline passed 1.0 s before 'facts' could start")
    assert where == "its time went into facts (waited 990.0 s)"


async def test_what_only_tells_of_a_task_acts_past_its_deadline() -> None:
    ports = FakePorts()
    role = Script(forward, keeps_deadline=False)
    await handled(role, ports, deliver(events("a", deadline=1.0), "prepare"))
    assert (role.began, ports.topics()) == (["a"], ["infer"])


async def test_what_could_not_be_recorded_ends_no_task() -> None:
    ports = FakePorts()
    role = Script(raising(KeyError("row")), ends_task=False)
    await handled(role, ports, deliver(events("a"), "prepare"))
    assert ports.topics() == ["dead"]


async def test_a_chain_that_nobody_knows_is_buried() -> None:
    ports = FakePorts()
    deliveries = deliver(events("a", chain="nowhere"), "prepare")
    await handled(Script(forward), ports, deliveries)
    failure = read(ports.sent[0]).body.failure
    assert failure == Failure(kind="unknown-chain", message="x" * 2_000, step="prepare")
    assert deliveries[0].acked == [0]


async def test_an_unreadable_record_becomes_a_dead_letter_and_the_next_task_passes() -> None:
    ports = FakePorts()
    deliveries = deliver(events("a", "b"), "prepare")
    deliveries[0].value = b"\xff"
    deliveries[0].headers.append(("x", None))
    await handled(Script(forward), ports, deliveries)
    assert (ports.topics(), deliveries[0].acked) == (["dead", "infer"], [0, 1])
    letter = ports.sent[0]
    assert is_unreadable(letter.headers)
    assert letter.value == b"\xff"
    assert ("ce_subject", b"callstream.prepare/0/0") in letter.headers
    assert ("ce_reason", b"body: not UTF-8 at byte 0") in letter.headers


async def test_a_tombstone_becomes_a_dead_letter_too() -> None:
    ports = FakePorts()
    deliveries = deliver(events("a"), "prepare")
    deliveries[0].value = deliveries[0].key = None
    await handled(Script(forward), ports, deliveries)
    assert ("ce_tombstone", b"true") in ports.sent[0].headers
    assert deliveries[0].acked == [0]


async def test_an_event_in_the_wrong_partition_is_sent_to_its_own_and_not_worked_on() -> None:
    ports = FakePorts(partitions=64)
    role = Script(forward)
    [right] = deliver(events("a"), "prepare")
    wrong = FakeDelivery(encode(an_event(task="a"), right.topic), (63, 0))
    assert ports.partition_of(b"4:acme:a") != 63
    await handled(role, ports, [wrong])
    assert (role.began, ports.topics(), wrong.acked) == ([], ["prepare"], [0])
    assert (ports.sent[0].key, ports.sent[0].value) == (right.key, right.value)


async def test_what_another_service_answers_for_is_left_to_it() -> None:
    ports = FakePorts(partitions=64)
    unreadable, misplaced = deliver(events("a", "a"), "infer")
    unreadable.value = b"?"
    misplaced.partition = 63
    handed: list[Delivery] = []

    async def look(delivery: Delivery) -> None:
        handed.append(delivery)

    actor = an_actor(Script(forward), ports)
    actor.handling.observed, actor.handling.unreadable = frozenset({"callstream.infer"}), look
    await actor.run(stream([unreadable, misplaced]))
    assert await actor.drain(5.0)
    assert (ports.sent, unreadable.acked, handed) == ([], [0, 1], [unreadable])


async def test_a_revocation_cancels_what_runs_and_nothing_is_acknowledged_after() -> None:
    gates, ports = Gates(), FakePorts()
    role = Script(gates)
    deliveries = deliver(events("a", "b"), "prepare")
    actor = an_actor(role, ports)
    await actor.run(stream(deliveries))
    gates["b"].set()
    await settled()
    actor.revoke()
    gates["a"].set()
    await settled()
    assert (role.running, actor.snapshot().running, len(ports.sent)) == (0, 0, 1)
    assert (deliveries[0].acked, ports.crashes) == ([], [])


async def test_a_step_that_will_not_be_cancelled_is_not_acknowledged_either() -> None:
    async def act(event: Event, state: Cell) -> Outcome:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return Forward({"anyway": 1})
        raise AssertionError

    ports = FakePorts()
    deliveries = deliver(events("a"), "prepare")
    actor = an_actor(Script(act), ports)
    await actor.run(stream(deliveries))
    await settled()
    ports.lose()
    actor.revoke()
    await settled()
    assert (ports.sent, deliveries[0].acked, ports.crashes, actor.snapshot().running) == ([], [], [], 0)


async def test_events_that_come_again_after_a_revocation_are_worked_on_again() -> None:
    gates, ports = Gates(), FakePorts()
    deliveries = deliver(events("a", "b"), "prepare")
    actor = an_actor(Script(gates), ports, concurrency=2)
    source: asyncio.Queue[Delivery] = asyncio.Queue()
    run = asyncio.create_task(actor.run(queued(source)))
    for delivery in deliveries:
        source.put_nowait(delivery)
    await settled()
    actor.revoke()
    again = deliver(events("a", "b"), "prepare")
    for delivery in again:
        source.put_nowait(delivery)
    await settled()
    gates["a"].set()
    gates["b"].set()
    await settled()
    assert (deliveries[0].acked, again[0].acked) == ([], [0, 1])
    run.cancel()


async def test_a_record_that_comes_again_without_a_revocation_is_worked_on_once() -> None:
    ports = FakePorts()
    role = Script(forward)
    deliveries = deliver(events("a", "b"), "prepare")
    await handled(role, ports, [*deliveries, *deliveries])
    assert (role.began, deliveries[0].acked) == (["a", "b"], [0, 1])


async def test_a_revocation_before_an_event_began_gives_its_room_back() -> None:
    ports = FakePorts()
    role = Script(forward)
    actor = an_actor(role, ports, concurrency=1)
    run = asyncio.create_task(actor.run(stream(deliver(events("a", "b"), "prepare"))))
    await asyncio.sleep(0)
    assert (actor.snapshot().running, role.began) == (1, [])
    actor.revoke()
    await asyncio.wait_for(run, 5)
    await settled()
    assert actor.snapshot().running == 0
    assert role.began[-1:] == ["b"]


async def test_a_revocation_wakes_a_loop_that_waits_for_the_ledger() -> None:
    ports = FakePorts()
    lost = iter([LostOwnership("gone")])

    async def act(event: Event, state: Cell) -> Outcome:
        if (error := next(lost, None)) is not None:
            raise error
        return Forward({"a": 1})

    role = Script(act)
    actor = an_actor(role, ports, max_unfinished=1)
    run = asyncio.create_task(actor.run(stream(deliver(events("a", "b"), "prepare"))))
    await settled()
    assert not run.done()
    actor.revoke()
    await asyncio.wait_for(run, 5)
    await settled()
    assert role.began == ["a", "b"]


async def test_work_that_is_refused_in_an_assignment_that_stands_ends_the_worker() -> None:
    # given a worker that must take its partitions for lost, though no revocation has told it so
    ports = FakePorts()
    deliveries = deliver(events("a"), "prepare")
    ports.lose()
    # when it has worked on an event
    await handled(Script(forward), ports, deliveries)
    # then nothing came of it, and the worker ends: nobody else would be given this event
    assert (ports.sent, deliveries[0].acked) == ([], [])
    assert [type(crash) for crash in ports.crashes] == [LostOwnership]


async def test_a_row_that_another_worker_owns_stops_the_event_and_is_no_retry() -> None:
    async def act(event: Event, state: Cell) -> Outcome:
        ports.lose()
        await state.save({"a": 1})
        return Forward()

    ports = FakePorts()
    role = Script(act, stateful=True)
    deliveries = deliver(events("a"), "prepare")
    await handled(role, ports, deliveries)
    assert (role.began, ports.sent, deliveries[0].acked) == (["a"], [], [])


async def test_a_log_that_takes_nothing_ends_the_worker_and_acknowledges_nothing() -> None:
    ports = FakePorts()
    ports.refuse("infer")
    deliveries = deliver(events("a", "b"), "prepare")
    await handled(Script(forward), ports, deliveries)
    assert (ports.sent, deliveries[0].acked) == ([], [])
    assert [type(crash) for crash in ports.crashes] == [LogUnavailable, LogUnavailable]


async def test_a_send_that_is_cancelled_ends_the_worker() -> None:
    class Stopped(FakePorts):
        async def send(self, record: Record, delivery: Delivery) -> None:
            raise asyncio.CancelledError

    ports = Stopped()
    deliveries = deliver(events("a"), "prepare")
    actor = an_actor(Script(forward), ports)
    await actor.run(stream(deliveries))
    await settled()
    assert (len(ports.crashes), deliveries[0].acked) == (1, [])


async def test_a_handover_begins_nothing_and_lets_what_runs_be_acknowledged() -> None:
    gates, ports = Gates(), FakePorts()
    role = Script(gates)
    deliveries = deliver(events("a", "b", "c"), "prepare")
    source: asyncio.Queue[Delivery] = asyncio.Queue()
    actor = an_actor(role, ports)
    run = asyncio.create_task(actor.run(queued(source)))
    source.put_nowait(deliveries[0])
    await settled()
    handover = asyncio.create_task(actor.hand_over(5.0))
    await settled()
    source.put_nowait(deliveries[1])
    gates["a"].set()
    assert await handover
    await settled()
    assert (role.began, deliveries[0].acked) == (["a"], [0])
    actor.revoke()
    source.put_nowait(deliveries[2])
    await settled()
    assert role.began == ["a", "c"]
    run.cancel()


async def test_a_handover_waits_no_longer_than_it_may() -> None:
    ports = FakePorts()
    deliveries = deliver(events("a"), "prepare")
    actor = an_actor(Script(Gates()), ports)
    await actor.run(stream(deliveries))
    await settled()
    assert not await actor.hand_over(0.001)
    actor.revoke()
    await settled()
    assert (deliveries[0].acked, actor.snapshot().running) == ([], 0)


async def test_a_drain_takes_nothing_more_and_lets_what_runs_finish() -> None:
    gates, ports = Gates(), FakePorts()
    role = Script(gates)
    deliveries = deliver(events("a", "b"), "prepare")
    actor = an_actor(role, ports, concurrency=1)
    run = asyncio.create_task(actor.run(stream(deliveries)))
    await settled()
    draining = asyncio.create_task(actor.drain(5.0))
    await settled()
    gates["a"].set()
    assert await draining
    await run
    assert (role.began, deliveries[0].acked) == (["a"], [0])


async def test_a_drain_cancels_what_takes_longer_and_leaves_it_unacknowledged() -> None:
    ports = FakePorts()
    deliveries = deliver(events("a"), "prepare")
    actor = an_actor(Script(Gates()), ports)
    await actor.run(stream(deliveries))
    await settled()
    assert not await actor.drain(0.0)
    assert (ports.sent, deliveries[0].acked, ports.crashes, actor.snapshot().running) == ([], [], [], 0)


async def test_events_of_one_task_take_turns_where_a_row_is_kept() -> None:
    gates, ports = Gates(), FakePorts()
    role = Script(gates, stateful=True)
    actor = an_actor(role, ports)
    await actor.run(stream(deliver(events("a", "a", "b"), "prepare")))
    await settled()
    assert sorted(role.began) == ["a", "b"]
    ports.hold()
    gates["a"].set()
    await settled()
    assert (sorted(role.began), ports.waiting) == (["a", "b"], 1)
    ports.release()
    await settled()
    assert sorted(role.began) == ["a", "a", "b"]
    gates["b"].set()
    assert await actor.drain(5.0)


async def test_without_a_row_they_do_not_wait_for_each_other() -> None:
    gates, ports = Gates(), FakePorts()
    role = Script(gates)
    actor = an_actor(role, ports)
    await actor.run(stream(deliver(events("a", "a"), "prepare")))
    await settled()
    assert role.began == ["a", "a"]
    gates["a"].set()
    assert await actor.drain(5.0)


async def timed(outcome: Outcome, event: Event, held: float | None = 5.0, **policy: Any) -> tuple[FakePorts, Event]:
    """What an event is sent as whose act gives that outcome; it is acknowledged by then."""
    ports = FakePorts()
    [delivery] = deliver([event], "prepare")
    await handled(Script(giving(outcome), held_pause_seconds=held, **policy), ports, [delivery])
    assert delivery.acked == [0]
    [record] = [record for record in ports.sent if record.topic != "callstream.dead"]
    return ports, read(record)


async def test_a_long_pause_is_left_to_the_timer_with_what_was_tried() -> None:
    ports, event = await timed(Retry(SLOW, 30.0), an_event())
    assert ports.topics() == ["timer"]
    headers = dict(ports.sent[0].headers)
    assert headers["callstream-destination"] == b"callstream.prepare"
    assert headers["callstream-due"] == b"1030000000"
    assert (event.type, event.attempt, event.sequence) == ("callstream.task.waiting", 2, 1)
    assert event.body.waiting == Waiting(
        reason=WaitReason.RETRY,
        until=1_030.0,
        started=1_000.0,
        attempts=1,
        failure=SLOW,
        notes=("attempt 1: slow: not now",),
    )


async def test_it_comes_back_to_the_topic_that_the_policy_names() -> None:
    ports, _ = await timed(Retry(SLOW, 30.0), an_event(), comes_back_to="callstream.elsewhere")
    assert dict(ports.sent[0].headers)["callstream-destination"] == b"callstream.elsewhere"


async def test_what_comes_back_from_the_timer_goes_on_where_it_was() -> None:
    _, waiting = await timed(Retry(SLOW, 30.0), an_event())
    back = replace(waiting, type="callstream.task")
    # once it is done, the hop tells of all tries, and nothing waits
    _, event = await timed(Forward(), back)
    [hop] = event.body.trail
    assert (hop.started, hop.attempts, hop.notes) == (1_000.0, 2, ("attempt 1: slow: not now",))
    assert event.body.waiting is None
    # else it waits again, and the last attempt is the last one
    _, again = await timed(Retry(SLOW, 30.0), back)
    ports, dead = await timed(Retry(SLOW, 30.0), replace(again, type="callstream.task"))
    assert ports.topics() == ["dead", "finished"]
    assert (dead.body.trail[-1].attempts, len(dead.body.trail[-1].notes), dead.body.waiting) == (3, 4, None)


async def test_an_attempt_past_the_deadline_is_not_waited_for() -> None:
    ports, event = await timed(Retry(SLOW, 30.0), an_event(deadline=1_010.0))
    assert ports.topics() == ["dead", "finished"]
    assert event.body.failure is not None
    assert event.body.failure.kind == "deadline"


async def test_what_keeps_no_deadline_waits_in_full_past_it() -> None:
    _, event = await timed(Retry(SLOW, 30.0), an_event(deadline=990.0), keeps_deadline=False)
    assert event.body.waiting is not None
    assert event.body.waiting.until == 1_030.0


async def test_the_time_with_the_timer_went_into_what_had_to_be_repeated() -> None:
    _, waiting = await timed(Retry(SLOW, 30.0), an_event())
    back = replace(waiting, type="callstream.task")
    ports = FakePorts()
    ports.time = 1_030.0
    await handled(Script(forward), ports, deliver([back], "prepare"))
    [hop] = read(ports.sent[0]).body.trail
    assert (hop.started, hop.ended, hop.retried, hop.waited) == (1_000.0, 1_030.0, 30.0, 0.0)


@pytest.mark.parametrize(("held", "pause"), [(5.0, 0.0), (None, 0.01)])
async def test_a_short_pause_and_one_of_a_service_without_timer_is_held(held: float | None, pause: float) -> None:
    ports, _ = await timed(Retry(SLOW, pause), an_event(), held)
    assert ports.topics() == ["dead", "finished"]


async def test_an_event_too_large_for_what_was_tried_waits_where_it_is() -> None:
    full = an_event(outputs={"big": {"text": "x" * (MAX_BODY_BYTES - 250)}})
    ports, _ = await timed(Retry(SLOW, 0.01), full, held=0.0)
    assert "timer" not in ports.topics()


async def test_many_records_of_one_event_are_sent_side_by_side_and_the_last_one_after_them() -> None:
    # Given a step that starts many sub-tasks
    chains = Chains([Chain("shop", Input, (Say("facts", "prepare"), Join()))])
    ports = FakePorts()
    role = Script(giving(FanOut([Subtask("shop", {}) for _ in range(150)])))
    actor = Actor(role, ports, chains, concurrency=1, max_unfinished=1)
    ports.hold()
    [delivery] = deliver(events("a"), "prepare")
    running = asyncio.create_task(actor.run(stream([delivery])))
    await settled()
    # when the log takes its time, then many wait for it at once
    assert ports.waiting == 64
    ports.release()
    await running
    assert await actor.drain(5)
    # and the task itself comes last
    assert ports.topics() == ["intake"] * 150 + ["join"]
    assert delivery.acked == [0]


async def test_where_one_of_many_records_is_not_taken_the_event_stays() -> None:
    chains = Chains([Chain("shop", Input, (Say("facts", "prepare"), Join()))])
    ports = FakePorts()
    ports.refuse("intake")
    role = Script(giving(FanOut([Subtask("shop", {}) for _ in range(9)])))
    actor = Actor(role, ports, chains, concurrency=1, max_unfinished=1)
    [delivery] = deliver(events("a"), "prepare")
    actor_run = asyncio.create_task(actor.run(stream([delivery])))
    await settled()
    assert (delivery.acked, ports.sent) == ([], [])
    assert [type(error) for error in ports.crashes] == [LogUnavailable]
    actor_run.cancel()
