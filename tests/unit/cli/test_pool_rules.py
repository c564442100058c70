"""Rules of pools on the command line: what is asked of the gateway, what a terminal shows."""

import pytest
from rich.console import Console
from typer.testing import CliRunner

from callstream.cli.errors import CliError
from callstream.cli.pool_rules import table
from callstream.cli.pools import app


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "name one of --endpoint, --model, --weight, --cheapest and --to"),
        (["--endpoint", "e1", "--to", "cheap"], "name one of --endpoint"),
        (["--weight", "e1"], "give an endpoint and its weight"),
        (["--weight", "e1=-3"], "give an endpoint and its weight"),
    ],
)
def test_what_makes_no_rule_is_not_sent(given: list[str], said: str) -> None:
    refused = CliRunner().invoke(app, ["set", "writer", *given]).exception
    assert isinstance(refused, CliError)
    assert said in str(refused)


def test_rules_are_shown_in_their_order_with_who_and_why() -> None:
    rows = [
        {"pool": "writer", "name": "e2", "says": "10 % to e2", "since": 1.0, "by": "ada", "reason": "canary [1]"},
        {"pool": "writer", "name": "x", "says": "to e9", "since": 2.0, "by": "bob", "reason": "", "unusable": "gone"},
    ]
    console = Console(width=160, record=True)
    console.print(table(rows))
    text = console.export_text()
    assert "10 % to e2" in text
    assert "canary [1]" in text
    assert "to e9 (passed over: gone)" in text
    assert "no pool has rules" in str(table([]))
