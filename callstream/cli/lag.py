"""`callstream lag`: how far each service is behind its topic."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from callstream.cli.bootstrap import bootstrap_of
from callstream.cli.console import Console
from callstream.cli.errors import CliError
from callstream.cli.showing import keep_showing
from callstream.settings import load
from callstream.streams.lag import Lag, LagUnknown, by_group, look, summed

Shape = Callable[[list[Lag]], list[Lag]]
"""How rows of partitions are put together."""


def lag(
    topics: Annotated[bool, typer.Option("--topics", help="A row for each topic of a group.")] = False,
    partitions: Annotated[bool, typer.Option("--partitions", help="A row for each partition.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(help="With --watch: seconds between looks.", min=0.2, max=3600)] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a partition.")] = False,
    broker: Annotated[str | None, typer.Option(help="HOST:PORT of the broker.")] = None,
) -> None:
    """Show how far services are behind. For each group: the end of its topics, what is committed, the difference."""
    bootstrap = bootstrap_of(load(), broker)
    shape: Shape = list if partitions else summed if topics else by_group
    if as_json:
        for row in asyncio.run(_look(bootstrap)):
            typer.echo(json.dumps(asdict(row)))
    elif watch:
        asyncio.run(keep_showing(lambda: _draw(bootstrap, shape), every))
    else:
        Console().print(asyncio.run(_draw(bootstrap, shape)))


def table(rows: list[Lag], shape: Shape = list) -> Table:
    """The rows for a terminal, put together by `shape`."""
    shown = Table(box=box.SIMPLE_HEAD, caption=None if rows else "no group has committed yet")
    shown.add_column("group", overflow="fold")
    shown.add_column("topic", overflow="fold")
    for name in ("partition" if shape is list else "partitions", "end", "committed", "lag"):
        shown.add_column(name, justify="right")
    for row in shape(rows):
        done = "-" if row.committed is None else f"{row.committed:,}"
        behind = f"[yellow]{row.lag:,}[/]" if row.lag else "0"
        shown.add_row(row.group, row.topic, str(row.partition), f"{row.end:,}", done, behind)
    return shown


async def _draw(bootstrap: str, shape: Shape) -> Table:
    return table(await _look(bootstrap), shape)


async def _look(bootstrap: str) -> list[Lag]:
    try:
        return await look(bootstrap)
    except LagUnknown as error:
        raise CliError(str(error)) from None
