"""From a dead event to the one that takes its task up again: what is kept, what is cut, and what is refused."""

from dataclasses import replace
from typing import Any

import pytest

from callstream.agents.inference.step import call_id
from callstream.agents.joining import Join
from callstream.agents.letters.commands import Action, Command
from callstream.agents.letters.redrive import CannotRedrive, InputRefused, edited, redriven, refusal, starts
from callstream.agents.settle import Work, settle
from callstream.streams.chain import Chain, Chains
from callstream.streams.event import End, Event, Failure, Hop, Json
from callstream.streams.outcome import Bury, Finish, Forward, Redo
from callstream.streams.wire import decode
from callstream.tables.letters import fold
from tests.support.events import CHAINS, SHOP, Input, Say, an_event

NOW = 500.0


def command(**members: Any) -> Command:
    return Command(**{"id": "c-1", "action": Action.REDRIVE, "by": "kim", **members})


def died_at(sequence: int, **changes: Any) -> Event:
    """A task of the chain `shop`, taken through its steps by the real settling up to one that buries it."""
    event = an_event(sequence=0, **changes)
    for position in range(sequence):
        step = "intake" if position == 0 else SHOP.steps[position - 1].name
        [record] = settle(event, Forward({"said": step}), Work(step, step, position, position + 0.5), CHAINS)
        event = decode(record.value, record.headers)
    return buried(event)


def buried(event: Event, step: str | None = None) -> Event:
    name = step or (SHOP.steps[event.sequence - 1].name if event.sequence else "intake")
    work = Work(name, name, 90.0, 91.0, origin=("callstream.infer", 0, 5))
    letter, *_ = settle(event, Bury(Failure(kind="refused", message="no")), work, CHAINS)
    return decode(letter.value, letter.headers)


def test_it_begins_where_it_failed_with_what_came_before() -> None:
    dead = died_at(3, deadline=400.0)
    again = redriven(dead, command(reason="mended"), NOW, CHAINS)
    assert (again.sequence, again.run, again.attempt, again.type) == (3, 1, 1, "callstream.task")
    assert [hop.step for hop in again.body.trail] == ["intake", "facts", "copy", "redrive"]
    assert again.body.trail[-1].notes == ("run 1 from check by kim: mended",)
    assert set(again.body.outputs) == {"intake", "facts", "copy"}
    assert (again.body.failure, again.body.burial, again.deadline) == (None, None, None)
    [record] = settle(an_event(), Redo(again), Work("letters", "letters", 1, 2), CHAINS)
    assert record.topic == "callstream.moderate"
    assert decode(record.value, record.headers) == again


def test_a_deadline_that_is_still_ahead_stays() -> None:
    assert redriven(died_at(2, deadline=600.0), command(), NOW, CHAINS).deadline == 600.0


def test_an_earlier_step_cuts_what_later_ones_said_and_keeps_the_ids_of_calls() -> None:
    dead = died_at(3)
    again = redriven(dead, command(from_step="copy"), NOW, CHAINS)
    assert (again.sequence, sorted(again.body.outputs)) == (2, ["facts", "intake"])
    assert [hop.step for hop in again.body.trail] == ["intake", "facts", "redrive"]
    assert call_id(again) == call_id(an_event(sequence=2))
    assert call_id(redriven(dead, command(from_step="copy", ask_again=True), NOW, CHAINS)) != call_id(again)


def test_the_same_command_makes_the_same_event_and_runs_differ_by_id() -> None:
    dead = died_at(2)
    first, second = (redriven(dead, command(), NOW, CHAINS) for _ in range(2))
    assert first == second
    assert first.id != replace(first, run=0).id
    later = redriven(buried(first), command(), NOW, CHAINS)
    assert later.run == 2
    assert [hop.step for hop in later.body.trail] == ["intake", "facts", "redrive"]


def test_a_redriven_task_ends_in_its_own_run() -> None:
    again = redriven(died_at(3), command(), NOW, CHAINS)
    [record] = settle(again, Finish({}), Work("moderate", "check", 1, 2), CHAINS)
    ended = decode(record.value, record.headers)
    assert (ended.run, ended.body.end) == (1, End.FINISHED)


def test_what_intake_refused_is_handed_in_again() -> None:
    dead = buried(an_event(sequence=0, version=0))
    again = redriven(edited(dead, {"title": "cup"}, CHAINS), command(), NOW, CHAINS)
    assert (again.sequence, again.body.submission.input, again.body.trail) == (0, {"title": "cup"}, ())
    [record] = settle(again, Redo(again), Work("letters", "letters", 1, 2), CHAINS)
    assert record.topic == "callstream.intake"


@pytest.mark.parametrize("end", [End.FINISHED, End.REJECTED, End.FAILED])
def test_a_caller_is_told_again_what_it_was_to_be_told(end: End) -> None:
    failure = None if end is End.FINISHED else Failure(kind="refused", message="the task's own")
    told = an_event(sequence=4, end=end, failure=failure, type=f"callstream.task.{end}", trail=hops("intake", "facts"))
    again = redriven(buried(told, "notify"), command(), NOW, CHAINS)
    assert again == replace(told, run=1)
    with pytest.raises(CannotRedrive, match="only its caller can be told again"):
        redriven(buried(told, "notify"), command(from_step="facts"), NOW, CHAINS)


def hops(*names: str) -> tuple[Hop, ...]:
    return tuple(Hop(step=name, service=name, started=1.0, ended=2.0) for name in names)


def test_an_edit_is_checked_and_begins_at_the_first_step_with_new_calls() -> None:
    dead = died_at(2)
    changed = edited(dead, {"title": "cup"}, CHAINS)
    again = redriven(changed, command(), NOW, CHAINS)
    assert (again.sequence, again.input) == (1, {"title": "cup", "price": 1.0})
    assert call_id(replace(again, sequence=2)) != call_id(dead)
    with pytest.raises(InputRefused, match="price"):
        edited(dead, {"price": "much"}, CHAINS)


@pytest.mark.parametrize(
    ("dead", "chains"), [(died_at(2), Chains([])), (replace(died_at(2), version=9), CHAINS)], ids=["chain", "version"]
)
def test_a_chain_that_is_gone_says_so(dead: Event, chains: Chains) -> None:
    told = "have a worker serve that version again"
    with pytest.raises(CannotRedrive, match=told):
        redriven(dead, command(), NOW, chains)
    with pytest.raises(CannotRedrive, match=told):
        edited(dead, {}, chains)


@pytest.mark.parametrize("step", ["check", "nope", "intake-2"])
def test_a_step_it_cannot_begin_at_is_refused_with_those_it_can(step: str) -> None:
    with pytest.raises(CannotRedrive, match="it can at: facts, copy"):
        redriven(died_at(2), command(from_step=step), NOW, CHAINS)
    assert starts(died_at(2), CHAINS) == ["facts", "copy"]


def test_a_join_is_taken_up_from_the_step_that_starts_its_sub_tasks() -> None:
    chains = Chains([Chain("shop", Input, (Say("ask", "prepare"), Join("best")))])
    dead = buried(an_event(sequence=2), "best")
    assert redriven(dead, command(), NOW, chains).sequence == 1
    assert starts(dead, chains) == ["ask"]
    with pytest.raises(CannotRedrive, match="it cannot begin at 'best'; it can at: ask"):
        redriven(dead, command(from_step="best"), NOW, chains)


def test_an_event_that_was_too_large_to_keep_needs_its_input_anew() -> None:
    whole = died_at(2)
    emptied = whole.with_body(
        trail=tuple(
            hop.model_copy(
                update={
                    "notes": ("the event was too large to keep: its input, its outputs and its trail are left out",)
                }
            )
            for hop in whole.body.trail[-1:]
        ),
        outputs={},
    )
    with pytest.raises(CannotRedrive, match="too large to keep: give its input anew"):
        redriven(emptied, command(), NOW, CHAINS)
    changed = edited(emptied, {"title": "cup"}, CHAINS)
    assert redriven(changed, command(), NOW, CHAINS).sequence == 1
    with pytest.raises(CannotRedrive, match="'facts' only"):
        redriven(changed, command(from_step="copy"), NOW, CHAINS)


ROW = fold(None, died_at(2))


@pytest.mark.parametrize(
    ("row", "task", "told"),
    [
        (ROW, None, None),
        (ROW, {"state": "failed", "run": 0}, None),
        (ROW, {"state": "running", "run": 0}, None),
        (ROW, {"state": "finished", "run": 0}, "has gone on since and is finished"),
        (ROW, {"state": "running", "run": 1}, "has gone on since and is running"),
        (ROW | {"state": "discarded", "audit": [{"by": "ann"}]}, None, "it was discarded already by ann"),
        (ROW | {"state": "redriven"}, None, "it was redriven already"),
        (ROW | {"run": 3}, None, "failed again since, in run 3"),
        (ROW | {"letter": "unreadable"}, None, "nobody could read the record"),
        (ROW | {"letter": "refused"}, None, "the task did not end with it"),
    ],
)
def test_what_a_row_allows(row: Json, task: Json | None, told: str | None) -> None:
    found = refusal(row, command(), task)
    assert (found is None) is (told is None)
    assert (told or "") in (found or "")


def test_a_task_that_failed_after_it_went_back_goes_on_in_that_round() -> None:
    class Holds(Say):
        regenerates = "copy"

    steps = (Say("facts", "prepare"), Say("copy", "infer"), Holds("check", "moderate"))
    chains = Chains([Chain("shop", Input, steps)])
    dead = replace(died_at(3), sequence=7)
    again = redriven(dead, command(), NOW, chains)
    assert (again.sequence, chains.get("shop", 1).step(7)) == (7, steps[2])
    assert starts(dead, chains) == ["facts", "copy", "check"]
    earlier = redriven(dead, command(from_step="copy"), NOW, chains)
    assert (earlier.sequence, call_id(earlier)) == (6, call_id(an_event(sequence=6)))
    with pytest.raises(CannotRedrive, match="has 3 steps, none at 7"):
        redriven(dead, command(), NOW, CHAINS)
