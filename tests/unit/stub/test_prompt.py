"""What is read out of a prompt."""

import json

import pytest

from callstream.stub.prompt import Message, category_of, directives, language_code, last_user_text, read_brief

LINES = """Write copy for this product.
- Brand: Kilnrow
- Category: Mugs & cups
- Color: navy
- size : 350 ml
Material: stoneware
Title: Kilnrow Morning Mug
Features: dishwasher safe, holds heat; made by hand
Language: English
Note: be kind
"""
BLOCK = """Schreibe einen Text.
```json
{"language": "de", "product": {"brand": "Kilnrow", "colour": ["blue", "white"], "size": 42, "features": ["leicht"]}}
```
brand: Not this one
"""


def user(text: str, system: str = "") -> tuple[Message, ...]:
    return (Message("system", system), Message("user", text))


def test_attributes_are_read_from_lines() -> None:
    brief = read_brief(user(LINES))

    assert brief.attributes == {
        "brand": "Kilnrow",
        "colour": "navy",
        "size": "350 ml",
        "material": "stoneware",
        "title": "Kilnrow Morning Mug",
    }
    assert brief.features == ("dishwasher safe", "holds heat", "made by hand")
    assert (brief.category, brief.language, brief.translate) == ("mug", "en", False)


def test_a_fenced_block_comes_before_lines() -> None:
    brief = read_brief(user(BLOCK))

    assert brief.attributes == {"brand": "Kilnrow", "colour": "blue, white", "size": "42"}
    assert (brief.features, brief.language) == (("leicht",), "de")


def test_a_broken_block_falls_back_to_lines() -> None:
    assert read_brief(user("```json\n{broken\n```\nbrand: Kilnrow")).attributes == {"brand": "Kilnrow"}


def test_chinese_names_and_colons_are_read_and_tell_the_language() -> None:
    brief = read_brief(user("品牌：云岭\n类别：茶叶\n颜色：青绿\n卖点：手工采摘、回甘"))

    assert brief.attributes == {"brand": "云岭", "colour": "青绿"}
    assert (brief.category, brief.language, brief.features) == ("tea", "zh", ("手工采摘", "回甘"))


def test_the_last_user_message_counts() -> None:
    messages = (*user("brand: Old"), Message("assistant", "brand: Mine"), Message("user", "brand: New"))

    assert read_brief(messages).attributes == {"brand": "New"}
    assert last_user_text((Message("system", "only"),)) == "only"
    assert last_user_text(()) == ""


@pytest.mark.parametrize(
    ("system", "language", "translate"),
    [
        ("Translate the text into German.", "de", True),
        ("You are a translator. Translate to fr", "fr", True),
        ("把下面的文字翻译成中文", "zh", True),
        ("Write the copy in Chinese.", "zh", False),
        ("Write the copy in a friendly tone.", "en", False),
    ],
)
def test_the_system_message_names_language_and_translation(system: str, language: str, translate: bool) -> None:
    brief = read_brief(user("A mug.", system))

    assert (brief.language, brief.translate) == (language, translate)


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("Running shoes", "shoes"),
        ("Laufschuhe", "shoes"),
        ("lightweight jacket", "jacket"),
        ("camera backpack", "backpack"),
        ("coffee mug", "mug"),
        ("Phone cases", "phone case"),
        ("无线耳机", "headphones"),
        ("保温杯", "mug"),
        ("garden hose", "other"),
        ("", "other"),
    ],
)
def test_categories(text: str, category: str) -> None:
    assert category_of(text) == category


def test_languages_by_code_and_name() -> None:
    assert [language_code(name) for name in ("EN-gb", "Deutsch", "zh_CN", "中文", "Klingon", "")] == [
        *("en", "de", "zh", "zh"),
        *(None, None),
    ]


def test_directives_go_to_the_end_of_their_line_or_to_the_next() -> None:
    told = directives("brand: x\nA mug. stub-say: buy: it now   stub-fail: 503*2 \nstub-wait:\nno-stub-fail: hang")

    assert told == {"say": "buy: it now", "fail": "503*2", "wait": ""}
    assert directives("nothing here") == {}


def test_directives_are_found_in_the_texts_of_a_block() -> None:
    block = {"title": "Mug", "features": ["round", "stub-fail: hang"], "more": {"description": "Fine.\nstub-say: Oh!"}}

    assert directives(f"stub-x: 1\n```json\n{json.dumps(block, indent=2)}\n```\nend") == {
        "x": "1",
        "fail": "hang",
        "say": "Oh!",
    }


def test_long_values_and_long_lines_are_bounded() -> None:
    brief = read_brief(user("brand: " + "x" * 100_000 + "\n" + "y" * 100_000 + ": z\n" + ":" * 10_000))

    assert len(brief.attributes["brand"]) == 400


@pytest.mark.parametrize(
    ("asked", "language"),
    [("Simplified Chinese", "zh"), ("Spanish", "es"), ("German", "de"), ("Klingon", "en")],
)
def test_the_language_to_translate_into_is_read_from_the_instructions(asked: str, language: str) -> None:
    brief = read_brief(user("A mug.", f"Translate the user's text into {asked}. Answer with it alone."))
    assert (brief.translate, brief.language) == (True, language)
