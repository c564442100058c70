"""Conditions in CEL: what they find, and what each that cannot be used is told."""

from typing import Any

import pytest

from callstream.streams.event import Json
from callstream.streams.expressions import BadExpression, Expression, Limits, NotEvaluated, Value, condition, rounds

SAMPLE: dict[str, Value] = {"step": "", "kind": "", "age": 0.0, "run": 0, "edited": False}


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("step == 'copy'", True),
        ("step in ['copy', 'check'] && age > 60", True),
        ("age > 100.5", False),
        ("kind.startsWith('ref') || run > 3", True),
        ("kind.matches('^re.*d$')", True),
        ("!edited && run == 1", True),
    ],
)
def test_what_holds(expression: str, holds: bool) -> None:
    values: dict[str, Value] = {"step": "copy", "kind": "refused", "age": 90.0, "run": 1, "edited": False}
    assert condition(expression, SAMPLE, 500).holds(values) is holds


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("", "cannot be parsed"),
        ("step ==", "cannot be parsed: 1:8"),
        ("(" * 200, "cannot be parsed"),
        ("nope == 1", "'nope' is not known; known are: age, edited, kind, run, step"),
        ("step.name == 'x'", "cannot be evaluated"),
        ("step + run == 'x'", "cannot be evaluated: Unsupported operation"),
        ("1 / 0 == 1", "division by zero"),
        ("step.matches('(')", "not a valid regex"),
        ("step", "gives str, not true or false"),
        ("[1, 2].all(x, [1, 2].all(y, true))", "loops (all, exists, exists_one, map, filter); none is run"),
        ("[1]. exists (step, true)", "loops (all, exists, exists_one, map, filter); none is run"),
        ("[1].//\nmap(x, x) == [1]", "line break"),
        ("x" * 501, "501 characters; at most 500"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(expression: str, told: str) -> None:
    with pytest.raises(BadExpression, match=r".") as caught:
        condition(expression, SAMPLE, 500)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_error_that_only_some_values_bring_is_told_too() -> None:
    divided = condition("run == 0 || 1 / (run - 1) > 0", SAMPLE, 500)
    with pytest.raises(BadExpression, match="division by zero"):
        divided.holds({**SAMPLE, "run": 1})


LOOPING = Limits(characters=2_000, loops=3)


def test_loops_over_much_are_not_run() -> None:
    large: Json = {"tags": list(range(3_000))}
    assert Expression("tags.all(a, a >= 0)", {"tags"}, LOOPING).holds(large)
    with pytest.raises(NotEvaluated, match="too large for its loops"):
        Expression("tags.all(a, tags.all(b, a >= b))", {"tags"}, LOOPING).holds(large)
    # nor over what the expression holds itself
    listed = f"[{','.join(['1'] * 400)}]"
    with pytest.raises(NotEvaluated, match="too large for its loops"):
        Expression(f"{listed}.all(a, {listed}.all(b, [1].all(c, true)))", (), LOOPING).holds({})


def test_a_missing_field_is_no_fault_of_the_expression() -> None:
    asks = Expression("input.colour == 'red'", {"input"}, LOOPING)
    with pytest.raises(NotEvaluated, match=r"no such field: colour; guard it with has\(…\)"):
        asks.holds({"input": {}})
    assert asks.holds({"input": {"colour": "red"}})


@pytest.mark.parametrize("ended", ["\n", "\r", "\x0b", "\x0c", "\x85", "\u2028", "\t"])
def test_nothing_hides_a_loop_behind_a_comment(ended: str) -> None:
    with pytest.raises(BadExpression, match=r"a line break|token"):
        Expression(f"[1].//{ended}all(a, true)", (), LOOPING)


def test_only_what_is_asked_for_is_needed() -> None:
    assert Expression("state == 'failed'", {"state", "chain"}, LOOPING).needs("state")
    assert not Expression("chain == 'state'", {"state", "chain"}, LOOPING).needs("state")


@pytest.mark.parametrize(("value", "count"), [(1, 0), ([], 0), ([1, [2, 3]], 4), ({"a": {"b": [1, 2]}}, 4)])
def test_what_lies_within_a_value_is_counted(value: Any, count: int) -> None:
    assert rounds(value) == count
