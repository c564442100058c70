"""Conditions in CEL: what they find, and what each that cannot be used is told."""

import pytest

from callstream.streams.conditions import BadCondition, Condition, Value

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
    assert Condition(expression, SAMPLE).holds(values) is holds


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
        ("[1, 2].all(x, [1, 2].all(y, true))", "macros over lists"),
        ("[1]. exists (step, true)", "macros over lists"),
        ("[1].//\nmap(x, x) == [1]", "line break"),
        ("x" * 501, "501 characters; at most 500"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(expression: str, told: str) -> None:
    with pytest.raises(BadCondition, match=r".") as caught:
        Condition(expression, SAMPLE)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_error_that_only_some_values_bring_is_told_too() -> None:
    condition = Condition("run == 0 || 1 / (run - 1) > 0", SAMPLE)
    with pytest.raises(BadCondition, match="division by zero"):
        condition.holds({**SAMPLE, "run": 1})
