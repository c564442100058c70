"""The copy names what it was given, in each language."""

import re
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.agents.moderation import Decision, default_rules
from callstream.agents.moderation.rulesfile import judge_of
from callstream.stub.phrases import LANGUAGES, phrases, translations
from callstream.stub.prompt import CATEGORIES, Brief
from callstream.stub.translation import translate
from callstream.stub.writer import join_list, write_copy

FULL = {"brand": "Kilnrow", "title": "Morning Light", "colour": "matte sand", "size": "350 ml", "material": "clay"}
FEATURES = ("first thing", "second thing")
ALL_CATEGORIES = (*CATEGORIES, "other")

attributes = st.dictionaries(st.sampled_from(sorted(FULL)), st.text("abc{}% ", min_size=1).filter(str.strip))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("category", ALL_CATEGORIES)
@pytest.mark.parametrize("seed", range(4))
def test_the_copy_names_every_attribute_in_two_to_four_sentences(language: str, category: str, seed: int) -> None:
    copy = write_copy(Brief(FULL, FEATURES, category, language), seed)

    for value in (*FULL.values(), *FEATURES):
        assert value in copy
    assert 2 <= len(re.findall(r"[.。]", copy)) <= 4


@given(attributes, st.sampled_from(ALL_CATEGORIES), st.sampled_from(LANGUAGES), st.booleans())
def test_whatever_is_missing_the_rest_is_named(
    given_attributes: dict[str, str], category: str, language: str, with_features: bool
) -> None:
    copy = write_copy(Brief(given_attributes, FEATURES if with_features else (), category, language), 7)

    wanted = [value for name, value in given_attributes.items() if name != "title"]
    assert all(value in copy for value in wanted)
    assert ("second thing" in copy) == with_features
    assert copy


def test_the_copy_is_the_same_again_and_differs_by_seed_and_product() -> None:
    briefs = [Brief({**FULL, "title": f"Light {n}"}, FEATURES, "lamp", "en") for n in range(12)]

    assert write_copy(briefs[0], 7) == write_copy(briefs[0], 7)
    assert len({write_copy(briefs[0], seed) for seed in range(12)}) > 4
    assert len({write_copy(brief, 7).replace(brief.attributes["title"], "") for brief in briefs}) > 4


def test_common_values_are_put_into_the_language() -> None:
    copy = write_copy(Brief({"title": "晨光", "colour": "Red", "material": "ceramic"}, ("waterproof",), "mug", "zh"), 7)

    assert "红色" in copy
    assert "陶瓷" in copy
    assert "防水" in copy
    assert not re.search("[a-z]", copy)


def test_values_of_several_parts_are_put_into_the_language_if_all_parts_are_known() -> None:
    brief = Brief({"title": "晨光", "colour": "Blue and white", "material": "ceramic, moonstone"}, (), "mug", "zh")

    copy = write_copy(brief, 7)

    assert "蓝色和白色" in copy
    assert "ceramic, moonstone" in copy


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_template_says_what_the_default_rules_of_moderation_stop(language: str) -> None:
    judge, words = judge_of(default_rules()), phrases(language)

    templates = [words.features, *words.openings.values(), *words.details.values(), *words.closings.values()]
    for template in (*chain.from_iterable(templates), *words.leftovers.values(), *words.words.values()):
        assert judge.judge({"": template}).decision is Decision.PASS, template


def test_a_brand_that_begins_the_title_is_said_once() -> None:
    copy = write_copy(Brief({"brand": "Kilnrow", "title": "Kilnrow Mug"}, (), "mug", "en"), 7)

    assert copy.count("Kilnrow") == 1


def test_lists_are_joined_in_the_way_of_the_language() -> None:
    assert join_list(("a", "b", "c"), phrases("en")) == "a, b and c"
    assert join_list(("甲", "乙", "丙"), phrases("zh")) == "甲、乙和丙"
    assert join_list((), phrases("en")) == ""


def test_every_language_has_the_same_categories() -> None:
    for language in LANGUAGES:
        words = phrases(language)
        assert set(words.kinds) == set(words.openings) == set(ALL_CATEGORIES)
        assert set(words.leftovers) == {"title", "brand", "colour", "size", "material"}
    assert set(translations()) == set(LANGUAGES)


def test_a_translation_is_marked_and_replaces_known_phrases() -> None:
    text = "A mug by Kilnrow, made for every day. Put the kettle on and enjoy."

    assert translate(text, "de") == "[de] A Tasse von Kilnrow, gemacht für jeden Tag. Wasser aufsetzen und genießen."
    assert translate("杯子", "en") == "[en] 杯子"
