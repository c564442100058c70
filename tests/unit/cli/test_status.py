"""A task as a tree, and as a line."""

import time
from typing import Any

import pytest
from rich.console import Console

from callstream.cli.status import duration, gathered, moment, tree
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


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0031, "3 ms"),
        (1.24, "1.2 s"),
        (0.9996, "1.0 s"),
        (59.96, "1 min 0 s"),
        (125, "2 min 5 s"),
        (3_661, "1 h 1 min"),
        (183_700, "2 d 3 h"),
    ],
)
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


def test_a_store_that_is_away_is_named() -> None:
    away = {"reason": "away", "waits_for": "sink shop", "sink": "sink shop", "waited_seconds": 12.0, "replica": "a:1"}
    assert "sink shop is away · for 12" in " ".join(shown({**ROW, "waiting": away}).split())


def test_what_was_put_aside_says_what_it_waits_for() -> None:
    aside = {"pool": "large", "reason": "fair-share", "waits_for": "its turn", "lane": "low", "put_aside": 7}
    assert "large: fair-share, behind what waits for its turn" in " ".join(shown({**ROW, "waiting": aside}).split())


def test_a_call_in_flight_is_told_in_place_of_a_wait() -> None:
    following = {"step": "copy", "service": "infer"}
    calling = {"pool": "writer", "endpoint": "mini[1]", "since": 86_400.0 * 365, "seconds": 61.0}
    text = " ".join(shown({**ROW, "state": "running", "next": following, "calling": calling}).split())
    assert "copy (infer) calls mini[1] of pool writer since 197" in text
    assert "for 1 min 1 s" in text
    assert "waits for" not in text


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ("mug-1~7bd32a0b46e2", "replay of mug-1"),
        ("mug-1~2.3", "sub-task of mug-1"),
        ("mug-1~2.shadow", "shadow copy of mug-1"),
    ],
)
def test_the_tree_tells_once_whose_task_led_to_it(task: str, told: str) -> None:
    text = shown({**ROW, "id": task, "parent": "mug-1"})
    assert told in text
    assert text.count(" of mug-1") == 1
    assert "made by" not in text


def test_what_was_undone_says_so() -> None:
    undone = {**ROW["steps"][1], "step": "catalogue", "service": "deliver", "undo": True}
    assert "undo catalogue (deliver) · 2 ms" in shown({**ROW, "steps": [*ROW["steps"], undone]})


def test_attempts_that_failed_of_the_same_are_told_of_once() -> None:
    same = [f"attempt {number}: busy: full" for number in range(1, 6)]
    assert gathered([*same, "busy: full"]) == ["attempts 1-5: busy: full"]
    assert gathered([*same, "busy: full"], "busy: full") == []
    assert gathered(["attempt 1: a: b", "attempt 2: c: d", "c: d"], "c: d") == ["attempt 1: a: b"]
    assert gathered(["attempt 1: a: b", "attempt 2: c: d", "c: d"]) == ["attempt 1: a: b", "attempt 2: c: d"]
    assert gathered(["attempt 1: a: b", "by hand", "attempt 2: a: b", "a: b"]) == [
        "attempt 1: a: b",
        "by hand",
        "attempt 2: a: b",
    ]


def test_a_moment_says_what_its_clock_is_ahead_of_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    try:
        assert moment(1_000_000_000.5) == "2001-09-09 09:46:40+08:00"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_task_that_waits_for_a_budget_says_which_and_until_when() -> None:
    waiting = {"pool": "large", "reason": "budget", "waits_for": "budget of tenant acme: 12 EUR a day"}
    row = {**ROW, "waiting": waiting | {"resets": 86_400.0 * 365, "put_aside": 3}}
    assert "large: budget of tenant acme: 12 EUR a day · it resets 1971-01-01" in " ".join(shown(row).split())


def test_what_a_step_cost_is_told_where_it_cost_something() -> None:
    step = {"step": "copy", "service": "infer", "seconds": 1.0, "model": "m", "tokens_in": 10, "tokens_out": 2}
    text = " ".join(shown({**ROW, "steps": [step | {"cost": {"EUR": "0.0025", "USD": "0"}}]}).split())
    assert "tokens · 0.0025 EUR" in text
    assert "USD" not in text
