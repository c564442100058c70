from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.agents.prepare.terms import Terms

KINDS = Terms(
    {"mug": ["cup", "tasse", "马克杯", "杯"], "shoes": ["shoe", "schuh", "跑鞋"], "phone case": ["手机壳"], "lamp": []},
    compounds=True,
)
BRANDS = Terms({"Nordwind": [], "Sol & Sal": [], "山岚": ["shanlan"]}, misread=True)


def values(terms: Terms, text: str) -> list[str]:
    return [match.value for match in terms.find(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Coffee MUGS and cups", ["mug", "mug"]),
        ("Laufschuhe", ["shoes"]),
        ("Kaffeetassen", ["mug"]),
        ("phone-case, Phonecase", ["phone case", "phone case"]),
        ("白色陶瓷马克杯", ["mug"]),
        ("轻便跑鞋手机壳", ["shoes", "phone case"]),
        ("clamp smug hiccup", []),
        ("", []),
    ],
)
def test_words_plurals_compounds_and_chinese_are_found(text: str, expected: list[str]) -> None:
    assert values(KINDS, text) == expected


@pytest.mark.parametrize("label", ["NORDWIND", "NORD WIND", "N0RDWIND", "NORDWlND", "NORDWIN", "NORRDWIND"])
def test_a_brand_is_found_with_one_letter_wrong(label: str) -> None:
    assert values(BRANDS, f"x {label} 42") == ["Nordwind"]


def test_only_exact_matches_are_marked_so() -> None:
    assert [match.exact for match in BRANDS.find("nordwind n0rdwind")] == [True, False]


@pytest.mark.parametrize("other", ["northwind", "norwalk", "salsol", "sol"])
def test_other_words_are_no_brand(other: str) -> None:
    assert values(BRANDS, other) == []


def test_signs_inside_a_brand_do_not_matter() -> None:
    assert values(BRANDS, "SOL&SAL espresso") == ["Sol & Sal"]


def test_places_are_those_in_the_text() -> None:
    text = "A white Cup"
    match = KINDS.find(text)[0]
    assert text[match.start : match.end] == "Cup"


def test_one_word_for_two_values_is_refused() -> None:
    with pytest.raises(ValueError, match="'Cup' stands for both 'mug' and 'glass'"):
        Terms({"mug": ["cup"], "glass": ["Cup"]})


def test_a_word_without_letters_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'\.\.\.' of 'mug' holds no letters"):
        Terms({"mug": ["..."]})


@given(st.text(max_size=200))
def test_any_text_is_searched_and_matches_do_not_overlap(text: str) -> None:
    for terms in (KINDS, BRANDS):
        found = terms.find(text)
        assert all(one.end <= other.start for one, other in pairwise(found))
