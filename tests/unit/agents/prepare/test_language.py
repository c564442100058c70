import importlib.util
import tempfile
from pathlib import Path

import pytest

from callstream.agents.prepare import language
from callstream.agents.prepare.language import MissingExtra, demand, is_chinese, load_detector, load_segmenter, words_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Red running shoes for women", "en"),
        ("Laufschuhe für Damen, leicht und bequem", "de"),
        ("Chaussures de course pour femme", "fr"),
        ("女士跑步鞋，轻便透气", "zh"),
        ("ランニングシューズ", "ja"),
        ("12345 ---", None),
    ],
)
def test_languages_are_told_apart(text: str, expected: str | None) -> None:
    assert load_detector()(text) == expected


def test_an_unknown_language_code_is_refused() -> None:
    with pytest.raises(ValueError, match="no such language: xx"):
        load_detector(("en", "xx"))


def test_one_language_is_none_to_choose_from() -> None:
    with pytest.raises(ValueError, match="at least two"):
        load_detector(("en",))


def test_chinese_is_segmented_without_a_cache_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a temporary folder that anyone may write to
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    load_segmenter.cache_clear()
    # when Chinese is segmented
    words = words_of("女士跑步鞋 轻便透气 ABC-1", load_segmenter())
    # then the words are there, and nothing was written where others could have put something to be read
    assert {"女士", "跑步", "鞋", "轻便", "透气"} <= set(words)
    assert list(tmp_path.iterdir()) == []


def test_words_are_bounded() -> None:
    many = words_of(" ".join(f"w{number}" for number in range(5000)), load_segmenter())
    assert len(many) == language.MOST_WORDS


def test_japanese_is_not_cut_as_chinese() -> None:
    assert is_chinese("陶瓷马克杯")
    assert not is_chinese("陶器のマグカップ")


def test_a_missing_extra_says_how_to_install_it() -> None:
    # given a module that is not there
    assert importlib.util.find_spec("no_such_library") is None
    with pytest.raises(MissingExtra, match=r"no_such_library not installed; run: pip install 'callstream\[vision\]'"):
        demand("vision", "json", "no_such_library")
