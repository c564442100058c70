"""The way back of a task that ends badly: each step that can be undone, once, the last one first."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.agents.fakes import FakePorts, deliver
from callstream.agents.ports import Policy
from callstream.agents.settle import NO_ROLLBACK, Work, settle
from callstream.agents.steps import StepRole
from callstream.agents.trying import Trying
from callstream.streams.chain import Attempts, Cell, Chain, Chains
from callstream.streams.event import MAX_HOPS, TASK_UNDO, End, Event, Failure, Hop
from callstream.streams.outcome import Bury, Cancelled, Finish, Forward, Hold, Keep, Outcome
from callstream.streams.wire import MAX_BODY_BYTES, Record, decode
from callstream.tables.durable import NoCell
from callstream.tables.tasks import fold
from tests.support.events import Input, Say, an_event

BROKEN = Failure(kind="refused", message="no")


class Doing(Say):
    """A step that can be undone."""

    undoes = True

    async def undo(self, event: Event, state: Cell) -> Outcome:
        """Undo it."""
        return Forward(notes=(f"because of {event.body.failure.kind if event.body.failure else 'nothing'}",))


def chains(*undoable: bool) -> Chains:
    """A chain of steps a, b, c ... each on a service of its own."""
    names = "abcdefghijklmnopqrstuvwxyz"
    steps = [(Doing if can else Say)(names[i], f"s-{names[i]}") for i, can in enumerate(undoable)]
    return Chains([Chain("shop", Input, tuple(steps))])


def work(step: str) -> Work:
    return Work(f"s-{step}", step, 11.0, 12.0)


def read(record: Record) -> tuple[str, Event]:
    return record.topic.removeprefix("callstream."), decode(record.value, record.headers)


def way_back(
    known: Chains, records: list[Record], outcome: Outcome | None = None
) -> tuple[list[str], Event, list[Event]]:
    """The services that a task passes on its way back, its end, and the dead letters on it."""
    passed: list[str] = []
    letters: list[Event] = []
    for _ in range(100):
        for topic, event in map(read, records):
            if topic == "dead":
                letters.append(event)
            elif topic == "finished":
                return passed, event, letters
            else:
                passed.append(topic)
                following = settle(event, outcome or Forward(), Work(topic, f"undo {topic[-1]}", 1.0, 2.0), known)
        records = following
    raise AssertionError("the task never ends")


def test_a_step_that_fails_for_good_has_those_before_it_and_itself_undone_the_last_one_first() -> None:
    known = chains(True, False, True, True, True)
    letter, back = settle(an_event(sequence=4, outputs={"a": {"n": 1}}), Bury(BROKEN), work("d"), known)
    assert read(letter)[0] == "dead"
    topic, first = read(back)
    assert (topic, first.type, first.sequence, first.body.end) == ("s-d", TASK_UNDO, 5, None)
    assert first.body.outputs == {"a": {"n": 1}}
    passed, ended, letters = way_back(known, [back])
    assert (passed, letters) == (["s-d", "s-c", "s-a"], [])
    assert (ended.body.end, ended.body.undoing, ended.type) == (End.FAILED, None, "callstream.task.failed")
    assert ended.body.failure == BROKEN.model_copy(update={"step": "d"})
    assert [(hop.step, hop.undo) for hop in ended.body.trail] == [("d", False), ("d", True), ("c", True), ("a", True)]
    assert ended.sequence == 8


def test_a_rejected_task_goes_the_same_way_and_ends_rejected() -> None:
    known = chains(True, False)
    passed, ended, _ = way_back(
        known, settle(an_event(sequence=2), Finish(rejected=True, reason="no"), work("b"), known)
    )
    assert passed == ["s-a"]
    assert (ended.body.end, ended.body.failure) == (
        End.REJECTED,
        Failure(kind="rejected", message="no", step="b"),
    )


@pytest.mark.parametrize("outcome", [Finish(), Forward()])
def test_a_task_that_ends_well_undoes_nothing(outcome: Outcome) -> None:
    known = chains(True, True)
    [(topic, ended)] = map(read, settle(an_event(sequence=2), outcome, work("b"), known))
    assert (topic, ended.body.end) == ("finished", End.FINISHED)


def test_what_ends_no_task_undoes_nothing() -> None:
    [(topic, _)] = map(read, settle(an_event(), Bury(BROKEN, ends_task=False), work("a"), chains(True)))
    assert topic == "dead"


def test_an_undo_that_fails_for_good_is_a_dead_letter_and_the_rest_is_undone_all_the_same() -> None:
    known = chains(True, True)
    _, back = settle(an_event(sequence=2), Bury(BROKEN), work("b"), known)
    stuck = Failure(kind="database", message="away")
    passed, ended, letters = way_back(known, [back], Bury(stuck))
    assert passed == ["s-b", "s-a"]
    assert [letter.body.failure for letter in letters] == [
        stuck.model_copy(update={"step": "undo b"}),
        stuck.model_copy(update={"step": "undo a"}),
    ]
    # whoever reads such a letter undoes nothing
    assert [settle(letter, Keep(), Work("letters", "letters", 1.0, 2.0), known) for letter in letters] == [[], []]
    # the task still tells why it failed in the first place, and its trail what is left as it was
    assert ended.body.failure == BROKEN.model_copy(update={"step": "b"})
    assert [hop.notes for hop in ended.body.trail if hop.undo] == [("database: away",)] * 2


@pytest.mark.parametrize("outcome", [Hold("why"), Finish()])
def test_what_undoes_a_step_can_neither_hold_nor_finish_the_task(outcome: Outcome) -> None:
    known = chains(True)
    _, back = settle(an_event(), Bury(BROKEN), work("a"), known)
    with pytest.raises(TypeError, match="ends in Forward or Bury"):
        settle(read(back)[1], outcome, work("a"), known)


def test_a_cancelled_task_is_undone_or_keeps_what_it_wrote_and_its_trail_says_which() -> None:
    known = chains(True, True)
    event = an_event(sequence=2)
    for rollback, passed in ((True, ["s-b", "s-a"]), (False, [])):
        services, ended, letters = way_back(known, settle(event, Cancelled("by ada", None, rollback), work("b"), known))
        assert (services, ended.body.end, letters) == (passed, End.CANCELLED, [])
        assert any(hop.undo for hop in ended.body.trail) is rollback
        assert (NO_ROLLBACK in ended.body.trail[0].notes) is not rollback


def test_a_cancelled_task_ends_under_one_id_whichever_of_its_events_a_crash_lets_meet_the_command_first() -> None:
    known = chains(True, True, True)
    ends, numbers = [], []
    for sequence in (1, 2, 3):
        records = settle(an_event(sequence=sequence), Cancelled("by ada"), work("a"), known)
        numbers.append(read(records[0])[1].sequence)
        ends.append(way_back(known, records)[1])
    assert {ended.id for ended in ends} == {"4:acme:mug-1/4/1"}
    # each undo has the number of its step's, which no event forward has
    assert numbers == [7, 6, 5]

    # and the status tells of the longest way back, in whichever order they come
    for first, second in ((ends[0], ends[2]), (ends[2], ends[0])):
        row, _ = fold(None, first, known, 1.0)
        row, _ = fold(row, second, known, 2.0)
        assert (row["state"], [step["step"] for step in row["steps"] if step.get("undo")]) == ("cancelled", [*"cba"])


def test_a_chain_that_is_gone_and_a_task_that_is_too_large_still_come_to_their_end() -> None:
    known = chains(True, True)
    large = an_event(sequence=2, outputs={"a": {"text": "x" * (MAX_BODY_BYTES - 1_000)}})
    _, back = settle(large, Bury(BROKEN), work("b"), known)
    event = read(back)[1]
    noisy = Work("s-b", "undo b", 1.0, 2.0, notes=("n" * 2_000,) * 32)
    letter, *_ = settle(event, Bury(BROKEN), noisy, known)
    assert read(letter)[0] == "dead"
    gone = Chains([])
    _, (topic, ended) = map(read, settle(event, Bury(BROKEN), work("b"), gone))
    assert (topic, ended.body.end, ended.body.trail[-1].step) == ("finished", End.FAILED, "unknown")


@given(st.lists(st.booleans(), min_size=1, max_size=26), st.data())
def test_each_step_that_was_begun_and_can_be_undone_is_undone_once(undoable: list[bool], data: Any) -> None:
    known = chains(*undoable)
    failing = data.draw(st.integers(1, len(undoable)))
    hops = tuple(Hop(step="x", service="y", started=1.0, ended=2.0) for _ in range(data.draw(st.integers(0, MAX_HOPS))))
    event = an_event(sequence=failing, trail=hops)
    name = "abcdefghijklmnopqrstuvwxyz"[failing - 1]
    passed, ended, _ = way_back(known, settle(event, Bury(BROKEN), work(name), known))
    expected = [f"s-{'abcdefghijklmnopqrstuvwxyz'[i]}" for i in range(failing) if undoable[i]]
    assert passed == expected[::-1]
    assert ended.body.end is End.FAILED
    assert ended.sequence == failing + 1 + len(passed)


class Onlooker:
    """A role that records what it sees, as the gateway's."""

    service = "gateway"
    stateful = False

    def policy(self, event: Event) -> Policy:
        """One try, and none that ends the task."""
        return Policy(self.service, Attempts(most=1), ends_task=False)

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Nothing follows."""
        return Keep()


async def test_who_only_looks_on_at_an_undo_has_no_say_in_it() -> None:
    known = chains(True)
    _, back = settle(an_event(), Bury(BROKEN), work("a"), known)
    event = read(back)[1]
    [delivery] = deliver([event], "s-a")
    assert await Trying(Onlooker(), FakePorts(), known).records(event, delivery) == []


async def test_a_service_undoes_its_step_past_the_deadline_and_with_its_own_attempts() -> None:
    known = chains(True, False)
    role = StepRole("s-a", known, stateful=False)
    _, back = settle(an_event(sequence=2, deadline=1.0), Bury(BROKEN), work("b"), known)
    event = read(back)[1]
    policy = role.policy(event)
    assert (policy.step, policy.keeps_deadline) == ("undo a", False)
    outcome = await role.act(event, NoCell())
    assert outcome == Forward(notes=("because of refused",))
