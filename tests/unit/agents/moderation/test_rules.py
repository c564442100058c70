from pathlib import Path

import pytest
from pydantic import ValidationError

from callstream.agents.moderation import BadRules, ModerationRules, default_rules, load_rules


def test_every_default_rule_names_its_source_and_licence() -> None:
    rules = default_rules()
    assert all(rule.source and rule.licence and rule.why for rule in (*rules.words, *rules.claims))


@pytest.mark.parametrize(
    ("claim", "told"),
    [
        ("(a", "not an RE2 pattern"),
        (r"(a)\1", "not an RE2 pattern"),
        (r"(?=a)", "not an RE2 pattern"),
        ("((a{100}){100}){100}", "not an RE2 pattern"),
        ("a*", "match everywhere"),
    ],
)
def test_a_pattern_that_could_run_long_or_everywhere_is_refused(claim: str, told: str) -> None:
    given = {"claims": [{"id": "c", "category": "x", "action": "hold", "pattern": claim}]}
    with pytest.raises(ValidationError, match=told):
        ModerationRules.model_validate(given)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"words": [{"id": "w", "category": "x", "action": "hold", "words": ["\u200b"]}]}, "nothing that can be found"),
        ({"words": [{"id": "w", "category": "x", "action": "burn", "words": ["a"]}]}, "hold"),
        ({"words": [{"id": "w", "category": "x", "action": "hold", "words": ["a"]}] * 2}, "two rules are called w"),
        ({"length": {"fewest_characters": 9, "most_characters": 8}}, "above most_characters"),
        ({"colour": "red"}, "Extra inputs"),
    ],
)
def test_rules_that_make_no_sense_are_refused(given: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        ModerationRules.model_validate(given)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.toml", b"words = [", "a.toml"),
        ("a.toml", b"\xff", "a.toml"),
        ("a.json", b'{"version": NaN}', "NaN"),
        ("a.json", b'{"version": 0}', "version"),
        ("a.yaml", b"", ".toml or .json"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadRules, match=told):
        load_rules(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadRules, match=r"nowhere\.toml: No such file"):
        load_rules(tmp_path / "nowhere.toml")


def test_json_and_toml_say_the_same(tmp_path: Path) -> None:
    toml, json = tmp_path / "a.toml", tmp_path / "a.json"
    toml.write_text('allow = ["a b"]\n[[words]]\nid = "w"\ncategory = "c"\naction = "hold"\nwords = ["最佳"]\n')
    json.write_text('{"allow": ["a b"], "words": [{"id": "w", "category": "c", "action": "hold", "words": ["最佳"]}]}')
    assert load_rules(toml) == load_rules(json)
