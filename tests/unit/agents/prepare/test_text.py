import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callstream.agents.lookalikes import lookalikes
from callstream.agents.prepare.length import clip
from callstream.agents.prepare.text import collapse, fold, plain, without_invisible

TRICKY = (
    "\u200b\u200c\u200d\u2060\ufeff\u202e\u0301\u0300\ufe0f\u20e3"
    "👩💻ﾞｶ㍻，！ＡＢ１ﬁ²½①\u1100\u1161\u3164\r\n\t\x00\x85\u2028\ud800 A中"
)
TEXTS = st.text(st.one_of(st.characters(), st.sampled_from(TRICKY)), max_size=60)


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.integers(1, 40), st.booleans())
def test_plain_is_idempotent_and_bounded(text: str, most: int, one_line: bool) -> None:
    # given a text made plain
    once = plain(text, most, one_line)
    # when it is made plain again
    twice = plain(once.text, most, one_line)
    # then nothing changes, nothing is noted, and the bound holds
    assert twice.text == once.text
    assert twice.notes == ()
    assert len(once.text) <= most
    assert not (one_line and "\n" in once.text)


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_a_text_that_changes_is_noted(text: str) -> None:
    made = plain(text, 100)
    if not made.notes:
        assert made.text == unicodedata.normalize("NFC", without_invisible(text)[0])


@given(TEXTS)
def test_what_comes_out_is_utf_8(text: str) -> None:
    plain(text, 100).text.encode("utf-8")


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("ＡＢＣ　１２３", "ABC 123"),
        ("ｶﾞﾗｽ", "ガラス"),
        ("ﬁne ℌat", "fine Hat"),
        ("5 m² and ½ ①", "5 m² and ½ ①"),
        ("e\u0301cran", "écran"),
        ("轻便，透气！", "轻便，透气！"),
        ("ok，fine！", "ok,fine!"),
        ("豈", "豈"),
    ],
)
def test_width_and_forms_are_folded(given_text: str, expected: str) -> None:
    assert fold(given_text) == expected


def test_invisible_characters_go_and_are_named() -> None:
    # given a zero-width flood, an override and a byte order mark
    made = plain("\ufeffMu\u200b\u200bg \u202eder", 100)
    # then the text is readable and the note says what was there
    assert made.text == "Mug der"
    assert made.notes == ("4 invisible or control characters removed (U+200B ×2, U+FEFF ×1, U+202E ×1)",)


def test_a_flood_of_kinds_makes_one_bounded_note() -> None:
    made = plain("a" + "".join(chr(0xE000 + number) for number in range(3000)), 100)
    assert made.text == "a"
    assert made.notes == (
        "3000 invisible or control characters removed (U+E000 ×1, U+E001 ×1, U+E002 ×1, U+E003 ×1 and 2996 more kinds)",
    )


@pytest.mark.parametrize("kept", ["👩\u200d💻", "می\u200cخواهم", "क्\u200dष", "❤️"])
def test_joiners_that_change_what_is_read_stay(kept: str) -> None:
    assert plain(kept, 100).text == kept


def test_joiners_between_latin_letters_go() -> None:
    assert without_invisible("sa\u200dle\u200c")[0] == "sale"


def test_lone_surrogates_go() -> None:
    assert plain("a\ud800b", 10).text == "ab"


def test_piled_up_accents_are_cut() -> None:
    made = plain("a" + "\u0300" * 50, 100)
    assert len(made.text) <= 4
    assert made.notes == ("piled-up accents cut",)


def test_white_space_is_collapsed() -> None:
    assert collapse("  a \t b  \n\n\n\n c ", one_line=False) == "a b\n\nc"
    assert collapse(" a\n b ", one_line=True) == "a b"
    assert plain("a\r\nb\u2028c\x85d", 100).text == "a\nb\nc\nd"


def test_a_cut_spares_letters_and_their_accents() -> None:
    assert clip("cafe\u0301s", 4) == "caf"
    assert clip("ab👩\u200d💻", 4) == "ab"
    assert clip("abc def", 4) == "abc"
    assert plain("x" * 30, 10).notes == ("cut from 30 to 10 characters",)


def test_faked_latin_words_become_latin_and_are_named() -> None:
    made = plain("р\u0430ypal, привет, TNFα", 100, alike=lookalikes())
    assert made.text == "paypal, привет, TNFα"
    assert made.notes == ("2 letters of other scripts in Latin words made Latin (U+0440 ×1, U+0430 ×1)",)


@pytest.mark.parametrize(
    "unit", ["x", "\u200b", "\u202e\u202c", "a\u0301", "最", "x\u0430", "\u200d", " ", "，", "ﷺ", "\ud800"]
)
def test_of_a_flood_only_the_beginning_is_looked_at(unit: str) -> None:
    made = plain(unit * (1_000_000 // len(unit)), 200, alike=lookalikes())
    assert len(made.text) <= 200
    assert made.notes[-1].startswith("cut at once from 1,000,000 to 5,600 characters")
    assert made.too_long == made.notes[-1]
    assert sum(map(len, made.notes)) < 1000


def test_a_right_to_left_override_is_named_and_arabic_stays() -> None:
    assert plain("abc\u202egpj.exe", 100).text == "abcgpj.exe"
    assert plain("سلام", 100).notes == ()
