"""`callstream usage`: what model calls took and cost, by day, tenant, chain or model."""

import asyncio
from decimal import Decimal
from typing import Annotated

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from callstream.agents.inference.admission.report import STANDINGS
from callstream.cli.client import api_of
from callstream.cli.console import Console
from callstream.cli.errors import CliError
from callstream.cli.status import moment
from callstream.settings import load
from callstream.streams import strict_json
from callstream.streams.event import Json
from callstream.streams.money import text_of, total
from callstream.web.usage import USUAL_BY, as_csv


def usage(
    by: Annotated[
        str, typer.Option(help="Told apart by some of day, tenant, chain, endpoint, model, kind.")
    ] = ",".join(USUAL_BY),
    since: Annotated[
        str | None, typer.Option("--from", help="First day, UTC, as 2026-11-01; by default the month's first.")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="Last day, included; by default today.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Of one tenant.")] = None,
    chain: Annotated[str | None, typer.Option(help="Of one chain.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="As CSV.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As the gateway gives it.")] = False,
    url: Annotated[str | None, typer.Option(help="Base URL of a gateway.")] = None,
) -> None:
    """Show what model calls took and cost. Hedges, retries and calls that were cut count too."""
    if csv and as_json:
        raise CliError("--csv and --json are both given: give one of them")
    asked = {"by": by, "from": since, "to": until, "tenant": tenant, "chain": chain}
    told = asyncio.run(_ask(url, {name: value for name, value in asked.items() if value is not None}))
    if as_json:
        typer.echo(strict_json.dumps(told).decode())
    elif csv:
        if not told["complete"]:
            raise CliError(f"{told['silent_gateways']} gateways did not answer, and a part of the sums is theirs")
        typer.echo(as_csv(told["usage"], tuple(told["by"])), nl=False)
    else:
        Console().print(table(told), *([budgets(told)] if told["budgets"] else []))


async def _ask(url: str | None, query: dict[str, str]) -> Json:
    async with api_of(load(), url) as api:
        return await api.usage(**query)


def table(told: Json) -> Table:
    """The sums for a terminal, the dearest first where days are not told apart."""
    rows, by = told["usage"], told["by"]
    if "day" not in by:
        rows = sorted(rows, key=lambda row: Decimal(row["cost"]), reverse=True)
    shown = Table(box=box.SIMPLE_HEAD, caption=_caption(told))
    for name in by:
        shown.add_column(name, overflow="fold")
    for name in ("calls", "tokens in", "out", "cost", "~"):
        shown.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        counts = (f"{row[name]:,}" for name in ("calls", "tokens_in", "tokens_out"))
        money = f"{row['cost']} {row['currency']}"
        estimated = "" if row["estimated"] == "0" else row["estimated"]
        shown.add_row(*(escape(row[name]) for name in by), *counts, money, estimated)
    return shown


def budgets(told: Json) -> Table:
    """How each budget is, those that are used up first."""
    shown = Table(box=box.SIMPLE_HEAD)
    for name in ("budget", "state", "resets"):
        shown.add_column(name, overflow="fold")
    for name in ("spent", "of", "waiting"):
        shown.add_column(name, justify="right", no_wrap=True)
    colours = {"warn": "yellow", "slow": "yellow", "stopped": "red"}
    for one in sorted(told["budgets"], key=lambda one: STANDINGS.index(one["state"]), reverse=True):
        state = f"[{colours[one['state']]}]{one['state']}[/]" if one["state"] in colours else one["state"]
        ceiling = f"{one['ceiling'] or '-'} {one['currency']}"
        name = escape(f"{one['budget']}, {one['period']}")
        shown.add_row(name, state, moment(one["resets"]), one["spent"], ceiling, f"{one['waiting']:,}")
    return shown


def _caption(told: Json) -> str:
    days = told["from"] if told["from"] == told["to"] else f"{told['from']} to {told['to']}"
    sums: dict[str, list[Decimal]] = {}
    for row in told["usage"]:
        sums.setdefault(row["currency"], []).append(Decimal(row["cost"]))
    whole = ", ".join(f"{text_of(total(costs))} {name}" for name, costs in sorted(sums.items()))
    missing = "" if told["complete"] else f"; {told['silent_gateways']} gateways did not answer"
    return f"{days}, UTC: {whole or 'nothing'}; ~ is the part that is an estimate{missing}"
