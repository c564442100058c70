import pytest

from callstream.streams.expressions import BadExpression, NotEvaluated
from callstream.streams.replay.where import LIMITS, values_of, where
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
    assert where(rule).holds(values_of(EVENT, "finished")) is holds


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("chain ==", "it cannot be parsed at column "),
        ("", "it cannot be parsed at column "),
        ("colour == 'red'", "'colour' is not known; known are: chain, input"),
        ("x" * (LIMITS.characters + 1), "2,001 characters; at most 2,000"),
        ("[1].//\nall(a, true)", "a line break"),
        ("cel.bind(x, chain + chain, x == x)", "binds or transforms"),
        ("[1].transformList(i, v, v) == []", "binds or transforms"),
        ("[1].all(a, true) && [1].all(b, true) && [1].all(c, true) && [1].map(d, d) == []", "4 loops"),
    ],
)
def test_a_rule_that_cannot_be_used_is_refused_before_it_is_asked(rule: str, said: str) -> None:
    with pytest.raises(BadExpression) as refused:
        where(rule)
    assert said in str(refused.value)


@pytest.mark.parametrize("rule", ["version", "chain + tenant", "nothing(chain)", "version / 0 == 1"])
def test_a_rule_that_gives_neither_true_nor_false_is_refused(rule: str) -> None:
    with pytest.raises(BadExpression):
        where(rule).holds(values_of(EVENT, "running"))


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ('input.colour == "red"', "no such field: colour; guard it with has(…)"),
        ("outputs.verdict.ok", "no such field: verdict; guard it with has(…)"),
        ("chain > 3 || version + tenant == 1", "another type"),
    ],
)
def test_an_event_that_has_not_what_is_asked_for_fails_alone(rule: str, said: str) -> None:
    with pytest.raises(NotEvaluated) as failed:
        where(rule).holds(values_of(EVENT, "running"))
    assert said in str(failed.value)
