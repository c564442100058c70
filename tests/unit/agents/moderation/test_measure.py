"""Precision and recall: counted right, by label, and of the texts that ship."""

from pathlib import Path

import pytest

from callstream.agents.moderation import BadRules, Judge, Matcher, ModerationRules, default_rules
from callstream.agents.moderation.measure import LabelledSet, Score, by, judged, load_labelled, score
from callstream.agents.moderation.rulesfile import judge_of

SHIPPED = Path(__file__).parents[4] / "benchmarks/data/moderation.toml"
RULES = ModerationRules.model_validate(
    {"words": [{"id": "best", "category": "superlative", "action": "hold", "words": ["best"]}]}
)
TEXTS = LabelledSet.model_validate(
    {
        "texts": [
            {"text": "the best mug", "verdict": "flag", "category": "superlative", "language": "en"},
            {"text": "an unbeatable mug", "verdict": "flag", "category": "superlative", "language": "en"},
            {"text": "best before May", "verdict": "pass", "language": "en"},
            {"text": "一个杯子", "verdict": "pass", "language": "zh"},
        ]
    }
)


def test_what_was_found_missed_and_wrongly_flagged_is_counted() -> None:
    told = judged(Judge(Matcher(RULES, {})), TEXTS)
    assert [one.right for one in told] == [True, False, False, True]
    assert score(told) == Score(wanted=2, found=1, wrong=1)
    assert (score(told).recall, score(told).precision) == (0.5, 0.5)
    assert by(told, lambda one: one.language) == {"en": Score(2, 1, 1), "zh": Score(0, 0, 0)}
    assert by(told, lambda one: one.category) == {"superlative": Score(2, 1, 0)}


def test_of_nothing_there_is_no_share() -> None:
    assert (Score(0, 0, 0).recall, Score(0, 0, 0).precision) == (None, None)


def test_a_category_goes_with_what_is_flagged(tmp_path: Path) -> None:
    file = tmp_path / "texts.toml"
    file.write_text('[[texts]]\ntext = "a"\nverdict = "flag"\n')
    with pytest.raises(BadRules, match="has a category"):
        load_labelled(file)


def test_the_texts_that_ship_are_many_different_and_of_all_kinds() -> None:
    texts = load_labelled(SHIPPED).texts
    assert len({one.text for one in texts}) == len(texts) >= 300
    categories = {one.category for one in texts if one.category}
    assert categories == {rule.category for rule in default_rules().rules}
    assert {one.language for one in texts} == {"en", "zh", "mixed"}
    assert len({one.evasion for one in texts if one.evasion}) >= 7


def test_the_rules_that_ship_do_not_fall_behind() -> None:
    told = judged(judge_of(default_rules()), load_labelled(SHIPPED))
    seen, unseen = score(told[::2]), score(told[1::2])
    # The first half was before the eyes of who wrote the rules; the second is for measuring alone.
    assert (seen.recall or 0) >= 0.97
    assert (seen.precision or 0) >= 0.97
    assert (unseen.recall or 0) >= 0.70
    assert (unseen.precision or 0) >= 0.90
