"""Schedules as a terminal shows them, and inputs as it takes them."""

from pathlib import Path

import pytest
from rich.console import Console

from callstream.cli.errors import CliError
from callstream.cli.schedule import _input, table

ROW = {
    "name": "night[ly]",
    "chain": "shop",
    "cron": "30 2 * * *",
    "zone": "Europe/Berlin",
    "paused": False,
    "next_due": 1_743_296_400.0,
    "last_fired": None,
}


def shown(*rows: dict[str, object]) -> str:
    console = Console(width=160, record=True)
    console.print(table(list(rows)))
    return console.export_text()


def test_each_schedule_has_a_line_in_its_own_time_zone() -> None:
    text = shown(ROW, {**ROW, "name": "other", "paused": True, "last_fired": 1_743_210_000.0})
    nightly, other = (next(line for line in text.splitlines() if name in line) for name in ("night[ly]", "other"))
    assert "30 2 * * *" in nightly
    assert "2025-03-30 03:00" in nightly
    assert "Europe/Berlin" in text
    assert "paused" in other
    assert "2025-03-29 02:00" in other


def test_no_schedule_is_said() -> None:
    assert "no schedules yet" in shown()


def test_an_input_is_given_in_words_or_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "mug.json").write_text('{"title": "cup"}')
    assert _input('{"title": "mug"}') == {"title": "mug"}
    assert _input(f"@{tmp_path}/mug.json") == {"title": "cup"}


@pytest.mark.parametrize(
    ("given", "why"),
    [("{", "--input: not JSON"), ("[1]", "--input: the input of a task is a JSON object"), ("@/none", "/none: cannot")],
)
def test_an_input_that_is_none_is_refused_in_one_line(given: str, why: str) -> None:
    with pytest.raises(CliError, match=why):
        _input(given)
