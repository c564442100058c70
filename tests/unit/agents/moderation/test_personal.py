"""Personal data in a text: what is one by its own checksum or numbering plan, and what only looks like it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.agents.moderation.judge import Judge
from callstream.agents.moderation.matcher import Matcher
from callstream.agents.moderation.normalise import simplified
from callstream.agents.moderation.personal import find_personal
from callstream.agents.moderation.rules import (
    Action,
    BadRules,
    Decision,
    ModerationRules,
    Personal,
    PersonalKind,
    load_rules,
)

CALL, MAIL, CARD, RESIDENT = PersonalKind.PHONE, PersonalKind.EMAIL, PersonalKind.CARD, PersonalKind.RESIDENT_ID
RULE = Personal(
    id="personal",
    category="personal-data",
    action=Action.HOLD,
    regions=("CN", "US", "GB"),
    not_after=("part number", "order no", "零件号"),
)


def found(text: str, rule: Personal = RULE) -> list[tuple[PersonalKind, str]]:
    return [(kind, text[start:end]) for kind, start, end in find_personal(text, rule)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("打电话 13800138000 给我", [(CALL, "13800138000")]),
        ("138-0013-8000,", [(CALL, "138-0013-8000")]),
        ("138 0013 8000 139 0013 9000", [(CALL, "138 0013 8000"), (CALL, "139 0013 9000")]),
        ("１３８００１３８０００", [(CALL, "１３８００１３８０００")]),
        ("138\u200b0013\u200b8000", [(CALL, "138\u200b0013\u200b8000")]),
        ("加微信同号13800138000。", [(CALL, "13800138000")]),
        ("Call +44 20 7946 0958 now", [(CALL, "+44 20 7946 0958")]),
        ("ring (212) 555-2368.", [(CALL, "(212) 555-2368")]),
        ("write to anna-lena.k@my-shop.co.uk!", [(MAIL, "anna-lena.k@my-shop.co.uk")]),
        ("kim＠example。com or kim@example.com", [(MAIL, "kim@example.com")]),
        ("card 4111 1111 1111 1111, 12/27", [(CARD, "4111 1111 1111 1111")]),
        ("4111-1111-1111-1111", [(CARD, "4111-1111-1111-1111")]),
        ("kim (at) example.com", [(MAIL, "kim (at) example.com")]),
        ("tom dot sample at example dot com", [(MAIL, "tom dot sample at example dot com")]),
        ("4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1,", [(CARD, "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1")]),
        ("电话1/3/8/0/0/1/3/8/0/0/0，", [(CALL, "1/3/8/0/0/1/3/8/0/0/0")]),
        ("身份证310115198502280006补", [(RESIDENT, "310115198502280006")]),
        ("身份证360426199101010071", [(RESIDENT, "360426199101010071")]),
        ("36042619910101007１", [(RESIDENT, "36042619910101007１")]),
        ("11010519491231002X 和 11010519491231002x", [(RESIDENT, f"11010519491231002{x}") for x in "Xx"]),
    ],
)
def test_what_is_personal_is_found_where_it_stands(text: str, expected: list[tuple[PersonalKind, str]]) -> None:
    assert found(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a mug of 350 ml for 12.99, 2026-11-26, 1200x800",
        "EAN 4006381333931, SKU 12345678901",
        "4111 1111 1111 1112",
        "360426199101010072",
        "the ratio is 1:1000000, the number 0000000000000000",
        "at @handle and user@localhost",
        "2125552368 pieces",
        "Part number 13800138000, order No.: 13800138000, 零件号：13800138000",
        "ring 1-800-555-0199 or +1 800 555 0199",
        "dot to dot at home",
        "990115198502280006 310115209902280005",
        "1/2/3/4/5/6/7/8/9",
        "1.380.013.800.012.345.678.901.234.567.890",
    ],
)
def test_what_only_looks_like_it_is_not(text: str) -> None:
    assert found(text) == []


def test_only_the_kinds_that_are_asked_for_are_found() -> None:
    text = "13800138000 kim@example.com"
    assert found(text, RULE.model_copy(update={"kinds": (MAIL,)})) == [(MAIL, "kim@example.com")]
    abroad = RULE.model_copy(update={"regions": ("US",)})
    assert found(text, abroad) == [(MAIL, "kim@example.com")]


@given(st.text(alphabet="0123456789 -+().@abX\u200b１２\u202e國", max_size=300))
def test_whatever_it_is_given_spans_are_in_order_apart_and_within(text: str) -> None:
    last = 0
    for _, start, end in find_personal(text, RULE):
        assert last <= start < end <= len(text)
        last = end


def test_long_runs_of_digits_are_not_read_for_ever() -> None:
    assert found("1" * 1_000_000) == []
    assert found("1 " * 200_000) == []
    assert found("a@" * 200_000) == []


def test_a_judgement_does_not_repeat_what_it_found() -> None:
    rules = ModerationRules(personal=(RULE,))
    judgement = Judge(Matcher(rules, simplified())).judge({"": "Ask 13800138000 or kim@example.com"})
    assert judgement.decision is Decision.HOLD
    assert [(one.category, one.text, one.start, one.end) for one in judgement.findings] == [
        ("personal-data", "[phone]", 4, 15),
        ("personal-data", "[email]", 19, 34),
    ]
    assert "13800138000" not in judgement.reason


def test_a_region_that_no_numbering_plan_has_is_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "rules.toml"
    file.write_text('[[personal]]\nid = "p"\ncategory = "c"\naction = "hold"\nregions = ["CN", "XX"]\n')
    with pytest.raises(BadRules, match="'XX' is no region"):
        load_rules(file)
