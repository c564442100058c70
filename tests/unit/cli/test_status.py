"""A task as a tree, and as a line."""

from typing import Any

import pytest
from rich.console import Console

from callstream.cli.status import duration, tree
from callstream.cli.tail import line

ROW: dict[str, Any] = {
    "tenant": "default",
    "id": "mug-1",
    "chain": "product-copy",
    "version": 2,
    "state": "finished",
    "priority": "high",
    "created": 1000.0,
    "updated": 1002.5,
    "steps": [
        {
            "step": "copy",
            "service": "infer",
            "seconds": 1.25,
            "attempts": 2,
            "model": "gpt",
            "tokens_in": 1200,
            "tokens_out": 80,
            "notes": ["[bold]not markup"],
        },
        {"step": "moderate", "service": "moderate", "seconds": 0.0021, "attempts": 1, "model": None, "notes": []},
    ],
    "next": None,
    "result": {"copy": "A mug."},
    "failure": None,
    "held": None,
    "callback": None,
}


def shown(row: dict[str, Any]) -> str:
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(tree(row))
    return capture.get()


def test_the_tree_tells_each_step() -> None:
    text = shown(ROW)
    assert "mug-1 finished · product-copy v2 · high" in text
    assert "copy (infer) · 1.2 s · gpt 1,200 → 80 tokens · 2 attempts · [bold]not markup" in text
    assert "moderate (moderate) · 2 ms" in text
    assert "copy: A mug." in text


def test_the_tree_tells_why_a_task_stands_or_failed() -> None:
    failure = {"kind": "rejected", "message": "a word", "step": "moderate"}
    text = shown({**ROW, "state": "rejected", "result": None, "failure": failure})
    assert "rejected in moderate: a word" in text
    waiting = {**ROW, "state": "held", "held": "look at it", "next": {"step": "deliver", "service": "deliver"}}
    text = shown(waiting)
    assert "held: look at it" in text
    assert "waits for deliver (deliver)" in text


def test_a_line_tells_how_long_and_why() -> None:
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(line({**ROW, "state": "failed", "failure": {"message": "no\nanswer"}}), highlight=False)
    assert "failed   mug-1 product-copy 2.5 s no answer" in capture.get()


@pytest.mark.parametrize(("seconds", "text"), [(0.0031, "3 ms"), (1.24, "1.2 s"), (125, "2 min 5 s")])
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_missing_version_is_named_with_how_long_it_is_missing() -> None:
    missing = {"chain": "product-copy", "version": 3, "service": "infer", "since": 1.0, "sequence": 2}
    console = Console(width=160, record=True)
    console.print(tree({**ROW, "state": "running", "missing": missing}))
    assert "held: version 3 of product-copy is not on infer · for " in console.export_text()


def test_what_the_timer_has_says_until_when_and_what_failed() -> None:
    scheduled = {**ROW, "state": "accepted", "waiting": {"reason": "scheduled", "until": 86_400.0 * 365}}
    assert "scheduled for 197" in shown(scheduled)
    failure = {"kind": "busy", "message": "the oven is full [now]", "step": "copy"}
    retry = {"reason": "retry", "until": 86_400.0 * 365, "attempts": 2, "failure": failure}
    text = " ".join(shown({**ROW, "state": "running", "waiting": retry}).split())
    assert "retry at 197" in text
    assert "after attempt 2: busy: the oven is full [now]" in text


def test_what_was_put_aside_says_what_it_waits_for() -> None:
    aside = {"pool": "large", "reason": "fair-share", "waits_for": "its turn", "lane": "low", "put_aside": 7}
    assert "large: fair-share, behind what waits for its turn" in " ".join(shown({**ROW, "waiting": aside}).split())
