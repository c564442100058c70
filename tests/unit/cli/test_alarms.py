"""Alarms as a terminal shows them."""

import pytest
from rich.console import Console

from callstream.cli.alarms import table
from callstream.streams.event import Json
from tests.unit.agents.alarms.test_telling import ended, incident


def shown(told: Json, now: float) -> str:
    console = Console(width=160, record=True)
    console.print(table(told, now))
    return console.export_text()


def test_what_rings_comes_first_with_for_how_long() -> None:
    open_now = incident(2, started=1_000.0, rang=1_010.0, message="shop/copy: 12 dead letters a minute, 2 or more")
    text = shown({"open": [open_now.told()], "recent": [ended(incident()).told()], "rules": [{}]}, 1_030.0)
    rings, over = [line for line in text.splitlines() if "dead/shop/copy" in line]
    assert "dead/shop/copy/2" in rings
    assert "rings" in rings
    assert "30.0 s" in rings
    assert "12 dead letters a minute" in rings
    assert "ended" in over
    assert "1 min 0 s" in over
    assert "1 ring, 1 rules" in text


@pytest.mark.parametrize(("seconds", "said"), [(119, "1 min 59 s"), (600, "10 min"), (9000, "2 h 30 min")])
def test_a_duration_is_said_as_people_say_it(seconds: float, said: str) -> None:
    one = ended(incident(), 90.0 + seconds)
    assert said in shown({"open": [], "recent": [one.told()], "rules": []}, 0.0)


def test_no_name_is_taken_for_markup() -> None:
    one = incident(1, "shop[1]/copy[red]", message="[bold]")
    text = shown({"open": [one.told()], "recent": [], "rules": []}, 100.0)
    assert "shop[1]/copy[red]" in text
    assert "[bold]" in text
