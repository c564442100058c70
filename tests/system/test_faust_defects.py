"""A test for each defect of Faust that one service on a real broker shows: it fails when the way round it is taken out.

A broker that stands still: `test_deliveries.py`; a second worker, or one that dies: `test_engine.py`; tables:
`test_tables.py`. Once an upgrade makes a test of bare Faust fail, the way round that defect can go.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, cast

import faust
import pytest
import pytest_asyncio
from pydantic import ValidationError

from callstream.agents.intake import Intake
from callstream.streams.chain import Cell, Chain, Chains
from callstream.streams.declare import TopicsDiffer, declare
from callstream.streams.engine_options import EngineOptions
from callstream.streams.event import Event, Submission
from callstream.streams.keys import partition_of
from callstream.streams.outcome import Forward, Outcome
from callstream.streams.submission import Order, new_event
from callstream.streams.topics import DEAD, TopicPlan, topic_of
from callstream.streams.wire import decode, encode
from tests.support.bench import Bench, listening
from tests.support.kafka import Send, committed, create_topics, partitions_of, produce, producer_ids, read_all
from tests.support.services import (
    OPTIONS,
    PARTITIONS,
    RETENTION_SECONDS,
    TENANT,
    Acting,
    AnyInput,
    Workshop,
    changelog,
    declare_for,
    next_of,
    pass_on,
    running,
    step_event,
    submit,
    submit_in_transaction,
    table_of,
    unique,
    until,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def workshop(kafka_broker: str, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Builds services on the shared broker."""
    return Workshop(kafka_broker, tmp_path_factory.mktemp("defects"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(workshop: Workshop) -> AsyncIterator[Bench]:
    """The service that most tests share."""
    bench = Bench(workshop)
    bench.service = await workshop.build(unique("bench"), bench.act, remembers=True)
    # As `faust worker` does, whatever the app's own settings are.
    bench.service.app.conf.web_enabled = True
    async with running(bench.service):
        yield bench


async def test_1_a_commit_never_passes_unfinished_work(bench: Bench) -> None:
    # given an event that is still worked on
    first, second, third = bench.tasks(1, 3)
    gate = bench.hold(first)
    before = bench.service.actor.finished
    offsets = [await bench.service.submit(task) for task in (first, second, third)]
    # when those behind it are finished
    await bench.finished(before, 2)
    # then nothing past it is committed, until it is finished too
    assert await bench.service.committed(1) <= offsets[0]
    gate.set()
    await bench.commits_to(1, offsets[2] + 1)


async def test_2_an_event_behind_a_gap_in_the_offsets_counts_only_when_it_is_finished(bench: Bench) -> None:
    # given a gap: the marker of another's transaction; and an event behind it that is still worked on
    *before_gap, behind_gap, last = bench.tasks(2, 4)
    gate = bench.hold(behind_gap)
    before = bench.service.actor.finished
    await submit_in_transaction(
        bench.service.bootstrap, bench.service.service, list(map(bench.service.event, before_gap))
    )
    await bench.finished(before, 2)
    held = await bench.service.submit(behind_gap)
    end = await bench.service.submit(last)
    # when the one behind that is finished
    await bench.finished(before, 3)
    # then the commit stays below the one that isn't
    assert await bench.service.committed(2) <= held
    gate.set()
    await bench.commits_to(2, end + 1)


async def test_1_2_bare_faust_still_has_these_defects(workshop: Workshop, tmp_path: Path) -> None:
    # given Faust as it comes, an agent that acknowledges by hand, and one that raises
    name = unique("bare")
    await create_topics(workshop.bootstrap, {name: 3})
    await produce(workshop.bootstrap, name, [Send(b"", partition=0) for _ in range(3)])
    chain = "chain-" + name
    in_gap = [step_event(chain, "t", {}) for _ in range(2)]
    await create_topics(workshop.bootstrap, {topic_of(name): PARTITIONS})
    await submit_in_transaction(workshop.bootstrap, name, in_gap)
    for _ in range(2):
        await submit(workshop.bootstrap, name, in_gap[0])
    gap = partition_of(in_gap[0].key, PARTITIONS)
    app = faust.App(
        name,
        broker=f"kafka://{workshop.bootstrap}",
        datadir=str(tmp_path),
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        broker_commit_interval=0.2,
        stream_wait_empty=False,
    )
    plain = app.topic(name, value_type=bytes, value_serializer="raw")
    gapped = app.topic(topic_of(name), value_type=bytes, value_serializer="raw", key_serializer="raw")
    taken: list[Any] = []
    behind: list[Any] = []

    @app.agent(plain)
    async def hold(stream: Any) -> None:
        async for event in stream.noack().events():
            taken.append(event)  # noqa: PERF401  # one by one, as they come

    @app.agent(gapped)
    async def hold_too(stream: Any) -> None:
        async for event in stream.noack().events():
            behind.append(event)  # noqa: PERF401

    app.finalize()
    starting = asyncio.create_task(app.start())
    try:
        await until(lambda: len(taken) == 3 and len(behind) == 4, "bare Faust has taken all events")
        # when the second and third are acknowledged, not the first; and the last one behind a gap, not the one before
        taken[1].ack()
        taken[2].ack()
        behind[0].ack()
        behind[1].ack()
        await app.consumer.commit()
        behind[3].ack()
        await app.consumer.commit()
        # then both partitions are committed past what is unfinished
        offsets = {(tp.topic, tp.partition): at for tp, at in (await committed(workshop.bootstrap, name)).items()}
        assert offsets[name, 0] == 3
        assert offsets[topic_of(name), gap] == behind[3].message.offset + 1
    finally:
        await app.stop()
        starting.cancel()


async def test_3_an_exception_in_act_neither_acknowledges_nor_restarts_anything(bench: Bench) -> None:
    # given an event that is worked on, one whose act raises once, and one whose act always does
    held, once, always = bench.tasks(3, 3)
    gate = bench.hold(held)

    async def raise_once(event: Event, _state: Cell) -> Outcome:
        if event.attempt == 1:
            raise RuntimeError("once")
        return Forward({"attempt": event.attempt})

    async def raise_always(_event: Event, _state: Cell) -> Outcome:
        raise asyncio.CancelledError("what it waited for was cancelled")

    bench.acts |= {once: raise_once, always: raise_always}
    before = bench.service.actor.finished
    offsets = [await bench.service.submit(task) for task in (held, once, always)]
    # when they were tried
    await bench.finished(before, 2)
    # then the first one is still worked on, in its first and only run, and nothing is committed past it
    assert await bench.service.committed(3) <= offsets[0]
    gate.set()
    await bench.commits_to(3, offsets[2] + 1)
    assert (bench.begun[held], bench.begun[once], bench.begun[always]) == (1, 2, 3)
    # and the one has gone on, the other is a dead letter
    passed = {one.task for one in [decode(record.value, record.headers) for record in await bench.service.passed()]}
    assert {held, once} <= passed
    assert always not in passed
    letters = await read_all(bench.service.bootstrap, topic_of(DEAD))
    mine = [letter.key for letter in letters if ("ce_chain", bench.service.chain.encode()) in letter.headers]
    assert mine == [bench.service.event(always).key]


async def test_6_the_producer_is_idempotent(bench: Bench) -> None:
    # given an event that was passed on, and a row that was saved
    (task,) = bench.tasks(4, 1)

    async def save_and_pass(_event: Event, state: Cell) -> Outcome:
        await state.save({"kept": True})
        return Forward()

    bench.acts[task] = save_and_pass
    offset = await bench.service.submit(task)
    await bench.commits_to(4, offset + 1)
    # then every batch on either topic bears a producer's id, by which the broker drops what is sent twice
    for topic in (topic_of(next_of(bench.service.service)), changelog(bench.service.service)):
        ids = await producer_ids(bench.service.bootstrap, topic)
        assert ids
        assert min(ids) > -1
    # and waits for all replicas
    real = cast(Any, bench.service.app.producer)._producer
    assert real._txn_manager is not None
    assert real._sender._acks == -1


async def test_7_a_duplicate_gives_again_what_was_decided(workshop: Workshop) -> None:
    # given an intake whose clock moves on, and a submission without a time of its own
    name = unique("intake")
    chain = Chain("chain-" + name, AnyInput, (Acting("first", next_of(name), pass_on),))
    chains = Chains([chain])
    await declare_for(workshop.bootstrap, Chains([chain, Chain(name, AnyInput, (Acting("x", name, pass_on, True),))]))
    app = workshop.app(name)
    clock = count(1_000)
    intake = workshop.join(app, Intake(chains, lambda: float(next(clock))), table_of(app), chains, (name,), chain.name)
    submission = replace(new_event(Submission(chain=chain.name, input={"a": 1}), Order(TENANT, "t1"), 1.0), time=0.0)
    async with running(intake):
        # when it comes twice, as it does after a crash between its row and its event
        for _ in range(2):
            await submit(workshop.bootstrap, name, submission)
        await until(lambda: intake.actor.finished == 2, "both are finished")
    # then the chain was started twice by the very same event, but for what traces each time
    first, second = [decode(record.value, record.headers) for record in await intake.passed()]
    assert untraced(first) == untraced(second)
    assert (first.id, first.time) == (second.id, 1_000.0)


async def test_15_a_thousand_changes_of_a_table_hold_up_no_other_event(bench: Bench) -> None:
    # given a thousand rows that are being written
    service = bench.service
    claim = service.app.ownership.claim(5)
    writes = [asyncio.create_task(service.memory.write(claim, b"k%d" % n, b"{}")) for n in range(1_000)]
    await asyncio.sleep(0)
    assert not any(one.done() for one in writes)
    # when the conductor asks, as it does before each event, whether it has to wait until they are sent
    buffer = cast(Any, service.app.producer).buffer
    waiting = buffer.size
    await buffer.wait_until_ebb()
    # then it has not
    assert buffer.size == waiting
    await asyncio.gather(*writes)


async def test_16_an_undecodable_record_becomes_a_dead_letter_and_the_partition_moves_on(bench: Bench) -> None:
    # given records that are no events, and a good one behind them
    (good,) = bench.tasks(6, 1)
    bad = [Send(b"\xff\x00 not JSON", b"\xfe", [("x", b"\x80")], 6), Send(None, b"key", (), 6)]
    placed = await produce(bench.service.bootstrap, bench.service.topic, bad)
    offset = await bench.service.submit(good)
    # when they have been read
    await bench.commits_to(6, offset + 1)
    # then the good one was worked on
    assert good in bench.done
    # and each bad one is a dead letter with its bytes, headers, place and reason
    letters = {
        dict(one.headers).get("ce_subject"): one for one in await read_all(bench.service.bootstrap, topic_of(DEAD))
    }
    first, second = (letters[f"{bench.service.topic}/{partition}/{at}".encode()] for partition, at in placed)
    told = dict(first.headers)
    assert (first.key, first.value, told["was_x"]) == (b"\xfe", b"\xff\x00 not JSON", b"\x80")
    assert b"missing" in told["ce_reason"]
    assert (second.value, dict(second.headers)["ce_tombstone"]) == (b"", b"true")


async def test_17_no_web_server_of_faust_listens(bench: Bench) -> None:
    # given a running service that was told to serve, as `faust worker` tells it: no socket of this process listens
    assert bench.service.app.conf.web_enabled
    assert listening() == []


async def test_18_foreign_faust_headers_have_no_effect(bench: Bench) -> None:
    # given an event with headers by which Faust lets its sender choose a reply topic, and a class's name in the input
    (task,) = bench.tasks(7, 1)
    lure = unique("lure")
    await create_topics(bench.service.bootstrap, {lure: 1})
    record = encode(bench.service.event(task, __faust={"ns": "faust.Record"}), bench.service.topic)
    foreign = [("Faust-Ag-ReplyTo", lure.encode()), ("Faust-Ag-CorrelationId", b"1"), ("__faust", b"x")]
    given: list[Event] = []

    async def keep(event: Event, _state: Cell) -> Outcome:
        given.append(event)
        return Forward()

    bench.acts[task] = keep
    send = Send(record.value, record.key, [*record.headers, *foreign], 7)
    ((_, offset),) = await produce(bench.service.bootstrap, record.topic, [send])
    # when it was worked on
    await bench.commits_to(7, offset + 1)
    # then it is data like any other, no one was answered, and the headers have gone
    assert given[0].input == {"__faust": {"ns": "faust.Record"}}
    assert await read_all(bench.service.bootstrap, lure) == []
    (passed,) = [one for one in await bench.service.passed() if one.key == record.key]
    assert {name for name, _ in passed.headers if not name.startswith("ce_")} == {"content-type"}


async def test_19_without_compiled_extensions_nothing_starts() -> None:
    # given an environment in which Faust runs its pure-Python streams
    code = "from callstream.streams.engine import require_compiled_streams as check; check()"
    environment = {**os.environ, "NO_CYTHON": "1"}
    # when an app is to be made
    done = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code), env=environment, stderr=asyncio.subprocess.PIPE
    )
    _, said = await done.communicate()
    # then that is refused, saying what to do
    assert done.returncode != 0
    assert b"EngineUnfit" in said
    assert b"unset NO_CYTHON" in said


async def test_19_an_app_checks_for_them(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_CYTHON", "1")
    with pytest.raises(Exception, match="unset NO_CYTHON"):
        workshop.app(unique("slow"))


async def test_21_the_backlog_of_one_topic_does_not_stop_another(workshop: Workshop) -> None:
    # given a service with two topics, and on one of them more than its buffer holds, all of it stuck
    gate = asyncio.Event()
    done: set[str] = set()

    async def act(event: Event, _state: Cell) -> Outcome:
        if event.input.get("stuck"):
            await gate.wait()
        done.add(event.task)
        return Forward()

    name, other = unique("lanes"), unique("lane")
    options = OPTIONS.model_copy(update={"concurrency": 4, "poll_records": 100, "buffer_records": 500})
    await create_topics(workshop.bootstrap, {topic_of(other): PARTITIONS})
    service = await workshop.build(name, act, options=options, beside=(other,))
    backlog = [encode(service.event(f"b{n}", stuck=True), service.topic) for n in range(2 * options.buffer_records)]
    sends = [Send(one.value, one.key, one.headers, partition_of(one.key, PARTITIONS)) for one in backlog]
    await produce(workshop.bootstrap, service.topic, sends)
    async with running(service):
        buffer = next(iter(service.app.agents.values())).channel
        await until(lambda: len(service.actor._running) >= 4, "the first topic has taken all places")
        await until(lambda: service.app.consumer._buffered_partitions, "Faust has paused what overflows")  # type: ignore[attr-defined]
        assert buffer is not None
        # when an event comes on the other topic
        await submit(workshop.bootstrap, other, service.event("urgent"))
        # then it is done while all of the first topic stands still
        await until(lambda: "urgent" in done, "the other topic's event is done")
        assert done == {"urgent"}
        gate.set()
        await until(lambda: len(done) == 1 + len(backlog), "the backlog is done")


async def test_21_settings_that_could_overflow_a_buffer_are_refused() -> None:
    with pytest.raises(ValidationError, match="a fifth of buffer_records"):
        EngineOptions(poll_records=1_000)


async def test_22_a_topic_that_differs_is_said_and_nothing_changes(workshop: Workshop) -> None:
    # given a topic with other partitions and retention than the settings say, and one that is missing
    name, missing = unique("declared"), unique("missing")
    await create_topics(workshop.bootstrap, {topic_of(name): 3}, {"retention.ms": "1000"})
    plans = [TopicPlan(topic_of(one), PARTITIONS, 1, RETENTION_SECONDS) for one in (missing, name)]
    # when both are declared
    with pytest.raises(TopicsDiffer) as refusal:
        await declare(workshop.bootstrap, plans)
    # then the difference is named, and nothing was done
    assert f"topic {topic_of(name)} has 3 partitions, not {PARTITIONS}" in str(refusal.value)
    assert "retention.ms is 1000, not 604800000" in str(refusal.value)
    assert len(await partitions_of(workshop.bootstrap, topic_of(name))) == 3
    with pytest.raises(LookupError):
        await partitions_of(workshop.bootstrap, topic_of(missing))


async def test_22_all_topics_are_there_before_a_service_starts(workshop: Workshop) -> None:
    # when a service's chain is declared, and not yet started
    service = await workshop.build(unique("early"), pass_on, remembers=True)
    # then its own topic, the next one's and its changelog exist, all cut alike
    for topic in (service.topic, topic_of(next_of(service.service)), changelog(service.service)):
        assert len(await partitions_of(workshop.bootstrap, topic)) == PARTITIONS


async def test_23_a_data_folder_is_made_with_its_parents(bench: Bench) -> None:
    # given a service whose data folder had no parents, now running
    folder = bench.workshop.folder / "one" / "tables" / bench.service.service
    # then its databases are there
    found = await asyncio.to_thread(lambda: list(folder.rglob("*.db")))
    assert len(found) == PARTITIONS


def untraced(event: Event) -> Event:
    """The event without its trail and trace."""
    return replace(event.with_body(trail=()), traceparent=None)
