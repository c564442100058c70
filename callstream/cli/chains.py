"""`callstream chains`: chains, their versions, and how many tasks each still has."""

import asyncio
from typing import Annotated

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from callstream.cli.client import Api, api_of
from callstream.cli.console import Console
from callstream.settings import load
from callstream.streams import strict_json
from callstream.streams.event import Json


def chains(
    as_json: Annotated[bool, typer.Option("--json", help="As the gateway gives it.")] = False,
    url: Annotated[str | None, typer.Option(help="Base URL of a gateway.")] = None,
) -> None:
    """Show chains and versions. New tasks start on the current one; each shows its steps and unfinished tasks."""
    asyncio.run(_show(api_of(load(), url), as_json))


async def _show(api: Api, as_json: bool) -> None:
    async with api:
        told = await api.versions()
    if as_json:
        typer.echo(strict_json.dumps(told).decode())
    else:
        Console().print(table(told))


def table(told: Json) -> Table:
    """One row a version, also of those that this gateway does not have and tasks are left of."""
    unfinished = {(one["chain"], one["version"]): one["tasks"] for one in told["unfinished"]}
    known = {(one["name"], one["version"]): one for one in told["chains"]}
    missing = "" if told["complete"] else "not all tasks were counted: a gateway is silent, or there are too many"
    shown = Table(box=box.SIMPLE_HEAD, caption=missing or None)
    for name in ("chain", "version", "", "steps"):
        shown.add_column(name, overflow="fold")
    shown.add_column("unfinished tasks", justify="right")
    for name, version in sorted({**known, **unfinished}):
        chain = known.get((name, version))
        steps = " ► ".join(step["step"] for step in chain["steps"]) if chain else "-"
        note = ("current" if chain["current"] else "older") if chain else "not on this gateway"
        count = f"{unfinished.get((name, version), 0):,}"
        shown.add_row(*map(escape, (name, str(version), note, steps, count)))
    return shown
