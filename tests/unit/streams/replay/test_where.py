from typing import Any

import pytest

from callstream.streams.replay.where import MOST_CHARACTERS, BadRule, RuleFailed, Where, rounds
from tests.support.events import an_event

EVENT = an_event(outputs={"copy": {"text": "a red mug", "tags": ["red", "mug"]}}, reuses=None)


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        ('chain == "shop" && tenant == "acme" && task == "mug-1"', True),
        ('priority == "high"', False),
        ("version == 1 && time > 9.0", True),
        ('outputs.copy.text.contains("red")', True),
        ('outputs.copy.tags.exists(tag, tag == "blue")', False),
        ('has(input.colour) && input.colour == "red"', False),
        ('state == "finished"', True),
        ("true", True),
    ],
)
def test_a_rule_says_whether_an_event_is_meant(rule: str, holds: bool) -> None:
    assert Where(rule).holds(EVENT, "finished") is holds


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("chain ==", "the rule does not parse: "),
        ("", "the rule does not parse: "),
        ("colour == 'red'", "'colour' is no variable of a rule; there are: chain, tenant"),
        ("x" * (MOST_CHARACTERS + 1), "2,001 characters; at most 2,000"),
        ("[1].//\nall(a, true)", "a line break"),
        ("cel.bind(x, chain + chain, x == x)", "binds or transforms"),
        ("[1].transformList(i, v, v) == []", "binds or transforms"),
        ("[1].all(a, true) && [1].all(b, true) && [1].all(c, true) && [1].map(d, d) == []", "4 loops"),
    ],
)
def test_a_rule_that_cannot_be_used_is_refused_before_it_is_asked(rule: str, said: str) -> None:
    with pytest.raises(BadRule) as refused:
        Where(rule)
    assert said in str(refused.value)


@pytest.mark.parametrize("rule", ["version", "chain + tenant", "nothing(chain)", "version / 0 == 1"])
def test_a_rule_that_gives_neither_true_nor_false_is_refused(rule: str) -> None:
    with pytest.raises(BadRule):
        Where(rule).holds(EVENT)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ('input.colour == "red"', "no such field: colour; guard it with has(…)"),
        ("outputs.verdict.ok", "no such field: verdict; guard it with has(…)"),
        ("chain > 3 || version + tenant == 1", "operand types"),
    ],
)
def test_an_event_that_has_not_what_is_asked_for_fails_alone(rule: str, said: str) -> None:
    with pytest.raises(RuleFailed) as failed:
        Where(rule).holds(EVENT)
    assert said in str(failed.value)


def test_loops_over_much_are_not_run() -> None:
    large = an_event(outputs={"copy": {"tags": list(range(3_000))}})
    assert Where("outputs.copy.tags.all(a, a >= 0)").holds(large)
    with pytest.raises(RuleFailed, match="too large for the loops"):
        Where("outputs.copy.tags.all(a, outputs.copy.tags.all(b, a >= b))").holds(large)


def test_only_a_rule_that_asks_for_the_state_needs_it() -> None:
    assert Where('state == "failed"').needs_state
    assert not Where('chain == "state"').needs_state


@pytest.mark.parametrize(("value", "count"), [(1, 0), ([], 0), ([1, [2, 3]], 4), ({"a": {"b": [1, 2]}}, 4)])
def test_what_lies_within_a_value_is_counted(value: Any, count: int) -> None:
    assert rounds(value) == count
