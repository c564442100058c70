"""Sub-tasks as a step starts them, and their ends as their parent's join hears of them."""

from dataclasses import replace
from typing import Any

import pytest

from callstream.agents.intake import Intake
from callstream.agents.joining import Join
from callstream.agents.joining.subtasks import MOST_DEPTH, place_of
from callstream.agents.settle import Work, settle
from callstream.streams.chain import Chain, Chains
from callstream.streams.event import TASK_SUBTASK, End, Event, Failure
from callstream.streams.fakes import MemoryCell
from callstream.streams.outcome import Bury, FanOut, Finish, Forward, Outcome, Resume, Subtask
from callstream.streams.wire import decode
from callstream.tables.tasks import fold
from tests.support.events import Input, Say, an_event

SHOP = Chain("shop", Input, (Say("facts", "prepare"), Join(), Say("check", "moderate")))
TEXT = Chain("text", Input, (Say("copy", "infer"),))
CHAINS = Chains([SHOP, TEXT])
THREE = FanOut([Subtask("text", {"title": name}) for name in ("a", "b", "c")], {"asked": "nicely"}, notes=("three",))
WORK = Work("prepare", "facts", 11.0, 12.5)


def sent(event: Event, outcome: Outcome, work: Work = WORK) -> list[tuple[str, Event]]:
    found = settle(event, outcome, work, CHAINS)
    return [(one.topic.removeprefix("callstream."), decode(one.value, one.headers)) for one in found]


def test_a_step_starts_its_sub_tasks_and_then_goes_to_its_join() -> None:
    event = an_event(priority="high", deadline=99.0)
    *children, (topic, waiting) = sent(event, THREE)
    assert [where for where, _ in children] == ["intake"] * 3
    assert [(child.task, child.chain, child.input) for _, child in children] == [
        ("mug-1~1.1", "text", {"title": "a"}),
        ("mug-1~1.2", "text", {"title": "b"}),
        ("mug-1~1.3", "text", {"title": "c"}),
    ]
    for _, child in children:
        assert (child.tenant, child.priority, child.deadline, child.sequence) == ("acme", "high", 99.0, 0)
        assert child.extensions["subtaskof"] == "mug-1"
    assert (topic, waiting.task, waiting.sequence, waiting.extensions) == ("join", "mug-1", 2, {"subtasks": "3"})
    assert waiting.body.outputs["facts"] == {"asked": "nicely", "subtasks": 3}
    assert waiting.body.trail[-1].notes == ("three",)


def test_the_same_step_starts_the_same_sub_tasks_again() -> None:
    assert sent(an_event(), THREE) == sent(an_event(), THREE)


@pytest.mark.parametrize(
    ("event", "outcome", "says"),
    [
        (an_event(), FanOut([]), "0 sub-tasks; a step starts 1 to 1,000"),
        (an_event(), FanOut([Subtask("text", {})] * 100_000), "100,000 sub-tasks; a step starts 1 to 1,000"),
        (
            an_event(),
            FanOut([Subtask("No Name", {})]),
            "sub-task 1: chain: must be 1 to 48 small letters",
        ),
        (an_event(), FanOut([Subtask("text", "x")]), "sub-task 1: its input is no JSON object"),  # type: ignore[arg-type]
        (an_event(sequence=2), THREE, "the next step is 'check'"),
        (an_event(sequence=3), THREE, "the next step is the end"),
        (an_event(task="x" * 125), THREE, "of a sub-task would be longer than ids are: 128"),
        (an_event(), FanOut([Subtask("text", {"t": "x" * 3_000_000})] * 12), "at most 33,554,432 are sent"),
    ],
    ids=["none", "100,000", "a bad name", "no object", "no join", "the last step", "a long id", "too large"],
)
def test_what_cannot_be_started_buries_the_task_with_the_reason(event: Event, outcome: FanOut, says: str) -> None:
    (first, letter), (second, ended) = sent(event, outcome)
    assert (first, second, ended.body.end) == ("dead", "finished", End.FAILED)
    assert letter.body.failure is not None
    assert letter.body.failure.kind == "fan-out"
    assert says in letter.body.failure.message


def test_sub_tasks_of_sub_tasks_are_bounded() -> None:
    event, depth = an_event(), 0
    while True:
        records = sent(event, THREE)
        if records[0][0] == "dead":
            break
        depth += 1
        event = replace(records[0][1], chain="shop", version=1, sequence=1)
    assert depth == MOST_DEPTH
    assert records[0][1].body.failure is not None
    assert "3 deep at most" in records[0][1].body.failure.message


async def begun(child: Event) -> Event:
    """A sub-task before its first step, as intake starts it."""
    outcome = await Intake(CHAINS, lambda: 1.0).act(child, MemoryCell())
    [(topic, event)] = sent(child, outcome, Work("intake", "intake", 1.0, 1.0))
    assert topic == "infer"
    return event


@pytest.mark.parametrize(
    ("outcome", "state", "members"),
    [
        (Forward({"text": "A."}), "finished", {"result": {"facts": {"text": "A."}}, "failure": None}),
        (Finish({"a": 1}), "finished", {"result": {"facts": {"a": 1}}}),
        (Finish(rejected=True, reason="no"), "rejected", {"failure": {"kind": "rejected", "message": "no"}}),
        (Bury(Failure(kind="bug", message="x")), "failed", {"failure": {"kind": "bug", "message": "x"}}),
    ],
)
async def test_the_end_of_a_sub_task_is_told_to_the_join_under_its_parents_key(
    outcome: Outcome, state: str, members: dict[str, Any]
) -> None:
    # Given a sub-task that was started
    child = sent(an_event(), THREE)[1][1]
    event = await begun(child)
    # when it ends
    (where, ended), (topic, told) = sent(event, outcome)[-2:]
    # then it is a task of its own, and the join of its parent hears of it
    assert (where, ended.task) == ("finished", "mug-1~1.2")
    assert (topic, told.type, told.key) == ("join", TASK_SUBTASK, an_event().key)
    assert (told.chain, told.version, told.sequence) == ("shop", 1, 2)
    said = told.body.outputs["subtask"]
    assert (said["number"], said["id"], said["state"]) == (2, "mug-1~1.2", state)
    for name, value in members.items():
        assert said[name] is None if value is None else said[name].items() >= value.items()


async def test_a_sub_task_that_intake_refuses_is_told_of_too() -> None:
    wrong = FanOut([Subtask("nowhere", {})])
    child = sent(an_event(), wrong)[0][1]
    outcome = await Intake(CHAINS, lambda: 1.0).act(child, MemoryCell())
    topics = [topic for topic, _ in sent(child, outcome)]
    assert topics == ["dead", "finished", "join"]


@pytest.mark.parametrize(
    "place", ["", "shop/1/2", "shop/1/2/3/x/0", "Shop/1/2/3/1/0", "shop/1/2/3/1", "shop/1/99999/3/1/0"]
)
def test_what_is_no_place_is_nobodys_sub_task(place: str) -> None:
    assert place_of(an_event(extensions={"subtaskof": "mug-1", "join": place})) is None
    assert [topic for topic, _ in sent(an_event(sequence=3, extensions={"join": place}), Forward())] == ["finished"]


def test_only_a_join_runs_on_the_service_join() -> None:
    with pytest.raises(ValueError, match="on the service 'join' runs a Join, and nothing else does"):
        Chain("shop", Input, (Say("facts", "join"),))


def test_the_row_of_the_parent_counts_its_sub_tasks_in_any_order_and_once() -> None:
    # Given the events of a task at its join, and of its sub-tasks' ends
    *children, (_, waiting) = sent(an_event(), THREE)
    ends = []
    for number, (_, child) in enumerate(children):
        outcome: Outcome = Forward() if number else Bury(Failure(kind="bug", message="x"))
        started = replace(child, chain="text", version=1, sequence=1)
        ends.append(sent(started, outcome)[-1][1])
    for order in ([waiting, *ends, *ends], [*ends, waiting], [ends[0], waiting, ends[2], ends[1], waiting]):
        # when they are folded in any order, then each counts once
        row = None
        for event in [an_event(), *order]:
            row, _ = fold(row, event, CHAINS, 20.0)
        assert row is not None
        assert row["subtasks"] == {"run": 0, "sequence": 2, "of": 3, "done": "c", "failed": "2"}
        assert (row["sequence"], row["state"], row["next"]) == (2, "running", {"step": "join", "service": "join"})


def test_the_row_of_a_sub_task_names_its_parent() -> None:
    row, _ = fold(None, sent(an_event(), THREE)[0][1], CHAINS, 1.0)
    assert row["parent"] == "mug-1"
    assert fold(None, an_event(), CHAINS, 1.0)[0]["parent"] is None


def test_after_a_join_the_task_is_no_fan_out_any_more() -> None:
    waiting = sent(an_event(), THREE)[-1][1]
    [(topic, event)] = sent(waiting, Resume(waiting.extended(subtasks=None), Forward({"taken": []})))
    assert (topic, event.extensions) == ("moderate", {})
