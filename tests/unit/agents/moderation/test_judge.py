"""Judging by policies, over several texts, and masking."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from callstream.agents.moderation import Decision, Judge, Matcher, ModerationRules
from callstream.streams.event import Json

RULES: Json = {
    "words": [
        {"id": "law", "category": "superlative", "action": "reject", "words": ["国家级"]},
        {"id": "rude", "category": "insult", "action": "mask", "words": ["idiot", "idiot box"]},
        {"id": "boast", "category": "superlative", "action": "regenerate", "severity": "low", "words": ["best"]},
    ],
    "personal": [{"id": "own", "category": "personal-data", "action": "mask", "regions": ["CN"]}],
}


def judge(**more: object) -> Judge:
    return Judge(Matcher(ModerationRules.model_validate({**RULES, **more}), {}))


def policy(when: str, verdict: str = "pass", **more: object) -> list[Json]:
    return [{"id": "p", "when": when, "verdict": verdict, **more}]


@pytest.mark.parametrize(
    ("texts", "decision"),
    [
        ({"a": "a mug"}, "pass"),
        ({"a": "an idiot"}, "mask"),
        ({"a": "an idiot", "b": "the best"}, "regenerate"),
        ({"a": "the best", "b": "国家级"}, "reject"),
        ({}, "reject"),
    ],
)
def test_the_gravest_action_in_any_text_decides(texts: dict[str, str], decision: str) -> None:
    assert judge().judge(texts).decision == decision


def test_a_finding_says_in_which_text_it_is() -> None:
    told = judge().judge({"copy.text": "the best", "input.title": "best mug"}).as_json(1)
    assert [(one["part"], one["start"]) for one in told["findings"]] == [("copy.text", 4), ("input.title", 0)]


def test_what_is_found_is_masked_and_nothing_else() -> None:
    texts = {"a": "an idiot and his idiot box, call 13800138000 or kim@example.com", "b": "a mug", "c": "IDIOT"}
    judgement = judge().judge(texts)
    assert judgement.masked == {"a": "an ***** and his *********, call [phone] or [email]", "c": "*****"}
    assert judgement.as_json(1)["masked"] == ["a", "c"]


def test_more_is_masked_than_is_told() -> None:
    judgement = judge().judge({"a": "idiot " * 500})
    assert (judgement.found, len(judgement.findings)) == (500, 50)
    assert judgement.masked["a"] == "***** " * 500


@given(st.text(alphabet="idiot box1380013800 国家", max_size=80))
def test_what_was_masked_is_clean(text: str) -> None:
    judgement = judge().judge({"a": text})
    if judgement.decision is Decision.MASK:
        assert judge().judge({"a": judgement.masked["a"]}).decision is Decision.PASS


@pytest.mark.parametrize(
    ("when", "text", "decision"),
    [
        ("findings.exists(f, f.rule == 'law')", "国家级", "pass"),
        ("findings.exists(f, f.rule == 'law')", "the best", "regenerate"),
        ("found > 1 && findings.all(f, f.severity == 'low')", "best best", "pass"),
        ("tenant == 'acme'", "国家级", "pass"),
        ("tenant == 'other'", "国家级", "reject"),
        ("has(input.market) && input.market == 'US'", "国家级", "pass"),
        ("outputs.copy.tone == 'bold'", "the best", "pass"),
    ],
)
def test_a_policy_that_is_true_decides(when: str, text: str, decision: str) -> None:
    task: Json = {"tenant": "acme", "chain": "shop", "input": {"market": "US"}, "outputs": {"copy": {"tone": "bold"}}}
    judgement = judge(policies=policy(when, why="as agreed")).judge({"a": text}, task)
    assert judgement.decision == decision
    assert judgement.policy == ("policy p: as agreed" if decision == "pass" else "")


def test_the_first_policy_that_is_true_decides_and_says_so() -> None:
    policies = [*policy("found > 0", "hold"), {"id": "q", "when": "true", "verdict": "reject"}]
    judgement = judge(policies=policies).judge({"a": "the best"})
    assert (judgement.decision, judgement.reason) == (Decision.HOLD, "policy p; superlative: 'best' (boast)")
    assert judge(policies=policies).judge({"a": "a mug"}).reason == "policy q"


def test_a_policy_may_mask_what_is_graver() -> None:
    judgement = judge(policies=policy("found > 0", "mask")).judge({"a": "国家级的杯子"})
    assert (judgement.decision, judgement.masked) == (Decision.MASK, {"a": "***的杯子"})


def test_what_cannot_be_evaluated_lets_nothing_through() -> None:
    held = judge(policies=policy("input.market == 'US'")).judge({"a": "a mug"})
    assert held.decision is Decision.HOLD
    assert "no such field: " in held.policy
    assert judge(policies=policy("input.market == 'US'")).judge({"a": "国家级"}).decision is Decision.REJECT


@pytest.mark.parametrize(
    ("policies", "told"),
    [
        (policy("found >"), "cannot be parsed"),
        (policy("score > 1"), "'score' is not known"),
        (policy("found"), "not true or false"),
        (policy("true", "maybe"), "pass"),
        (policy("findings.all(a, findings.all(b, findings.all(c, true)))"), "at most 2 are run"),
        ([*policy("true"), *policy("true")], "two rules are called p"),
        ([{"id": "law", "when": "true", "verdict": "pass"}], "two rules are called law"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(policies: list[Json], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        judge(policies=policies)


def test_what_a_task_has_twice_is_told_once() -> None:
    told = judge().judge({"copy.text": "the best", "input.title": "best mug"}).told
    assert told.count("'best'") == 1
    assert "more" not in told
