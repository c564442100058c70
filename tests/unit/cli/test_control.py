"""The commands that stop and go, as a terminal has them."""

from typing import Any

import pytest
from rich.console import Console

from callstream.cli.control import cancel, pause, resume, table
from callstream.cli.errors import CliError
from callstream.cli.pools import tables
from callstream.cli.status import tree


def shown(what: Any) -> str:
    console = Console(width=160, record=True)
    console.print(what)
    return console.export_text()


PAUSE = {"scope": {"chain": "quick"}, "since": 1_000.0, "by": "ada[1]", "reason": "costs"}


def test_what_is_in_force_is_shown() -> None:
    one = {"chain": "quick", "state": "held", "before": 5.0, "at": 5.0, "by": "bob", "reason": "old"}
    every = {"before": 5.0, "at": 5.0, "by": "eve", "reason": ""}
    text = shown(table({"pauses": [PAUSE], "filters": [one, every], "cancelled_tasks": 1_200}))
    for part in ("paused", "chain quick", "ada[1]", "costs", "chain quick, state held", "every task", "1,200 single"):
        assert part in text
    assert table({"pauses": [], "filters": [], "cancelled_tasks": 2}) == (
        "nothing is paused, no filter cancels tasks; 2 single tasks are remembered as cancelled"
    )


def test_a_task_says_what_it_waits_for() -> None:
    row: dict[str, Any] = {"id": "mug-1", "state": "running", "chain": "quick", "version": 1, "priority": "normal"}
    row |= {"created": 1.0, "steps": []}
    waiting = {"reason": "paused", "waits_for": "resume of chain quick", "paused": PAUSE}
    text = shown(tree({**row, "waiting": waiting, "cancel": {"at": 1.0, "by": "ada", "reason": "", "rollback": False}}))
    assert "by ada[1]: costs · waits for resume of chain quick" in text
    assert "cancelled by ada, about to end, without rollback" in text
    aside = {"pool": "copywriter", "reason": "fair share", "waits_for": "its turn", "put_aside": 3}
    assert "copywriter: fair share, behind what waits for its turn" in shown(tree({**row, "waiting": aside}))


def test_a_pool_says_who_paused_it() -> None:
    pool: dict[str, Any] = {"pool": "copywriter", "endpoints": [], "reason": "paused", "until_seconds": None}
    pool |= {"waiting": [{"lane": "normal", "tenant": "shop", "calls": 1, "tokens": 4}]}
    text = shown(tables({"replicas": {"node-1:7": [pool]}, "paused": {"copywriter": PAUSE}}))
    assert "resume: paused by ada[1], costs" in text


@pytest.mark.parametrize(
    ("given", "way"),
    [
        ({}, "name what to cancel"),
        ({"tasks": ["a"], "chain": "quick"}, "give ids of tasks, or --chain"),
    ],
)
def test_a_cancel_names_tasks_or_what_fits(given: dict[str, Any], way: str) -> None:
    with pytest.raises(CliError, match=way):
        cancel(**given)


@pytest.mark.parametrize("given", [{}, {"chain": "a", "pool": "b"}, {"task": "a", "chain": "b"}])
def test_a_pause_names_one_thing(given: dict[str, str]) -> None:
    for command in (pause, resume):
        with pytest.raises(CliError, match="name one of --task, --chain, --service, --pool and --tenant"):
            command(**given)
