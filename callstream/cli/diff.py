"""`callstream diff A B`: how two tasks differ, from their status and from what the topics still have of them."""

import asyncio
from typing import Annotated

import typer
from rich.markup import escape

from callstream.cli.bootstrap import bootstrap_of
from callstream.cli.client import Api, api_of
from callstream.cli.comparing import FIGURES, NotComparable, Section, Side, as_json, compare
from callstream.cli.console import Console
from callstream.cli.errors import CliError
from callstream.cli.recorded import row_of, side_of
from callstream.cli.status import COLOURS, duration
from callstream.settings import load
from callstream.streams import strict_json
from callstream.streams.blobs import BlobStore
from callstream.streams.replay.recorded import Topics

LINE_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="Id of a task.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Id of another of the same chain.")],
    as_json_: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    url: Annotated[str | None, typer.Option(help="Base URL of a gateway.")] = None,
    broker: Annotated[str | None, typer.Option(help="HOST:PORT of the broker.")] = None,
) -> None:
    """Show how two tasks differ. Step by step: prompt, answer, verdict, result, times, tokens."""
    settings = load()
    sides = asyncio.run(
        _sides(api_of(settings, url), bootstrap_of(settings, broker), BlobStore(settings.blobs), (a, b))
    )
    try:
        sections = compare(*sides)
    except NotComparable as error:
        raise CliError(str(error)) from None
    if as_json_:
        typer.echo(strict_json.dumps(as_json(*sides, sections)).decode())
        return
    console = Console(soft_wrap=True)
    for line in lines(*sides, sections):
        console.print(line, highlight=False)


async def _sides(api: Api, bootstrap: str, blobs: BlobStore, ids: tuple[str, str]) -> tuple[Side, Side]:
    async with api:
        rows = [await row_of(api, task) for task in ids]
    try:
        compare(*map(Side, rows))
    except NotComparable as error:
        raise CliError(str(error)) from None
    async with Topics(bootstrap) as topics:
        first, second = [await side_of(topics, blobs, row) for row in rows]
    return first, second


def lines(a: Side, b: Side, sections: list[Section]) -> list[str]:
    """The comparison for a terminal, with rich's markup."""
    told = [_head(sign, side) for sign, side in (("[red]-[/]", a), ("[green]+[/]", b))]
    gone = [escape(side.row["id"]) for side in (a, b) if side.outputs is None]
    told += [f"[yellow]{task}: its outputs are on the topics no more, so its status is compared[/]" for task in gone]
    for section in sections:
        told.append(f"[bold]{escape(section.name)}[/]{_figures(section)}{' [dim]same[/]' if section.is_same else ''}")
        # The first two lines name both sides, as the head does already.
        for line in section.diff("a", "b")[2:]:
            colour = LINE_COLOURS.get(line[0])
            told.append(f"[{colour}]{escape(line)}[/]" if colour else escape(line))
    return told


def _head(sign: str, side: Side) -> str:
    row = side.row
    parts = [f"{sign} [bold]{escape(row['id'])}[/] [{COLOURS.get(row['state'], 'cyan')}]{row['state']}[/]"]
    parts.append(f"{escape(row['chain'])} v{row['version']}")
    parts += [f"replay of {escape(row['parent'])}"] if row.get("parent") else []
    parts += ["in a sandbox"] if row.get("sandbox") else []
    return " · ".join(parts)


def _figures(section: Section) -> str:
    if section.inherited:
        return " [dim]· its parent's[/]"
    parts = []
    for name in FIGURES:
        before, after = section.figures_a.get(name), section.figures_b.get(name)
        if (before is None and after is None) or (before == after and name != "seconds"):
            continue
        parts.append(f" [dim]·[/] {name.replace('_', ' ')} {_figure(name, before)} → {_figure(name, after)}")
    return "".join(parts)


def _figure(name: str, value: object) -> str:
    if value is None:
        return "-"
    if name == "seconds" and isinstance(value, int | float):
        return duration(value)
    return escape(f"{value:,}" if isinstance(value, int) else str(value))
