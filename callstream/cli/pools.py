"""`callstream pools`: what the model endpoints have, what is left of their limits, and who waits for them."""

import asyncio
from typing import Annotated

import typer
from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from callstream.cli.client import Api, api_of
from callstream.cli.console import Console
from callstream.cli.pool_rules import app as rules
from callstream.cli.showing import keep_showing
from callstream.settings import load
from callstream.streams import strict_json
from callstream.streams.event import Json

app = typer.Typer(add_completion=False)
app.add_typer(rules)


@app.callback(invoke_without_command=True)
def pools(
    context: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(help="With --watch: seconds between looks.", min=0.5, max=3600)] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="As the gateway gives it.")] = False,
    url: Annotated[str | None, typer.Option(help="Base URL of a gateway.")] = None,
) -> None:
    """Show model endpoints. For each replica: the window, what is in flight, the limits, and what waits and why."""
    if context.invoked_subcommand is None:
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
    """Of each replica, one below the other: its endpoints, their limits, what waits there, and for what."""
    paused = told.get("paused", {})
    said = [] if told["replicas"] else ["no replica tells of its pools yet"]
    said += [f"{pool} is paused by {one['by']}" for pool, one in paused.items()]
    parts: list[RenderableType] = []
    for replica, pools_there in told["replicas"].items():
        parts += [Text(replica, style="bold"), _endpoints(pools_there)]
        parts += [table for table in (_limits(pools_there), _waiting(pools_there)) if table.row_count]
        parts += [Text(f" {_next(pool, paused.get(pool['pool']))}") for pool in pools_there if _is_waited_for(pool)]
    return Group(*parts, *map(Text, said))


def _table(names: tuple[str, ...], numbers: tuple[str, ...]) -> Table:
    """Names fold where a terminal is narrow, numbers do not."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in names:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _endpoints(pools_there: list[Json]) -> Table:
    table = _table(("pool", "endpoint"), ("in flight", "window", "closed", "breaker"))
    for pool in pools_there:
        for one in pool["endpoints"]:
            closed = f"{one['closed_seconds']:.1f} s" if one["closed_seconds"] else "-"
            names = map(escape, (pool["pool"], one["endpoint"]))
            table.add_row(*names, f"{one['in_flight']:,}", f"{one['window']:,}", closed, one["breaker"])
    return table


def _limits(pools_there: list[Json]) -> Table:
    """Endpoints of one account have its limits in common: they are told once."""
    table = _table(("account or endpoint", "limit"), ("spent here", "share", "of all"))
    limits = [limit for pool in pools_there for one in pool["endpoints"] for limit in one["limits"]]
    for limit in {(limit["account"], limit["limit"]): limit for limit in limits}.values():
        names = map(escape, (limit["account"].removeprefix("@"), limit["limit"]))
        table.add_row(*names, f"{limit['spent']:,}", f"{limit['share']:,}", f"{limit['most']:,}")
    return table


def _waiting(pools_there: list[Json]) -> Table:
    table = _table(("pool", "lane", "tenant"), ("calls", "tokens", "put aside"))
    for pool in pools_there:
        aside = {(one["lane"], one["tenant"]): one["events"] for one in pool.get("aside", ())}
        at_gate = {(one["lane"], one["tenant"]): one for one in pool["waiting"]}
        for lane, tenant in at_gate | aside:
            group = at_gate.get((lane, tenant), {"calls": 0, "tokens": 0})
            counts = (group["calls"], group["tokens"], aside.get((lane, tenant), 0))
            table.add_row(*map(escape, (pool["pool"], lane, tenant)), *(f"{count:,}" for count in counts))
    return table


def _is_waited_for(pool: Json) -> bool:
    return bool(pool["waiting"] or pool.get("aside"))


def _next(pool: Json, pause: Json | None) -> str:
    until = pool["until_seconds"]
    seconds = "" if until is None else f", {max(0.0, until):.1f} s"
    return f"{pool['pool']}: the next one waits for {_reason(pool['reason'], pause)}{seconds}"


def _reason(reason: str | None, pause: Json | None) -> str:
    """What the next call waits for; of a pause, by whom and why."""
    if pause is None:
        return reason or "-"
    return f"resume: paused by {pause['by']}" + (f", {pause['reason']}" if pause["reason"] else "")
