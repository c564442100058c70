"""What calls cost as a terminal shows it."""

from typing import Any

import pytest
from rich.console import Console

from callstream.cli.usage import budgets, table

ROW = {"tenant": "acme", "chain": "product-copy", "model": "gpt-4o-mini-2024-07-18", "currency": "USD"}
SUMS = {"calls": 1200, "tokens_in": 1_234_567, "tokens_out": 98_765, "tokens_cached": 0}
TOLD: dict[str, Any] = {
    "from": "2026-11-01",
    "to": "2026-11-30",
    "by": ["tenant", "chain", "model"],
    "usage": [
        ROW | SUMS | {"cost": "0.5", "estimated": "0"},
        ROW | SUMS | {"tenant": "bold[1]", "cost": "12.3456789", "estimated": "0.01"},
    ],
    "complete": True,
    "silent_gateways": 0,
}


def shown(told: dict[str, Any], width: int = 80) -> str:
    console = Console(width=width, record=True)
    console.print(table(told))
    return console.export_text()


@pytest.mark.parametrize("width", [80, 160])
def test_the_dearest_comes_first_and_lines_are_whole(width: int) -> None:
    text = shown(TOLD, width)
    assert text.index("12.3456789 USD") < text.index("0.5 USD")
    assert "12.8456789 USD" in text
    assert "bold[1" in text
    assert max(map(len, text.splitlines())) <= width


def test_nothing_spent_and_silent_gateways_are_told() -> None:
    text = shown(TOLD | {"usage": [], "complete": False, "silent_gateways": 2}, 160)
    assert "nothing" in text
    assert "2 gateways did not answer" in text


@pytest.mark.parametrize("width", [80, 160])
def test_budgets_that_are_used_up_come_first(width: int) -> None:
    within = {"budget": "chain product-copy", "period": "month", "state": "within", "resets": 1_767_225_600.0}
    within |= {"spent": "0.5", "ceiling": None, "currency": "EUR", "waiting": 0}
    used_up = within | {"budget": "tenant acme", "period": "day", "state": "stopped", "ceiling": "1000", "waiting": 12}
    console = Console(width=width, record=True)
    console.print(budgets({"budgets": [within, used_up]}))
    text = console.export_text()
    assert text.index("stopped") < text.index("within")
    assert "1000 EUR" in text
    assert max(map(len, text.splitlines())) <= width
