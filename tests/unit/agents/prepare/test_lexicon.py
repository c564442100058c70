from pathlib import Path

import pytest

from callstream.agents.prepare.lexicon import BadLexicon, Lexicon


def test_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "lexicon.toml"
    file.write_text('[brands]\nNordwind = []\n[categories]\nmug = ["cup"]\n', "utf-8")
    lexicon = Lexicon.load(file)
    assert lexicon.categories.find("a cup")[0].value == "mug"
    assert lexicon.colours.find("red") == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[brands", "Expected ']'"),
        ("[brand]\nNordwind = []", "brand: Extra inputs are not permitted"),
        ('[brands]\nNordwind = "n"', "brands.Nordwind: Input should be a list"),
        ('[categories]\nmug = ["cup"]\nglass = ["cup"]', "stands for both"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, wrong: str) -> None:
    file = tmp_path / "lexicon.toml"
    file.write_text(text, "utf-8")
    with pytest.raises(BadLexicon, match=wrong) as caught:
        Lexicon.load(file)
    assert str(file) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadLexicon, match=r"none\.toml"):
        Lexicon.load(tmp_path / "none.toml")
