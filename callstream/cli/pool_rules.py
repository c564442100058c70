"""`callstream pools set | unset | rules`: which endpoints calls should have, changed while workers run."""

from collections.abc import Sequence
from typing import Annotated
from urllib.parse import quote

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from callstream.cli.client import ask, who
from callstream.cli.console import Console
from callstream.cli.errors import CliError
from callstream.cli.status import moment
from callstream.streams import strict_json
from callstream.streams.event import Json

app = typer.Typer()
Pool = Annotated[str, typer.Argument(help="Name of the pool.")]
Why = Annotated[str, typer.Option(help="Why: told to whoever asks.")]
Url = Annotated[str | None, typer.Option(help="Base URL of a gateway.")]


@app.command(name="set")
def set_one(
    pool: Pool,
    endpoint: Annotated[list[str] | None, typer.Option(help="An endpoint that should have calls; several may.")] = None,
    model: Annotated[str | None, typer.Option(help="The endpoints with this model.")] = None,
    weight: Annotated[list[str] | None, typer.Option(help="ENDPOINT=WEIGHT, in place of the settings'.")] = None,
    cheapest: Annotated[bool, typer.Option("--cheapest", help="The endpoints with the lowest price.")] = False,
    to: Annotated[str | None, typer.Option(help="Another pool.")] = None,
    when: Annotated[str | None, typer.Option(help="Only calls of which this CEL expression is true.")] = None,
    share: Annotated[float, typer.Option(help="Percent of the tasks, the same ones each time.")] = 100.0,
    only: Annotated[bool, typer.Option("--only", help="Wait for these endpoints where they are out.")] = False,
    name: Annotated[str | None, typer.Option(help="The rule's name; by default what it chooses.")] = None,
    place: Annotated[int, typer.Option(help="The lowest is asked first.")] = 100,
    reason: Why = "",
    url: Url = None,
) -> None:
    """Set a rule of a pool, or replace the one of that name. Of the rules that are true, the first decides."""
    chosen: Json = {
        "endpoints": endpoint or None,
        "model": model,
        "weights": _weights(weight or ()) or None,
        "cheapest": cheapest or None,
        "to": to,
    }
    given = {key: value for key, value in chosen.items() if value is not None}
    if len(given) != 1:
        raise CliError("name one of --endpoint, --model, --weight, --cheapest and --to")
    rule = name or _named(given)
    document = {**given, "when": when, "share": share, "only": only, "place": place, "reason": reason, "by": who()}
    path = f"/{quote(pool, safe='')}/rules/{quote(rule, safe='')}"
    told = ask(url, lambda api: api.pool_rules("PUT", path, json=document))
    typer.echo(f"{told['pool']}: rule {told['name']}: {told['says']}, since {moment(told['since'])} by {told['by']}")


@app.command()
def unset(
    pool: Pool,
    rule: Annotated[str, typer.Argument(help="Name of the rule.")],
    reason: Why = "",
    url: Url = None,
) -> None:
    """Take a rule of a pool away."""
    path = f"/{quote(pool, safe='')}/rules/{quote(rule, safe='')}"
    told = ask(url, lambda api: api.pool_rules("DELETE", path, json={"reason": reason, "by": who()}))
    typer.echo(f"{told['pool']}: rule {told['name']} is unset since {moment(told['since'])} by {told['by']}")


@app.command()
def rules(
    as_json: Annotated[bool, typer.Option("--json", help="As the gateway gives it.")] = False, url: Url = None
) -> None:
    """Show the rules of pools in their order, and what was unset lately: since when, by whom and why."""
    told = ask(url, lambda api: api.pool_rules("GET"))
    if as_json:
        typer.echo(strict_json.dumps(told).decode())
    else:
        Console(highlight=False).print(table(told["rules"]))


def table(found: Sequence[Json]) -> Table | str:
    """Rules as the gateway tells them; a line if there are none."""
    if not found:
        return "no pool has rules: calls go by the weights of the settings"
    shown = Table(box=box.SIMPLE_HEAD)
    for name in ("pool", "rule", "says", "since", "by", "reason"):
        shown.add_column(name, overflow="fold")
    for one in found:
        says = f"{one['says']} (passed over: {one['unusable']})" if "unusable" in one else one["says"]
        words = (one["pool"], one["name"], says, moment(one["since"]), one["by"], one["reason"])
        shown.add_row(*map(escape, words))
    return shown


def _weights(given: Sequence[str]) -> dict[str, int]:
    found = {}
    for one in given:
        name, _, weight = one.partition("=")
        if not name or not weight.isascii() or not weight.isdigit() or len(weight) > 6:
            raise CliError(f"--weight {one!r}: give an endpoint and its weight, 0 to 1,000, such as --weight e1=3")
        found[name] = int(weight)
    return found


def _named(given: Json) -> str:
    """A rule's name from what it chooses: an endpoint's or a pool's own, else the kind of choice."""
    [(kind, value)] = given.items()
    if kind == "endpoints" and len(value) == 1:
        return str(value[0])
    return str(value) if kind == "to" else str(kind)
