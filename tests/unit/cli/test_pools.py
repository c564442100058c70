"""The pools as a terminal shows them."""

from typing import Any

import pytest
from rich.console import Console

from callstream.cli.pools import tables

POOL: dict[str, Any] = {
    "pool": "copywriter",
    "share": [4, 8],
    "reason": "tokens",
    "until_seconds": 12.34,
    "waiting": [{"lane": "normal", "tenant": "shop[1]", "calls": 1200, "tokens": 480_000}],
    "endpoints": [
        {
            "endpoint": "mini",
            "model": "gpt-4o-mini",
            "window": 32,
            "in_flight": 31,
            "breaker": "closed",
            "closed_seconds": 0.0,
            "limits": [
                {"account": "openai", "limit": "tokens/minute", "most": 200_000, "share": 100_000, "spent": 99_871}
            ],
        }
    ],
}


def shown(told: dict[str, object], width: int = 160) -> str:
    console = Console(width=width, record=True)
    console.print(tables(told))
    return console.export_text()


@pytest.mark.parametrize("width", [80, 160])
def test_endpoints_limits_and_what_waits_are_told_in_whole_lines(width: int) -> None:
    text = shown({"replicas": {"node-1.example.internal:4711": [POOL]}}, width)
    rows = [line.split() for line in text.splitlines()]
    for row in (
        ["node-1.example.internal:4711"],
        ["copywriter", "mini", "31", "32", "-", "closed"],
        ["openai", "tokens/minute", "99,871", "100,000", "200,000"],
        ["copywriter", "normal", "shop[1]", "1,200", "480,000", "0"],
        ["copywriter:", "the", "next", "one", "waits", "for", "tokens,", "12.3", "s"],
    ):
        assert row in rows, text
    assert max(map(len, text.splitlines())) <= width


def test_limits_of_an_account_are_told_once_and_an_endpoints_by_its_name() -> None:
    mini, limit = POOL["endpoints"][0], POOL["endpoints"][0]["limits"][0]
    large = {**mini, "endpoint": "large", "limits": [limit, {**limit, "account": "@large"}]}
    text = shown({"replicas": {"node-1:7": [{**POOL, "endpoints": [mini, large]}]}}, 80)
    named = [line.split()[0] for line in text.splitlines() if "tokens/minute" in line]
    assert named == ["openai", "large"]


def test_a_pool_for_which_nothing_waits_waits_for_nothing() -> None:
    idle = {**POOL, "waiting": [], "reason": None, "until_seconds": None}
    assert "waits" not in shown({"replicas": {"node-1:7": [idle]}})


def test_without_replicas_it_says_so() -> None:
    assert "no replica tells of its pools yet" in shown({"replicas": {}})
