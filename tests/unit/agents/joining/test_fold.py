"""What a join decides, from which sub-tasks have ended and when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.agents.control.controls import subject_of
from callstream.agents.joining import Join
from callstream.agents.joining.fold import cancelled, decided, is_late, mark_of, opened, reported, waiting
from callstream.streams.event import Json
from tests.support.events import an_event

UNTIL = 100.0
TASK = an_event(sequence=12)
MARK, LATER = mark_of(TASK), mark_of(an_event(sequence=2, run=1))


def row_of(of: int | None, done: tuple[int, ...] = (), failed: tuple[int, ...] = ()) -> Json:
    row = None
    for number in done:
        row = reported(row, MARK, number, finished=True)
    for number in failed:
        row = reported(row, MARK, number, finished=False)
    if of is not None:
        row = opened(row, TASK, of, UNTIL)
    assert row is not None
    return row


@pytest.mark.parametrize(
    ("join", "row", "now", "taken", "why"),
    [
        (Join(), row_of(3, (2, 1)), 1.0, None, None),
        (Join(), row_of(3, (2, 1, 3)), 1.0, [1, 2, 3], None),
        (Join(), row_of(3, (2,), (1,)), 1.0, [], "1 of 3 sub-tasks ended badly, so that fewer than 3 can finish"),
        (Join(), row_of(3, (2, 1)), UNTIL, [], "in time 2 of 3 sub-tasks finished; it takes 3"),
        (Join(least=2), row_of(3, (3, 1)), 1.0, None, None),
        (Join(least=2), row_of(3, (3, 1)), UNTIL, [1, 3], None),
        (Join(least=2), row_of(3, (3, 1), (2,)), 1.0, [1, 3], None),
        (Join(least=9), row_of(2, (1, 2)), 1.0, [1, 2], None),
        (Join(take="first"), row_of(3, (), (1, 2)), 1.0, None, None),
        (Join(take="first"), row_of(3, (2, 1), (3,)), 1.0, [2], None),
        (Join(take="first"), row_of(3, (), (1, 2, 3)), 1.0, [], "3 of 3 sub-tasks ended badly"),
        (Join(take="first", least=2), row_of(3, (3, 1)), 1.0, [3, 1], None),
        (Join(take="first"), row_of(None, (1,)), 1.0, None, None),
        (Join(), row_of(1, (5, 1)), 1.0, [1], None),
    ],
)
def test_a_join_decides(join: Join, row: Json, now: float, taken: list[int] | None, why: str | None) -> None:
    found = decided(row, join, "x", now)["decided"]
    if taken is None:
        assert found is None
        return
    assert (found["taken"], found["by"], found["at"]) == (taken, "x", now)
    assert found["why"] is None if why is None else why in found["why"]


EVENTS = st.permutations([("task", 0), *(("sub", number) for number in range(1, 6))])


@given(EVENTS, st.lists(st.integers(0, 5), max_size=8), st.sets(st.integers(1, 5), max_size=2))
def test_every_order_and_repeat_decides_once_and_the_same(
    events: list[tuple[str, int]], repeats: list[int], bad: set[int]
) -> None:
    # Given the task and five sub-tasks, of which some end badly, in any order, some of them twice
    join, row, decisions = Join(least=3), None, []
    for kind, number in [*events, *(events[place] for place in repeats)]:
        # when each is folded in
        row = opened(row, TASK, 5, UNTIL) if kind == "task" else reported(row, MARK, number, number not in bad)
        row = decided(row, join, str(number), 1.0)
        if row["decided"] and row["decided"] not in decisions:
            decisions.append(row["decided"])
    # then there is one decision, with all that finished well
    assert len(decisions) == 1
    assert decisions[0]["taken"] == sorted(set(range(1, 6)) - bad)


def test_a_decided_row_takes_nothing_more() -> None:
    row = decided(row_of(1, (1,)), Join(), "1", 1.0)
    assert reported(row, MARK, 1, finished=False) == row
    assert opened(row, TASK, 9, 5.0) == row
    assert decided(row, Join(), "due", 999.0) == row
    assert cancelled(row, "cancel", {"at": 5.0, "reason": "why", "rollback": True}) == row


def test_another_join_of_the_task_begins_anew_and_the_one_before_is_late() -> None:
    first = decided(row_of(1, (1,)), Join(), "1", 1.0)
    second = reported(first, LATER, 2, finished=True)
    assert (second["mark"], second["done"], second["decided"]) == (LATER, [2], None)
    assert is_late(second, MARK)
    assert not is_late(second, LATER)
    assert not is_late(None, LATER)


@pytest.mark.parametrize("number", [0, -1, 4, 10**6])
def test_no_number_beyond_those_there_are_counts(number: int) -> None:
    row = row_of(3)
    assert reported(row, MARK, number, finished=True) == row


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"take": "some"}, "take is 'some'; it takes 'all' or 'first'"),
        ({"least": 0}, "at least one sub-task has to finish"),
        ({"within_seconds": 0}, "above 0, at most 7 days"),
        ({"within_seconds": 8 * 24 * 3600}, "above 0, at most 7 days"),
        ({"within_seconds": float("nan")}, "above 0, at most 7 days"),
    ],
)
def test_a_join_that_can_never_be_is_refused(wrong: Json, why: str) -> None:
    with pytest.raises(ValueError, match="step join") as refused:
        Join(**wrong)
    assert why in str(refused.value)


def test_a_row_knows_its_task_as_commands_see_it_until_it_is_decided() -> None:
    row = row_of(3, (1,))
    assert waiting(row, TASK.key) == subject_of(TASK)
    assert waiting(None, TASK.key) is None
    ended = cancelled(row, "cancel", {"at": 5.0, "reason": "by ada", "rollback": True})
    assert (ended["decided"]["by"], ended["decided"]["cancelled"]["reason"]) == ("cancel", "by ada")
    assert waiting(ended, TASK.key) is None
    # one of which only a sub-task is known, whose task will be met by the command when it comes
    early = row_of(None, (1,))
    assert cancelled(early, "cancel", {"at": 5.0, "reason": "by ada", "rollback": True}) == early
    assert waiting(early, TASK.key) is None
