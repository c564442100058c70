"""How two tasks differ: what is told, and what is no pair."""

from typing import Any

import pytest

from callstream.cli.comparing import NotComparable, Section, Side, as_json, compare
from callstream.cli.diff import lines


def hop(step: str, **more: Any) -> dict[str, Any]:
    plain = {"model": None, "calls": None, "tokens_in": None, "tokens_out": None, "attempts": 1, "seconds": 0.5}
    return {"step": step, "service": "infer", "started": 1.0, "ended": 1.5, "notes": [], **plain, **more}


def side(task: str, text: str | None, **row: Any) -> Side:
    told = {
        "id": task,
        "chain": "shop",
        "version": 1,
        "state": "finished",
        "created": 1.0,
        "steps": [hop("prompt"), hop("copy", model="writer", calls=1, tokens_in=7, tokens_out=3)],
        "result": {"copy": text},
        "failure": None,
        "held": None,
        **row,
    }
    outputs = {"prompt": {"messages": [{"role": "user", "content": "Say it"}]}, "copy": {"text": text}}
    return Side(told, {"title": "mug"}, None if text is None else outputs)


FIRST = side("mug-1", "A mug.\nIt is blue.")
SECOND = side(
    "mug-2",
    "A mug.\nIt is [red].",
    parent="mug-1",
    inherited=1,
    sandbox=True,
    steps=[hop("prompt"), hop("copy", model="writer", calls=0, tokens_in=0, tokens_out=0, seconds=0.01)],
)


def sections(a: Side, b: Side) -> dict[str, Section]:
    return {section.name: section for section in compare(a, b)}


def test_each_step_is_held_against_the_other_and_figures_alone_are_no_difference() -> None:
    found = sections(FIRST, SECOND)
    assert list(found) == ["input", "prompt", "copy", "end"]
    assert [section.is_same for section in found.values()] == [True, True, False, False]
    assert found["copy"].changes() == [
        {"path": "/output/text", "a": "A mug.\nIt is blue.", "b": "A mug.\nIt is [red]."}
    ]
    assert (found["copy"].figures_a["tokens_in"], found["copy"].figures_b["tokens_in"]) == (7, 0)
    assert found["prompt"].inherited
    quicker = sections(
        FIRST, side("mug-3", "A mug.\nIt is blue.", steps=[hop("prompt", seconds=9), *FIRST.row["steps"][1:]])
    )
    assert all(section.is_same for section in quicker.values())


def test_the_difference_is_a_unified_one_of_lines() -> None:
    told = sections(FIRST, SECOND)["copy"].diff("a", "b")
    assert "-    It is blue." in told
    assert "+    It is [red]." in told
    assert "     A mug." in told


def test_a_terminal_is_told_what_each_is_and_where_they_part() -> None:
    told = lines(FIRST, SECOND, compare(FIRST, SECOND))
    assert "replay of mug-1 · in a sandbox" in told[1]
    assert any(line.startswith("[bold]prompt[/] [dim]· its parent's[/] [dim]same[/]") for line in told)
    assert any(
        "tokens in 7 → 0" in line and "calls 1 → 0" in line and "seconds 500 ms → 10 ms" in line for line in told
    )
    # What a model wrote is no markup.
    assert any("\\[red]" in line for line in told)


def test_a_step_that_only_one_has_taken_is_a_difference() -> None:
    short = side(
        "mug-2", "A mug.\nIt is blue.", steps=[hop("prompt")], state="failed", failure={"kind": "bug"}, result=None
    )
    found = sections(FIRST, short)
    assert (found["copy"].b, found["copy"].figures_b) == (None, {})
    assert {change["path"] for change in found["end"].changes()} >= {"/state", "/failure/kind", "/result/copy"}


def test_outputs_that_are_gone_are_told() -> None:
    bare = side("mug-2", None)
    told = lines(FIRST, bare, compare(FIRST, bare))
    assert any("mug-2: its outputs are on the topics no more" in line for line in told)


def test_the_same_as_json() -> None:
    told = as_json(FIRST, SECOND, compare(FIRST, SECOND))
    assert (told["a"], told["b"], told["same"]) == ("mug-1", "mug-2", False)
    assert [section["section"] for section in told["sections"] if not section["same"]] == ["copy", "end"]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (side("mug-1", "A mug."), "'mug-1' is named twice"),
        (side("pot-1", "A pot.", chain="pots"), "'mug-1' is of chain 'shop' and 'pot-1' of 'pots'"),
    ],
)
def test_what_is_no_pair_is_refused(other: Side, said: str) -> None:
    with pytest.raises(NotComparable, match=said):
        compare(FIRST, other)
