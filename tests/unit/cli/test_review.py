"""Reviews as a terminal shows them, and edits as it takes them."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from callstream.cli.errors import CliError
from callstream.cli.review import edits_in, plain, review_text, table
from callstream.cli.status import moment
from callstream.streams.review import opened
from tests.support.reviews import held_task

NOTE = {"at": 130.0, "by": "ann", "what": "claim", "why": "", "mark": "x"}
REVIEW = opened(held_task(due_seconds=60, on_due="reject", four_eyes=True, group="legal"))
ROW: dict[str, Any] = {
    "id": "mug-1",
    "chain": "shop",
    "version": 1,
    "state": "held",
    "held": "a superlative [bold]",
    "text": "The best \u202emug.",
    "outputs": {"moderate": {"findings": [{"text": "best", "start": 4, "end": 8, "rule": "r-1"}]}},
    "review": REVIEW | {"claim": {"by": "ann", "since": 130.0, "until": 190.0}, "audit": [NOTE]},
}


def test_each_task_has_a_line() -> None:
    console = Console(width=160, record=True)
    console.print(table([ROW]))
    line = next(line for line in console.export_text().splitlines() if "mug-1" in line)
    for word in ("normal", "legal", "ann", "shop", "a superlative [bold]", moment(160.0)):
        assert word in line


def test_nothing_to_review_is_said() -> None:
    console = Console(width=160, record=True)
    console.print(table([]))
    assert "nothing waits for a person" in console.export_text()


def test_one_task_is_shown_with_what_was_found_and_done() -> None:
    lines = review_text(ROW).splitlines()
    assert "mug-1 of shop v1: held" in lines
    assert f"claimed by ann until {moment(190.0)}" in lines
    assert f"priority normal, group legal, due {moment(160.0)} (then reject)" in lines
    assert "two have to approve; have: none" in lines
    assert "  The best <U+202E>mug." in lines
    assert "moderate found best at 4-8: r-1" in lines
    assert f"  {moment(130.0)} claim by ann" in lines


def test_no_text_moves_the_terminal() -> None:
    assert plain("a\x1b[2Jb\rc") == "a<U+001B>[2Jb<U+000D>c"


def test_edits_are_given_in_words_or_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "copy.txt").write_text("A good mug.")
    given = ["copy.text=x=y", f"title.line=@{tmp_path}/copy.txt"]
    assert edits_in(given) == {"copy": {"text": "x=y"}, "title": {"line": "A good mug."}}


@pytest.mark.parametrize(
    ("given", "why"), [("copy=x", "takes STEP.FIELD=TEXT"), (".text=x", "takes"), ("a.b=@/none", "/none: cannot")]
)
def test_an_edit_that_is_none_is_refused_in_one_line(given: str, why: str) -> None:
    with pytest.raises(CliError, match=why):
        edits_in([given])
