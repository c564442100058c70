from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel

from callstream.agents.intake import Intake
from callstream.agents.settle import Work, settle
from callstream.streams.chain import Chain, Chains
from callstream.streams.event import LAST_SECOND, End, Event, Failure, Hop, Submission, Waiting, WaitReason
from callstream.streams.fakes import MemoryCell
from callstream.streams.outcome import Bury, Forward, Outcome, Resume
from callstream.streams.ownership import LostOwnership
from callstream.streams.submission import Order, new_event
from callstream.streams.wire import Record, decode
from tests.support.events import Input, Say

WORK = Work("intake", "intake", 11.0, 12.0)
STEPS = (Say("facts", "prepare"),)
CHAINS = Chains([Chain("shop", Input, STEPS), Chain("shop", Input, STEPS, version=2), Chain("talk", Input, STEPS)])


class Clock:
    """Epoch seconds, one later each time it is asked."""

    def __init__(self) -> None:
        self.now = 500.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def submitted(chain: str = "shop", given: Any = None, **changes: Any) -> Event:
    """A submission as it stands on the intake topic."""
    submission = Submission(chain=chain, input={"price": 2} if given is None else given)
    return replace(new_event(submission, Order("acme", "mug-1", deadline=900.0), now=100.0), **changes)


async def took_in(event: Event, cell: MemoryCell, chains: Chains = CHAINS) -> Outcome:
    return await Intake(chains, Clock()).act(event, cell)


def records(event: Event, outcome: Outcome, chains: Chains = CHAINS) -> list[Record]:
    return settle(event, outcome, WORK, chains)


async def test_a_submission_starts_the_newest_version_of_its_chain_with_a_valid_input() -> None:
    [record] = records(submitted(), await took_in(submitted(), MemoryCell()))
    started = decode(record.value, record.headers)
    assert record.topic == "callstream.prepare"
    assert (started.version, started.sequence, started.attempt, started.time) == (2, 1, 1, 100.0)
    assert started.input == {"title": "mug", "price": 2.0}
    assert started.body.digest == submitted().body.digest
    assert [hop.step for hop in started.body.trail] == ["intake"]


async def test_what_was_decided_is_on_the_log_before_the_task_starts() -> None:
    cell = MemoryCell()
    await took_in(submitted(), cell)
    [row] = cell.saves
    assert (row["version"], row["time"], row["deadline"], row["priority"]) == (2, 100.0, 900.0, "normal")
    lost = MemoryCell()
    lost.lose()
    with pytest.raises(LostOwnership):
        await took_in(submitted(), lost)


async def test_a_submission_that_comes_again_starts_the_very_same_event_again() -> None:
    cell = MemoryCell()
    first = records(submitted(), await took_in(submitted(), cell))
    for again in (
        submitted(),
        submitted(time=777.0, attempt=4),
        submitted(deadline=None, priority="high"),
        replace(submitted(version=1), chain="talk"),
    ):
        assert records(again, await took_in(again, cell)) == first
    assert cell.saves == [cell.saves[0]] * 5, "each time anew: the first time the row may not have reached the log"


async def test_it_finishes_on_the_version_that_it_started_on() -> None:
    cell = MemoryCell()
    older = Chains([Chain("shop", Input, STEPS)])
    first = records(submitted(), await took_in(submitted(), cell, older), older)
    assert records(submitted(), await took_in(submitted(), cell)) == first


async def test_a_submission_without_a_time_begins_when_it_is_first_seen() -> None:
    cell = MemoryCell()
    unsaid = submitted(time=0.0)
    first = records(unsaid, await took_in(unsaid, cell))
    assert decode(first[0].value, first[0].headers).time == 501.0
    assert records(unsaid, await took_in(unsaid, cell)) == first


async def test_another_submission_under_the_same_id_is_refused_and_the_first_one_stands() -> None:
    cell = MemoryCell()
    await took_in(submitted(), cell)
    outcome = await took_in(submitted(given={"price": 3}), cell)
    assert isinstance(outcome, Bury)
    assert (outcome.failure.kind, outcome.ends_task) == ("conflict", False)
    assert "task 'mug-1' was already submitted with another body" in outcome.failure.message
    assert all(row == cell.saves[0] for row in cell.saves)


@pytest.mark.parametrize("forged", [{}, {"subtaskof": "cup-1"}, {"subtaskof": ""}])
async def test_a_sender_may_not_take_the_id_of_what_callstream_makes_of_a_task(forged: dict[str, str]) -> None:
    event = submitted(task="mug-9~1.1", extensions=forged)
    cell = MemoryCell()
    outcome = await took_in(event, cell)
    assert isinstance(outcome, Bury)
    assert (outcome.failure.kind, outcome.ends_task, cell.value) == ("invalid-input", False, None)
    assert outcome.failure.message.startswith("attribute 'subject' (mug-9~1.1) must not contain '~'")
    assert [record.topic for record in records(event, outcome)] == ["callstream.dead"]


@pytest.mark.parametrize(
    "made",
    [
        {"task": "mug-9~1.1", "extensions": {"subtaskof": "mug-9", "join": "shop/1/2/1/1/0"}},
        {"task": "mug-9~2.shadow", "extensions": {"subtaskof": "mug-9", "shadow": "facts"}, "run": 1},
        {"task": "mug-9~7bd32a0b46e2", "parent": "mug-9", "run": 1},
        {"task": f"{'m' * 115}~7bd32a0b46e2", "parent": "m" * 128, "run": 1},
    ],
    ids=["sub-task", "shadow", "replay", "replay of the longest id"],
)
async def test_what_callstream_makes_of_a_task_is_taken_in(made: dict[str, Any]) -> None:
    assert isinstance(await took_in(submitted(**made), MemoryCell()), Resume)


async def test_a_task_that_was_taken_in_under_such_an_id_starts_again_all_the_same() -> None:
    cell = MemoryCell()
    first = await took_in(submitted(), cell)
    again = await took_in(submitted(task="mug-9~1.1"), cell)
    assert isinstance(first, Resume)
    assert isinstance(again, Resume)


class Wide(BaseModel):
    """A model that makes of some inputs what no event can carry."""

    price: float = 0.0
    count: int = 0


@pytest.mark.parametrize(
    ("event", "kind", "said"),
    [
        (submitted("nowhere"), "unknown-chain", "no chain is called 'nowhere'; known: shop, talk"),
        (submitted(given={"more": 1}), "invalid-input", "more: Extra inputs are not permitted (got '1')"),
        (submitted(given={"price": "cheap"}), "invalid-input", "price: Input should be a valid number"),
        (submitted(run_at=32_503_680_000.0, deadline=None), "invalid-input", "run_at: must lie within a year from now"),
        (submitted(run_at=900.0), "invalid-input", "run_at: lies at or after the deadline"),
        (submitted("wide", {"price": "nan"}), "invalid-input", "what Wide makes of it cannot be passed on"),
        (submitted("wide", {"count": "9" * 400}), "invalid-input", "an integer of 400 digits"),
    ],
)
async def test_what_cannot_start_ends_with_the_reason(event: Event, kind: str, said: str) -> None:
    cell = MemoryCell()
    chains = Chains([*CHAINS, Chain("wide", Wide, STEPS)] if event.chain == "wide" else CHAINS)
    outcome = await took_in(event, cell, chains)
    assert isinstance(outcome, Bury)
    assert (outcome.failure.kind, outcome.ends_task) == (kind, True)
    assert said in outcome.failure.message
    assert [record.topic for record in records(event, outcome, chains)] == ["callstream.dead", "callstream.finished"]
    assert cell.value is None


async def test_what_a_sender_claims_was_done_counts_for_nothing() -> None:
    hop = Hop(step="facts", service="prepare", started=1.0, ended=2.0)
    claimed = submitted(sequence=7, version=9, attempt=3).with_body(
        outputs={"facts": {"a": 1}},
        trail=(hop,) * 64,
        end=End.FINISHED,
        result={"a": 1},
        held="x",
        failure=Failure(kind="x", message=""),
    )
    assert records(claimed, await took_in(claimed, MemoryCell())) == records(
        submitted(), await took_in(submitted(), MemoryCell())
    )


async def test_a_deadline_is_kept_and_the_outcome_is_that_of_the_event_that_starts() -> None:
    assert Intake(CHAINS, Clock()).policy(submitted()).keeps_deadline
    outcome = await took_in(submitted(), MemoryCell())
    assert isinstance(outcome, Resume)
    assert outcome.outcome == Forward()
    assert outcome.event.deadline == 900.0


async def test_a_task_for_later_goes_to_the_timer_and_again_whenever_it_comes_again() -> None:
    cell = MemoryCell()
    [record] = records(submitted(run_at=800.0), await took_in(submitted(run_at=800.0), cell))
    assert (record.topic, dict(record.headers)["callstream-destination"]) == ("callstream.timer", b"callstream.prepare")
    assert dict(record.headers)["callstream-due"] == b"800000000"
    started = decode(record.value, record.headers)
    assert started.body.waiting == Waiting(reason=WaitReason.SCHEDULED, until=800.0)
    # the first start stands, whatever a repeat says
    assert records(submitted(), await took_in(submitted(run_at=850.0), cell)) == [record]


@pytest.mark.parametrize("run_at", [0.0, WORK.ended])
async def test_a_start_that_is_past_is_at_once(run_at: float) -> None:
    [record] = records(submitted(run_at=run_at), await took_in(submitted(run_at=run_at), MemoryCell()))
    assert record.topic == "callstream.prepare"


PROMPT = Chains([Chain("shop", Input, STEPS, deadline_seconds=30.0)])


@pytest.mark.parametrize(("own", "deadline"), [(None, 130.0), (900.0, 900.0), (101.0, 101.0)])
async def test_a_task_without_a_deadline_has_that_of_its_chain(own: float | None, deadline: float) -> None:
    cell = MemoryCell()
    for _ in range(2):
        outcome = await took_in(submitted(deadline=own), cell, PROMPT)
        assert isinstance(outcome, Resume)
        assert outcome.event.deadline == deadline


async def test_a_deadline_at_the_end_of_time_can_still_be_written_down() -> None:
    event = submitted(time=float(LAST_SECOND), deadline=None)
    [record] = records(event, await took_in(event, MemoryCell(), PROMPT), PROMPT)
    assert decode(record.value, record.headers).deadline == LAST_SECOND


async def test_a_deadline_that_is_absurdly_far_is_refused() -> None:
    cell = MemoryCell()
    outcome = await took_in(submitted(deadline=253_402_300_000.0), cell)
    assert isinstance(outcome, Bury)
    assert (outcome.failure.kind, outcome.ends_task) == ("invalid-input", True)
    assert "'expirytime' must lie within a year" in outcome.failure.message
    assert cell.value is None
