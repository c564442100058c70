"""`callstream policy`: what a user sees of rules that are tried and tested."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from callstream.agents.moderation import BadRules
from callstream.cli.errors import CliError
from callstream.cli.policy import app
from callstream.streams import strict_json

RULES = '[[words]]\nid = "law"\ncategory = "superlative"\naction = "reject"\nwhy = "article 9"\nwords = ["最佳"]\n'


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    file = tmp_path / "mine.toml"
    file.write_text(RULES)
    return file


def run(*arguments: str, given: bytes | None = None, code: int = 0) -> str:
    told = CliRunner().invoke(app, arguments, input=given)
    if told.exception is not None and not isinstance(told.exception, SystemExit):
        raise told.exception
    assert told.exit_code == code, told.output
    return told.output


def test_a_text_is_tried(rules: Path) -> None:
    assert run("try", "a [b]mug[/b]", "--rules", str(rules)).endswith("mine.toml, version 1\n")
    told = run("try", "-", "--rules", str(rules), given="最佳 [red]mug".encode())
    assert told.startswith("reject by")
    assert "\n最佳 [red]mug\n  reject      law (superlative, medium) at 0-2: 最佳\n              article 9\n" in told
    found = strict_json.loads(run("try", "最佳", "--json", "--rules", str(rules)).encode(), 10_000)
    assert (found["verdict"], found["found"]) == ("reject", 1)


def test_the_rules_that_ship_are_tested_when_none_are_named() -> None:
    assert run("test").startswith("default_rules.toml: ")


def test_cases_that_come_out_otherwise_are_told_and_fail(rules: Path) -> None:
    cases = rules.with_name("mine.cases.toml")
    cases.write_text('[[cases]]\ntext = "a mug"\nverdict = "pass"\n')
    assert run("test", str(rules)) == "mine.toml: 1 of 1 cases as expected\nmine.toml: no case meets law\n"
    cases.write_text('[[cases]]\ntext = "最佳"\nverdict = "hold"\n' * 30)
    told = run("test", str(rules), code=1)
    assert "mine.toml: case 20 '最佳': expected hold, got reject\nmine.toml: and 10 more\n" in told
    assert "mine.toml: 0 of 30 cases as expected" in told


def test_what_cannot_be_read_is_named(rules: Path, tmp_path: Path) -> None:
    with pytest.raises(CliError, match=r"mine\.cases\.toml, which is no file"):
        run("test", str(rules))
    with pytest.raises(BadRules, match=r"nothing\.toml: No such file"):
        run("try", "a", "--rules", str(tmp_path / "nothing.toml"))
    with pytest.raises(CliError, match="not UTF-8 at byte 1"):
        run("try", "-", given=b"a\xff")
    with pytest.raises(CliError, match=r"more than 1,048,576 bytes"):
        run("try", "-", given=b"a" * 1_048_577)


def test_rules_are_measured_by_labelled_texts(rules: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.toml"
    texts.write_text(
        '[[texts]]\ntext = "最佳"\nverdict = "flag"\ncategory = "superlative"\nlanguage = "zh"\n'
        '[[texts]]\ntext = "no. 1"\nverdict = "flag"\ncategory = "superlative"\nevasion = "spacing"\n'
        '[[texts]]\ntext = "a mug"\nverdict = "pass"\n'
    )
    told = run("measure", str(texts), "--rules", str(rules)).splitlines()
    assert told[1].split() == ["all", "2", "1", "50.0", "%", "0", "100.0", "%"]
    assert told[-1] == "missed     2 (superlative, spacing): 'no. 1'"
    assert run("measure", str(texts), "--rules", str(rules), "--misses", "0").splitlines()[-1] == "and 1 more"
    half = run("measure", str(texts), "--rules", str(rules), "--every", "2")
    assert half.splitlines()[1].split()[:4] == ["all", "1", "1", "100.0"]
    with pytest.raises(CliError, match="no text is left"):
        run("measure", str(texts), "--rules", str(rules), "--first", "9")
