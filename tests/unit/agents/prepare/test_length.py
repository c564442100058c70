"""How long texts may be, and where they are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.agents.prepare.length import Limit, clip, reckoned, shorten
from callstream.agents.prepare.text import plain

SENTENCES = "A mug for two. It keeps coffee warm! Made in Kiel."


@pytest.mark.parametrize(
    ("text", "room", "kept", "where"),
    [
        (SENTENCES, 100, SENTENCES, ""),
        (SENTENCES, 45, "A mug for two. It keeps coffee warm!", "after a sentence"),
        (SENTENCES, 36, "A mug for two. It keeps coffee warm!", "after a sentence"),
        (SENTENCES, 28, "A mug for two. It keeps", "after a word"),
        (SENTENCES, 30, "A mug for two. It keeps coffee", ""),
        ("双人马克杯。陶瓷，轻便。可用于洗碗机", 14, "双人马克杯。陶瓷，轻便。", "after a sentence"),
        ("He said “Go!” and then left the house", 16, "He said “Go!”", "after a sentence"),
        ("3.14159 is a number", 9, "3.14159", "after a word"),
        ("First line\nsecond line", 15, "First line", "after a sentence"),
        ("x" * 30, 10, "x" * 10, ""),
        ("one two", 3, "one", ""),
    ],
)
def test_a_cut_is_where_it_hurts_least(text: str, room: int, kept: str, where: str) -> None:
    assert shorten(text, room) == (kept, where)


@pytest.mark.parametrize(
    ("text", "room", "kept"),
    [
        ("ab🇩🇪🇫🇷", 3, "ab"),
        ("ab🇩🇪🇫🇷", 4, "ab🇩🇪"),
        ("ab🇩🇪🇫🇷", 5, "ab🇩🇪"),
        ("a👍🏽", 2, "a"),
        ("कि", 1, ""),
        ("ก็x", 1, ""),
    ],
)
def test_what_is_read_as_one_stays_one(text: str, room: int, kept: str) -> None:
    assert clip(text, room) == kept


def test_tokens_are_reckoned_by_script() -> None:
    assert reckoned("") == 0
    assert reckoned("plain words") == 3
    assert reckoned("双人马克杯") == 6
    assert reckoned("12.50") == 3


def test_a_limit_of_tokens_is_kept_and_told() -> None:
    english = plain(SENTENCES, Limit(tokens=10))
    assert english.text == "A mug for two. It keeps coffee warm!"
    assert english.notes == ("cut from about 14 to 10 tokens after a sentence",)
    chinese = plain("双人马克杯。" * 100, Limit(tokens=60))
    assert chinese.text == "双人马克杯。" * 8
    assert plain("双人马克杯", Limit(tokens=6)).notes == ()
    both = plain("x" * 100, Limit(characters=10, tokens=1000))
    assert both.notes == ("cut from 100 to 10 characters",)


@given(st.text(max_size=200), st.integers(1, 60))
def test_what_is_left_is_within_the_limit_and_stays(text: str, tokens: int) -> None:
    limit = Limit(tokens=tokens)
    once = plain(text, limit)
    assert reckoned(once.text) <= tokens
    assert plain(once.text, limit).text == once.text


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({}, "a limit is of characters, of tokens, or of both"),
        ({"tokens": 0}, "tokens is 0; 1 to 1,000,000"),
        ({"characters": 10**7}, "characters is 10000000"),
        ({"tokens": 1, "longer": "drop"}, "longer is 'drop'; 'cut' and 'bury' are allowed"),
    ],
)
def test_a_limit_that_is_none_is_refused(given: dict[str, object], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        Limit(**given)  # type: ignore[arg-type]
