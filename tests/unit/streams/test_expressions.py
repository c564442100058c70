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
        ("step ==", "cannot be parsed at column 8: it ends too early: a value or a closing bracket is missing"),
        ("(" * 200, "cannot be parsed at column 97: it is nested too deep"),
        ("step = 'copy'", "at column 6: '=' cannot stand here: write == to compare"),
        ("step == 'copy' and run == 1", "at column 16: 'and' cannot stand here: write &&"),
        ("step == \u201ccopy\u201d", "at column 9: '\u201c' cannot stand here: write plain quotes"),
        ("step == 'copy", "at column 9: the text that begins here does not end: close its quote"),
        ("step run", "at column 6: 'run' cannot stand here: join conditions with && or ||"),
        ("run == 99999999999999999999", "at column 8: invalid int literal"),
        ("nope == 1", "'nope' is not known; known are: age, edited, kind, run, step"),
        ("step.name == 'x'", "cannot be evaluated: a value is of another type than is asked for; compare like"),
        ("step.shout() == 'x'", "cannot be evaluated: not known: 'shout'"),
        ("step + run == 'x'", "cannot be evaluated: Unsupported operation"),
        ("1 / 0 == 1", "division by zero"),
        ("step.matches('(')", "not a valid regex"),
        ("step", "gives str, not true or false"),
        ("[1, 2].all(x, [1, 2].all(y, true))", "loops (all, exists, exists_one, map, filter); none is run"),
        ("[1]. exists (step, true)", "it has 1 loop (all, exists, exists_one, map, filter); none is run"),
        ("[1].//\nmap(x, x) == [1]", "line break"),
        ("x" * 501, "501 characters; at most 500"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(expression: str, told: str) -> None:
    with pytest.raises(BadExpression, match=r".") as caught:
        condition(expression, SAMPLE, 500)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200
    assert not any(word in str(caught.value) for word in ("EOF", "IDENTIFIER", "expecting", "token"))


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


@pytest.mark.parametrize(
    "expression",
    [
        "a.exists(x, s.matches('(x+x+)+y'))",
        "a.exists(x, s.contains('y'))",
        "a.exists(x, s + s + s == 'y')",
        " || ".join(["s.matches('(x+x+)+y')"] * 60),
    ],
)
def test_long_texts_are_not_searched_over_and_over(expression: str) -> None:
    found = Expression(expression, {"a", "s"}, Limits(2_000, 2))
    assert not found.holds({"a": list(range(100)), "s": "x" * 1_000})
    with pytest.raises(NotEvaluated, match="the texts are too long to be searched so often"):
        found.holds({"a": list(range(100)), "s": "x" * 1_000_000})


def test_a_megabyte_of_one_word_is_searched_once() -> None:
    assert not Expression("s.matches('(x+x+)+y') && s.contains('z')", {"s"}, Limits(100)).holds({"s": "x" * 1_000_000})


def test_a_missing_field_is_no_fault_of_the_expression() -> None:
    asks = Expression("input.colour == 'red'", {"input"}, LOOPING)
    with pytest.raises(NotEvaluated, match=r"no such field: colour; guard it with has\(…\)"):
        asks.holds({"input": {}})
    assert asks.holds({"input": {"colour": "red"}})


@pytest.mark.parametrize("ended", ["\n", "\r", "\x0b", "\x0c", "\x85", "\u2028", "\t"])
def test_nothing_hides_a_loop_behind_a_comment(ended: str) -> None:
    with pytest.raises(BadExpression, match=r"a line break"):
        Expression(f"[1].//{ended}all(a, true)", (), LOOPING)


def test_only_what_is_asked_for_is_needed() -> None:
    assert Expression("state == 'failed'", {"state", "chain"}, LOOPING).needs("state")
    assert not Expression("chain == 'state'", {"state", "chain"}, LOOPING).needs("state")


@pytest.mark.parametrize(("value", "count"), [(1, 0), ([], 0), ([1, [2, 3]], 4), ({"a": {"b": [1, 2]}}, 4)])
def test_what_lies_within_a_value_is_counted(value: Any, count: int) -> None:
    assert rounds(value) == count
