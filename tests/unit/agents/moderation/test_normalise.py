import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.agents.moderation import simplified, view


@pytest.mark.parametrize(
    ("original", "folded"),
    [
        ("Plain text", "plain text"),
        ("ＦＤＡ　ａｐｐｒｏｖｅｄ", "fda approved"),
        ("two  spaces\nand a-hyphen", "two spaces and a hyphen"),
        ("cl\u200bass \ufeffof\u00ad fice", "class of fice"),
        ("国 家\t级", "国家级"),
        ("国*家·级", "国家级"),
        ("国" + " " * 40 + "家", "国 家"),
        ("10 % 有 效", "10 % 有效"),
        ("Cafe\u0301", "café"),
        ("f\u0336r\u0336e\u0336e\u0336", "free"),
        ("ｶﾞﾗｽ", "ガラス"),
        ("ﬁne ㎏", "fine kg"),
        ("it’s", "it's"),
        ("\u202egnihtyna\u202c", "gnihtyna"),
        ("", ""),
    ],
)
def test_evasions_fold_together(original: str, folded: str) -> None:
    assert view(original).text == folded


def test_traditional_becomes_simplified_and_spans_stay() -> None:
    seen = view("這是 國 家 級 的", simplified())
    first = seen.text.index("国家级")
    start, end = seen.span(first, first + 3)
    assert seen.original[start:end] == "國 家 級"


@given(st.text(max_size=200))
def test_every_folded_character_stands_for_a_piece_of_the_original(text: str) -> None:
    seen = view(text, simplified())
    assert len(seen.text) == len(seen.starts) == len(seen.ends)
    assert all(0 <= start < end <= len(text) for start, end in zip(seen.starts, seen.ends, strict=True))
    assert list(seen.starts) == sorted(seen.starts)
    assert list(seen.ends) == sorted(seen.ends)


@given(st.text(alphabet=st.characters(max_codepoint=127), max_size=100))
def test_the_short_way_for_ascii_gives_what_the_long_way_gives(text: str) -> None:
    short, long = view(text), view(text + "中")
    assert short.text.strip() == long.text[:-1].strip()
