"""Chains and their versions as a terminal shows them."""

from typing import Any

from rich.console import Console

from callstream.cli.chains import table

STEPS = [{"step": "facts", "service": "prepare"}, {"step": "copy", "service": "infer"}]
TOLD: dict[str, Any] = {
    "chains": [
        {"name": "shop", "version": 1, "steps": STEPS, "current": False},
        {"name": "shop", "version": 2, "steps": STEPS[:1], "current": True},
    ],
    "unfinished": [{"chain": "shop", "version": 1, "tasks": 1200}, {"chain": "old", "version": 3, "tasks": 7}],
    "complete": True,
}


def lines(told: dict[str, Any]) -> list[str]:
    console = Console(width=120, record=True)
    console.print(table(told))
    return [" ".join(line.split()) for line in console.export_text().splitlines()]


def test_every_version_has_its_line() -> None:
    told = lines(TOLD)
    assert "shop 1 older facts ► copy 1,200" in told
    assert "shop 2 current facts 0" in told
    assert "old 3 not on this gateway - 7" in told
    assert not any("not all tasks" in line for line in told)


def test_what_could_not_be_counted_is_said() -> None:
    assert any("not all tasks were counted" in line for line in lines({**TOLD, "complete": False}))
