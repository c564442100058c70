"""`callstream pools`: what the model endpoints have, what is left of their limits, and who waits for them."""

import asyncio
from typing import Annotated

import typer
from rich import box
from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table

from callstream.cli.client import Api, api_of
from callstream.cli.showing import keep_showing
from callstream.settings import load
from callstream.streams import strict_json
from callstream.streams.event import Json


def pools(
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(help="With --watch: seconds between looks.", min=0.5, max=3600)] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="As the gateway gives it.")] = False,
    url: Annotated[str | None, typer.Option(help="Base URL of a gateway.")] = None,
) -> None:
    """Show model endpoints. For each replica: the window, what is in flight, the limits, and what waits and why."""
    asyncio.run(_show(api_of(load(), url), watch, every, as_json))


async def _show(api: Api, watch: bool, every: float, as_json: bool) -> None:
    async def draw() -> Group:
        return tables(await api.pools())

    async with api:
        if as_json:
            typer.echo(strict_json.dumps(await api.pools()).decode())
        elif watch:
            await keep_showing(draw, every)
        else:
            Console().print(await draw())


def tables(told: Json) -> Group:
    """Endpoints above, what waits below."""
    said = [] if told["replicas"] else ["no replica tells of its pools yet"]
    said += [f"{pool} is paused by {one['by']}" for pool, one in told.get("paused", {}).items()]
    endpoints = Table(box=box.SIMPLE_HEAD, caption=escape("\n".join(said)) or None)
    for name in ("pool", "endpoint", "replica"):
        endpoints.add_column(name, overflow="fold")
    for name in ("window", "in flight", "limits here: spent / share of all", "closed", "breaker"):
        endpoints.add_column(name, justify="right")
    waiting = Table(box=box.SIMPLE_HEAD)
    for name in ("pool", "replica", "lane", "tenant"):
        waiting.add_column(name, overflow="fold")
    for name in ("calls", "tokens", "put aside", "the next one waits for", "for"):
        waiting.add_column(name, justify="right")
    for replica, found in told["replicas"].items():
        for pool in found:
            for one in pool["endpoints"]:
                endpoints.add_row(*map(escape, _endpoint(pool["pool"], replica, one)))
            until = pool["until_seconds"]
            aside = {(one["lane"], one["tenant"]): one["events"] for one in pool.get("aside", ())}
            at_gate = {(one["lane"], one["tenant"]): one for one in pool["waiting"]}
            for lane, tenant in at_gate | aside:
                group = at_gate.get((lane, tenant), {"calls": 0, "tokens": 0})
                waiting.add_row(
                    *map(escape, (pool["pool"], replica, lane, tenant)),
                    f"{group['calls']:,}",
                    f"{group['tokens']:,}",
                    f"{aside.get((lane, tenant), 0):,}",
                    escape(_reason(pool["reason"], told.get("paused", {}).get(pool["pool"]))),
                    "-" if until is None else f"{max(0.0, until):.1f} s",
                )
    return Group(endpoints, waiting) if waiting.row_count else Group(endpoints)


def _reason(reason: str | None, pause: Json | None) -> str:
    """What the next call waits for; of a pause, by whom and why."""
    if pause is None:
        return reason or "-"
    return f"resume: paused by {pause['by']}" + (f", {pause['reason']}" if pause["reason"] else "")


def _endpoint(pool: str, replica: str, one: Json) -> tuple[str, ...]:
    limits = [
        f"{limit['limit']} {limit['spent']:,} / {limit['share']:,} of {limit['most']:,}" for limit in one["limits"]
    ]
    closed = f"{one['closed_seconds']:.1f} s" if one["closed_seconds"] else "-"
    return (
        pool,
        one["endpoint"],
        replica,
        str(one["window"]),
        str(one["in_flight"]),
        "\n".join(limits) or "-",
        closed,
        one["breaker"],
    )
