"""The tests that lie beside a rules file: what is expected of a text, and what is told where it comes out otherwise."""

from pathlib import Path

import pytest

from callstream.agents.moderation import BadRules, ModerationRules, default_rules
from callstream.agents.moderation.cases import Cases, cases_beside, load_cases, tried
from callstream.agents.moderation.rules import DEFAULT_RULES
from callstream.agents.moderation.rulesfile import judge_of

RULES = ModerationRules.model_validate(
    {
        "words": [
            {"id": "rude", "category": "insult", "action": "hold", "words": ["ass"]},
            {"id": "law", "category": "superlative", "action": "reject", "words": ["最佳"]},
        ],
        "claims": [{"id": "cure", "category": "health", "action": "reject", "pattern": "cures cancer"}],
    }
)


def outcome(*cases: object) -> tuple[list[str], tuple[str, ...]]:
    run = tried(judge_of(RULES), Cases.model_validate({"cases": cases}))
    return [str(miss) for miss in run.misses], run.idle


def test_what_comes_out_as_expected_is_no_miss_and_rules_that_no_case_met_are_named() -> None:
    cases = (
        {"text": "a fine mug", "verdict": "pass"},
        {"text": "最佳 ass", "verdict": "reject", "rules": ["law", "rude"]},
    )
    assert outcome(*cases) == ([], ("cure",))


def test_a_miss_says_which_case_what_was_expected_and_what_came() -> None:
    misses, _ = outcome(
        {"text": "a fine mug", "verdict": "hold"},
        {"text": "ass", "verdict": "hold", "rules": ["law"]},
        {"text": "最佳", "verdict": "reject"},
    )
    assert misses == [
        "case 1 'a fine mug': expected hold, got pass",
        "case 2 'ass': expected hold by law, got hold by rude",
    ]


def test_a_rule_that_the_file_does_not_have_is_a_miss_of_its_case() -> None:
    [miss], _ = outcome({"text": "ass", "verdict": "hold", "rules": ["rood"]})
    assert miss == "case 1 'ass': expected hold by rood, got hold by rude"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("", "cases"),
        ("[[cases]]\ntext = 'a'\nverdict = 'maybe'\n", "cases.0.verdict"),
        ("[[cases]]\ntext = 'a'\nverdict = 'pass'\nrules = ['law']\n", "passes"),
        ("no toml", "cases.toml"),
    ],
)
def test_a_file_that_is_none_is_refused_with_the_place(tmp_path: Path, said: str, told: str) -> None:
    file = tmp_path / "mine.cases.toml"
    file.write_text(said)
    with pytest.raises(BadRules, match=told) as refused:
        load_cases(file)
    assert str(file) in str(refused.value)


def test_the_rules_that_ship_pass_their_cases_and_every_rule_of_them_is_met() -> None:
    run = tried(judge_of(default_rules()), load_cases(cases_beside(DEFAULT_RULES)))
    assert [str(miss) for miss in run.misses] == []
    assert run.idle == ()
