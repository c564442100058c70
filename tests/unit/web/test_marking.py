"""What a reviewer sees of a text: findings marked, and nothing hidden or turned around."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.web.marking import MOST_PIECES, MOST_SHOWN, Piece, marked


def finding(start: int, end: int, **more: str) -> dict[str, object]:
    return {"start": start, "end": end, "rule": "r", "category": "boast", "action": "hold", **more}


def test_findings_are_marked_where_they_are_also_where_they_overlap() -> None:
    found = marked("the best mug ever", [finding(4, 8, why="says who"), finding(4, 12), finding(13, 17)])
    assert [(piece.kind, piece.text) for piece in found] == [
        ("plain", "the "),
        ("finding", "best"),
        ("finding", " mug"),
        ("plain", " "),
        ("finding", "ever"),
    ]
    assert found[1].title == "boast · hold · r · says who; boast · hold · r"


@pytest.mark.parametrize(
    ("character", "name"),
    [
        ("\u202e", "right-to-left override"),
        ("\u2066", "left-to-right isolate"),
        ("\u200b", "zero width space"),
        ("\u200d", "zero width joiner"),
        ("\ufeff", "zero width no-break space"),
        ("\u2028", "line separator"),
        ("\u00ad", "soft hyphen"),
        ("\u0000", "a character without a name"),
        ("\r", "a character without a name"),
        ("\U000e0041", "tag latin capital letter a"),
    ],
)
def test_what_hides_or_turns_text_is_named(character: str, name: str) -> None:
    found = marked(f"a{character}b")
    assert found == [Piece("plain", "a"), Piece("control", f"U+{ord(character):04X}", name), Piece("plain", "b")]


@given(st.text(), st.lists(st.tuples(st.integers(-5, 40), st.integers(-5, 40)), max_size=5))
def test_no_text_is_lost_and_none_turns_or_hides(text: str, spans: list[tuple[int, int]]) -> None:
    found = marked(text, [finding(*span) for span in spans])
    again = "".join(chr(int(one.text[2:], 16)) if one.kind == "control" else one.text for one in found)
    assert again == text
    for one in found:
        hidden = [c for c in one.text if unicodedata.category(c) in ("Cc", "Cf") and c not in "\n\t"]
        turns = [
            c for c in one.text if unicodedata.bidirectional(c) in ("RLO", "LRO", "RLE", "LRE", "PDF", "RLI", "LRI")
        ]
        assert turns == []
        assert all(0x110000 > ord(c) > 0x5FF for c in hidden)


def test_a_finding_that_is_none_marks_nothing() -> None:
    for one in (
        {},
        {"start": "0", "end": 2},
        {"start": 3, "end": 1},
        {"start": -1, "end": 2},
        {"start": 0, "end": None},
    ):
        assert marked("abc", [one]) == [Piece("plain", "abc")]


def test_what_is_shown_is_bounded() -> None:
    assert marked("x" * (MOST_SHOWN + 7))[-1] == Piece("rest", "7 more characters")
    assert len(marked("\u202e" * MOST_SHOWN)) == MOST_PIECES + 1
