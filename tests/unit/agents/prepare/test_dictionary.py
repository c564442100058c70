"""A chain's own Chinese words."""

from pathlib import Path

import pytest

from callstream.agents.prepare import BadDictionary, Dictionary
from callstream.agents.prepare.language import load_segmenter, words_of

TEXT = "云屿防泼水冲锋衣"


def test_own_words_are_found_and_no_other_chain_has_them(tmp_path: Path) -> None:
    # given a file of words, with frequencies and without
    file = tmp_path / "words.txt"
    file.write_text("# brands\n云屿 2000 nz\n\n防泼水冲锋衣\n", "utf-8")
    own = Dictionary.load(file)
    # when a text is segmented with them and without
    segmented = words_of(TEXT, load_segmenter(own))
    # then the words are whole with them alone
    assert own.words == (("云屿", 2000), ("防泼水冲锋衣", None))
    assert segmented == ["云屿", "防泼水冲锋衣"]
    assert "防泼水冲锋衣" not in words_of(TEXT, load_segmenter())


@pytest.mark.parametrize(
    ("raw", "wrong"),
    [
        (b"", "no word in it; write one a line"),
        (b"\xff", "can't decode byte 0xff"),
        ("云屿 x y\n".encode(), "line 1: '云屿 x y': write word"),
        ("云屿\n防 泼 水 1\n".encode(), "line 2: '防 泼 水 1': write word"),
        ("云屿 0\n".encode(), "line 1: the frequency of '云屿' is 0; 1 to 1,000,000,000"),
        ("云屿 ９\n".encode(), "the frequency of '云屿' is ９"),
        ("云-屿\n".encode(), "line 1: '云-屿' is no word"),
        ("云\u200b屿\n".encode(), "is no word"),
        ("云" * 40 + "\n", "a word of 40 characters; at most 32"),
        ("云屿\n" * 1_000_000, "7,000,000 bytes; at most 4,194,304"),
        ("\n".join(f"词{number}" for number in range(50_001)), "50,001 words; at most 50,000"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, raw: bytes | str, wrong: str) -> None:
    file = tmp_path / "words.txt"
    file.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    with pytest.raises(BadDictionary, match=wrong) as caught:
        Dictionary.load(file)
    assert str(caught.value).startswith(str(file))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadDictionary, match="No such file"):
        Dictionary.load(tmp_path / "words.txt")
