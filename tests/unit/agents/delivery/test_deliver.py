import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from callstream.agents.delivery import Away, Deliver, Latest, SinkOptions, Sinks, TopicSink, UnknownSink
from callstream.agents.delivery.fakes import MemorySink
from callstream.agents.inference.admission.report import Reports
from callstream.agents.settle import Work, settle
from callstream.streams.chain import Chain, Chains
from callstream.streams.event import TASK_UNDO, Body, End, Event, Submission, Undoing
from callstream.streams.outcome import Bury, Forward, Outcome, Retry
from callstream.streams.wire import Record
from tests.support.delivering import NoCell
from tests.support.events import Input


class Tools:
    """As much of the worker's tools as delivery takes."""

    def __init__(self) -> None:
        self.sinks = Sinks({"events": SinkOptions(kind="topic", topic="shop.copy")})

    @property
    def database(self) -> AsyncEngine:
        raise AssertionError("no database is used")


def event(task: str = "mug-1", **given: Any) -> Event:
    body = Body(submission=Submission(chain="shop", input={"text": "A mug."} | given), digest="0" * 64)
    return Event(tenant="acme", task=task, chain="shop", version=1, sequence=1, body=body, time=9.0)


def row(event: Event) -> dict[str, Any]:
    return {"key": event.input.get("key", "mug"), "value": {"text": event.input["text"]}}


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@pytest.fixture
async def tools() -> AsyncIterator[Tools]:
    tools = Tools()
    yield tools
    await tools.sinks.close()


Opened = Callable[..., Any]


@pytest.fixture
def opened(tools: Tools) -> Opened:
    async def opened(sink: Any, **more: Any) -> Deliver:
        step = Deliver(sink=sink, row=row, **more)
        await step.open(tools)
        return step

    return opened


def act(step: Deliver, given: Event) -> Any:
    return step.act(given, NoCell())


async def test_it_writes_once_and_takes_back(opened: Opened, sink: MemorySink) -> None:
    step = await opened(sink, undoes=True)
    for _ in range(2):
        assert await act(step, event()) == Forward({"key": "mug"})
    assert sink.value("acme", "mug") == {"text": "A mug."}
    assert await step.was_done(event())
    assert await step.undo(event(), NoCell()) == Forward(notes=("'mug' is as it was before",))
    assert await step.undo(event(), NoCell()) == Forward(notes=("nothing to undo",))
    assert sink.value("acme", "mug") is None
    assert not await step.was_done(event())


@pytest.mark.parametrize("given", [{"key": ""}, {"key": "x" * 201}, {"text": float("nan")}, {"text": "x" * 1_100_000}])
async def test_what_cannot_be_written_is_buried(opened: Opened, sink: MemorySink, given: dict[str, Any]) -> None:
    outcome = await act(await opened(sink), replace(event(), body=event(**given).body))
    assert isinstance(outcome, Bury)
    assert outcome.failure.kind == "sink-row"
    assert len(outcome.failure.message) <= 500


async def test_a_sandbox_writes_nothing_and_a_rehearsal_says_what_it_would(opened: Opened, sink: MemorySink) -> None:
    step = await opened(sink)
    outcome = await act(step, replace(event(), sandbox=True))
    assert outcome.output == {"key": "mug", "would_write": {"text": "A mug."}}
    assert outcome.notes == ("sandbox: 'mug' was not written",)
    assert await step.rehearse(event()) == {
        "would_write": {"tenant": "acme", "key": "mug", "value": {"text": "A mug."}}
    }
    assert (await step.rehearse(event(key="")))["would_fail"]["kind"] == "sink-row"
    assert sink.calls == 0


async def test_a_store_that_is_away_is_waited_for(opened: Opened, sink: MemorySink) -> None:
    step, sink.away = await opened(sink), Away("gone")
    first = await act(step, event())
    assert isinstance(first, Retry)
    assert (first.failure.kind, first.failure.message) == ("sink", "gone")
    # the next ones do not try, but one whose deadline is over is not held any longer
    waiting = asyncio.create_task(act(step, event("mug-2")))
    late = await act(step, replace(event("mug-3"), deadline=1.0))
    assert isinstance(late, Retry)
    assert "away until the deadline: gone" in late.failure.message
    assert (sink.calls, waiting.done()) == (1, False)
    waiting.cancel()


async def test_an_undo_of_what_no_row_can_be_made_of_has_nothing_to_undo(opened: Opened, sink: MemorySink) -> None:
    step = await opened(sink, undoes=True)
    bare = replace(event(), body=Body(submission=Submission(chain="shop", input={}), digest="0" * 64))
    assert await step.undo(bare, NoCell()) == Forward(notes=("nothing to undo",))
    assert not await step.was_done(bare)


async def test_a_sink_that_is_not_set_is_named_with_those_that_are(opened: Opened) -> None:
    with pytest.raises(UnknownSink, match=r"'shop'.*There are: events"):
        await opened("shop")


async def test_two_steps_share_the_way_to_a_store(opened: Opened, sink: MemorySink, tools: Tools) -> None:
    first, second = await opened(sink), await opened(sink, name="other")
    await asyncio.gather(act(first, event()), act(second, event(key="jug")))
    sink.away = Away("gone")
    assert not tools.sinks.resting
    assert isinstance(await act(first, event("mug-2")), Retry)
    assert tools.sinks.resting


async def test_a_gateway_hears_which_tasks_wait_for_a_store(opened: Opened, sink: MemorySink, tools: Tools) -> None:
    step, reports = await opened(sink), Reports()
    sink.away = Away("gone")
    await act(step, event())
    waiting = asyncio.create_task(act(step, event("mug-2")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    reports.hear("a:1 deliver", tools.sinks.report(), 0.0)
    why = reports.why("acme", "mug-2", 1.0)
    assert why is not None
    assert (why["reason"], why["sink"].split()[0], why["replica"]) == ("away", "MemorySink", "a:1 deliver")
    assert reports.why("acme", "mug-1", 1.0) is None
    waiting.cancel()


def settled(step: Deliver, given: Event, outcome: Outcome) -> list[Record]:
    chains = Chains([Chain("shop", Input, (step,))])
    return settle(given, outcome, Work("deliver", "deliver", 1.0, 2.0), chains)


async def test_a_topic_has_its_record_before_the_task_goes_on(opened: Opened) -> None:
    step, latest = await opened("events", undoes=True), Latest()
    written, ended = settled(step, event(), await act(step, event()))
    assert (written.topic, ended.topic) == ("shop.copy", "callstream.finished")
    latest.take(written.key, written.value, written.headers)
    assert latest.value("acme", "mug") == {"text": "A mug."}
    # and the one that takes it back before the task ends
    undoing = event().with_body(undoing=Undoing(step=1, end=End.FAILED))
    undone = await step.undo(undoing, NoCell())
    withdrawn, *_ = settled(step, replace(undoing, type=TASK_UNDO), undone)
    assert withdrawn.key == written.key
    latest.take(withdrawn.key, withdrawn.value, withdrawn.headers)
    assert latest.value("acme", "mug") is None


async def test_what_a_topic_has_no_room_for_is_buried_and_a_sandbox_sends_nothing(opened: Opened) -> None:
    step = await opened("events")
    large = await act(step, replace(event(), body=event(text="x" * 300_000).body))
    assert isinstance(large, Bury)
    assert large.failure.kind == "sink-row"
    assert (await act(step, replace(event(), sandbox=True))).records == ()


async def test_a_reader_of_a_topic_comes_to_the_same_in_whichever_order_it_reads(opened: Opened) -> None:
    step = await opened("events", undoes=True)
    older, newer = (replace(event(task, text=f"of {task}"), time=time) for task, time in (("a", 1.0), ("b", 2.0)))
    records = [(await act(step, one)).records[0] for one in (older, newer)]
    for order in (records, records[::-1]):
        latest = Latest()
        for record in order:
            latest.take(record.key, record.value, record.headers)
        [withdrawal] = (await step.undo(newer, NoCell())).records
        assert latest.value("acme", "mug") == {"text": "of b"}
        latest.take(withdrawal.key, withdrawal.value, withdrawal.headers)
        assert latest.value("acme", "mug") == {"text": "of a"}
        assert b"/withdrawn" in dict(withdrawal.headers)["ce_id"]


async def test_a_topic_of_a_step_is_made_and_one_of_ours_is_refused(opened: Opened) -> None:
    step = await opened(TopicSink("shop.copy"))
    assert Chains([Chain("shop", Input, (step,))]).topics() == ("shop.copy",)
    with pytest.raises(ValueError, match="reserved"):
        TopicSink("callstream.finished")
    record = Record("callstream.finished", b"k", b"{}", [])
    with pytest.raises(ValueError, match="reserved"):
        settled(step, event(), Forward(records=(record,)))


async def test_it_may_run_on_a_service_of_its_own(opened: Opened, sink: MemorySink) -> None:
    assert (await opened(sink)).service == "deliver"
    assert (await opened(sink, service="shelf")).service == "shelf"


def test_a_step_may_have_a_service_of_its_own() -> None:
    row = {"key": "mug", "value": {}}
    apart, usual = (Deliver(sink="shop", row=lambda _: row, service=service) for service in ("shelf", None))
    assert (apart.service, usual.service, Deliver.service) == ("shelf", "deliver", "deliver")
