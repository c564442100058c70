"""The judge of a kill at a point finds each thing that may go wrong, and nothing where all is right."""

from dataclasses import replace
from typing import Any

import pytest

from tests.faults.verdict import SIGKILLED, Call, Evidence, Seen, Want, judge

KILL = 100.0
STEPS = ("intake", "copy")
WANT = Want("t-1", STEPS, calls=True, told=True)
SEEN = Seen("finished", STEPS, ends=frozenset({"t-1/9/1"}), callbacks=("m-1", "m-1"))
DEAD = Want("t-2", STEPS, run=1, letters=1, redriven=True, subtasks=2)
REDRIVEN = Seen(
    *("finished", STEPS, 1, frozenset({"t-2/9/1", "t-2/9/1/1"}), frozenset({"t-2/2/1"})),
    letter=("redriven", 1),
    subtasks=2,
)
FIRST, SECOND = Call("c-1", "t-1", 99.5, 99.9), Call("c-1", "t-1", 101.0, 102.0)
RIGHT = Evidence(
    wants=[WANT, DEAD],
    rows={"mug": "t-1", "lamp": ""},
    reached=True,
    kills=[KILL],
    seen={"t-1": SEEN, "t-2": REDRIVEN},
    catalogue={"mug": ["t-1"]},
    calls=[FIRST, SECOND],
    answered={"c-1": 102.1},
    lag={},
    exits=[SIGKILLED],
)


def seen(**changes: Any) -> dict[str, Any]:
    return {"seen": {**RIGHT.seen, "t-1": replace(SEEN, **changes)}}


def redriven(**changes: Any) -> dict[str, Any]:
    return {"seen": {**RIGHT.seen, "t-2": replace(REDRIVEN, **changes)}}


def test_nothing_is_wrong_where_all_is_right() -> None:
    verdict = judge(RIGHT)
    assert verdict.faults == ()
    assert (verdict.lost, verdict.repeated, verdict.told_again) == (0, 1, 1)


def test_another_trail_may_be_as_right() -> None:
    other = ("intake",)
    wants = [replace(WANT, also=other), DEAD]
    assert judge(replace(RIGHT, wants=wants, **seen(steps=other))).faults == ()
    assert judge(replace(RIGHT, wants=wants)).faults == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reached": False}, "never came to that point"),
        ({"wants": [], "seen": {}}, "nothing ended as it should"),
        ({"seen": {}}, "nothing ended as it should"),
        (seen(state="running"), "1 lost: t-1 is running"),
        ({"seen": {"t-2": REDRIVEN}}, "1 lost: t-1 is unknown"),
        (seen(steps=("intake", "copy", "copy")), "t-1 went by intake, copy, copy"),
        (seen(run=1), "t-1 is in run 1, not 0"),
        (seen(ends=frozenset({"a", "b"})), "t-1 has 2 ends: a; b"),
        (seen(ends=frozenset()), "t-1 has 0 ends"),
        (seen(letters=frozenset({"a"})), "t-1 has 1 dead letters, not 0"),
        (seen(callbacks=()), "the caller of t-1 was not told"),
        (seen(callbacks=("m-1", "m-2")), "the caller of t-1 was told of"),
        (redriven(callbacks=("m-1",)), "the caller of t-2 was told of"),
        (redriven(letter=("waiting", 0)), "the letter of t-2 is ('waiting', 0)"),
        (redriven(letter=("redriven", 2)), "the letter of t-2 is ('redriven', 2)"),
        (redriven(letters=frozenset({"a", "b"})), "t-2 has 2 dead letters, not 1"),
        (redriven(subtasks=3), "t-2 has 3 sub-tasks, not 2"),
        ({"catalogue": {}}, "the row of mug is of nobody, not of t-1"),
        ({"catalogue": {"mug": ["t-2"]}}, "the row of mug is of t-2, not of t-1"),
        ({"catalogue": {"mug": ["t-1"], "lamp": ["t-2"]}}, "the row of lamp is of t-2, not of nobody"),
        ({"catalogue": {"mug": ["t-1"], "vase": ["t-2"]}}, "a row of vase, which nobody asked for"),
        ({"calls": []}, "no call was made for t-1"),
        ({"answered": {"c-1": 100.9}}, "made again whose answers were on the log: c-1"),
        ({"calls": [FIRST, replace(SECOND, begin=99.8)]}, "made again without a kill: c-1"),
        ({"kills": []}, "made again without a kill: c-1"),
        ({"calls": [FIRST, SECOND, SECOND]}, "one call was made 3 times through 1 kills"),
        ({"lag": {"infer": 2}}, "lag is left: {'infer': 2}"),
        ({"exits": [SIGKILLED, 1]}, "the worker ended by itself, too: [1]"),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, Any], said: str) -> None:
    faults = judge(replace(RIGHT, **changes)).faults
    assert any(said in fault for fault in faults), faults
