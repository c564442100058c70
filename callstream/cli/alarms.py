"""`callstream alarms`: what rings, and what has lately fallen silent."""

import asyncio
import time
from typing import Annotated

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from callstream.cli.client import Api, api_of
from callstream.cli.console import Console
from callstream.cli.showing import keep_showing
from callstream.cli.status import duration, moment
from callstream.settings import load
from callstream.streams import strict_json
from callstream.streams.event import Json


def alarms(
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(help="With --watch: seconds between looks.", min=0.5, max=3600)] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="As the gateway gives it, with the rules.")] = False,
    url: Annotated[str | None, typer.Option(help="Base URL of a gateway.")] = None,
) -> None:
    """Show alarms. Those that ring first, then those that ended lately, with how long they lasted."""
    asyncio.run(_show(api_of(load(), url), watch, every, as_json))


async def _show(api: Api, watch: bool, every: float, as_json: bool) -> None:
    async def draw() -> Table:
        return table(await api.alarms(), time.time())

    async with api:
        if as_json:
            typer.echo(strict_json.dumps(await api.alarms()).decode())
        elif watch:
            await keep_showing(draw, every)
        else:
            Console().print(await draw())


def table(told: Json, now: float) -> Table:
    """The alarms for a terminal; `now` is epoch seconds."""
    caption = f"{len(told['open'])} ring, {len(told['rules'])} rules"
    shown = Table(box=box.SIMPLE_HEAD, caption=caption)
    for name in ("alarm", "state", "since", "for", "what"):
        shown.add_column(name, overflow="fold")
    for one in (*told["open"], *told["recent"]):
        rings = one["state"] == "open"
        lasted = now - one["started"] if rings else one["lasted_seconds"]
        shown.add_row(
            escape(one["id"]),
            "[red]rings[/]" if rings else "ended",
            moment(one["started"]),
            duration(max(0.0, lasted)),
            escape(one["message"]),
        )
    return shown
