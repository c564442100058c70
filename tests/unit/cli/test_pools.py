"""The pools as a terminal shows them."""

from rich.console import Console

from callstream.cli.pools import tables

POOL = {
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


def shown(told: dict[str, object]) -> str:
    console = Console(width=160, record=True)
    console.print(tables(told))
    return console.export_text()


def test_endpoints_and_what_waits_are_told() -> None:
    text = shown({"replicas": {"node-1:7": [POOL]}})
    for part in ("copywriter", "mini", "32", "31", "tokens/minute 99,871 / 100,000 of 200,000", "closed"):
        assert part in text
    for part in ("normal", "shop[1]", "1,200", "480,000", "12.3 s"):
        assert part in text


def test_without_replicas_it_says_so() -> None:
    assert "no replica tells of its pools yet" in shown({"replicas": {}})
