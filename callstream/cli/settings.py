"""`callstream settings`: what is in force and where each came from."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from callstream.cli.console import Console
from callstream.settings import check_secrets, load, origins


def settings(
    changed: Annotated[bool, typer.Option("--changed", help="Only what is not the default.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list.")] = False,
) -> None:
    """Show the settings in force. Each with its value (secrets masked) and where it came from."""
    in_force = load()
    check_secrets(in_force)
    rows = [row for row in origins(in_force) if not changed or row.origin != "default"]
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], ensure_ascii=False))
        return
    table = Table(caption="set one by CALLSTREAM_SECTION__NAME=… or in callstream.toml", box=box.SIMPLE_HEAD)
    for name in ("setting", "value", "from"):
        table.add_column(name, overflow="fold")
    for row in rows:
        style = "dim" if row.origin == "default" else ""
        table.add_row(escape(row.key), escape(row.value), escape(row.origin), style=style)
    Console().print(table)
