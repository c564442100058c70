"""`callstream schedule …`: tasks that are handed in by the clock, through the API of a gateway."""

import secrets
from datetime import datetime
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from callstream.agents.schedules.schedule import MOST_INPUT_BYTES, Misfire
from callstream.cli.client import ask
from callstream.cli.console import Console
from callstream.cli.errors import CliError
from callstream.streams import strict_json
from callstream.streams.event import Json, Priority
from callstream.streams.strict_json import BadJson

app = typer.Typer(help="Tasks that are handed in by the clock.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="Name of the schedule.")]
Url = Annotated[str | None, typer.Option(help="Base URL of a gateway.")]
AsJson = Annotated[bool, typer.Option("--json", help="As the gateway gives it.")]


@app.command(name="list")
def list_all(as_json: AsJson = False, url: Url = None) -> None:
    """List the schedules of the tenant: what each hands in, and when next."""
    found = ask(url, lambda api: api.schedules())
    if as_json:
        typer.echo(strict_json.dumps(found).decode())
    else:
        Console().print(table(found))


@app.command()
def show(name: Name, url: Url = None) -> None:
    """Show one schedule as JSON, with its next five occurrences."""
    told = ask(url, lambda api: api.schedule("GET", name))
    Console().print_json(strict_json.dumps(told).decode())


@app.command(name="set")
def set_one(
    name: Name,
    chain: Annotated[str, typer.Option(help="Chain of its tasks.")],
    cron: Annotated[str, typer.Option(help="When, in five fields: minute, hour, day, month, day of week.")],
    given: Annotated[str, typer.Option("--input", help="Input of its tasks, a JSON object; @FILE reads one.")] = "{}",
    zone: Annotated[str, typer.Option(help="Time zone of the expression, such as Europe/Berlin.")] = "UTC",
    misfire: Annotated[Misfire, typer.Option(help="What becomes of occurrences that were missed.")] = Misfire.ONE,
    grace: Annotated[float, typer.Option(help="Seconds up to which an occurrence is in time.", min=1)] = 60,
    priority: Annotated[Priority, typer.Option(help="Priority of its tasks.")] = Priority.NORMAL,
    callback: Annotated[str | None, typer.Option(help="URL that is told of each task's end.")] = None,
    url: Url = None,
) -> None:
    """Create a schedule, or change the one of that name."""
    body: Json = {"chain": chain, "input": _input(given), "cron": cron, "zone": zone, "misfire": str(misfire)}
    body |= {"grace_seconds": grace, "priority": str(priority), "callback": callback}
    _told("set", ask(url, lambda api: api.schedule("PUT", name, json=body)))


@app.command()
def pause(name: Name, url: Url = None) -> None:
    """Let a schedule hand in nothing until it is resumed."""
    _told("paused", ask(url, lambda api: api.schedule("POST", name, "/pause")))


@app.command()
def resume(name: Name, url: Url = None) -> None:
    """Let a paused schedule go on, from its next occurrence."""
    _told("resumed", ask(url, lambda api: api.schedule("POST", name, "/resume")))


@app.command()
def trigger(name: Name, url: Url = None) -> None:
    """Hand in one task of a schedule now, also of a paused one; prints the task's id."""
    # A gateway that is busy is asked again: with the key it is one task, however often.
    headers = {"Idempotency-Key": secrets.token_hex(16)}
    told = ask(url, lambda api: api.schedule("POST", name, "/trigger", headers=headers))
    typer.echo(told["task"])


@app.command()
def remove(name: Name, url: Url = None) -> None:
    """Remove a schedule; tasks that it has handed in go on."""
    _told("removed", ask(url, lambda api: api.schedule("DELETE", name)))


def table(schedules: list[Json]) -> Table:
    """Schedules, one a line."""
    shown = Table(box=box.SIMPLE_HEAD, caption=None if schedules else "no schedules yet")
    for column in ("name", "chain", "when"):
        shown.add_column(column, overflow="fold")
    for column in ("next", "last fired"):
        shown.add_column(column, no_wrap=True)
    for one in schedules:
        coming = "paused" if one["paused"] else _moment(one["next_due"], one["zone"])
        when = f"{one['cron']}\n{one['zone']}"
        told = (one["name"], one["chain"], when, coming)
        shown.add_row(*map(escape, told), _moment(one["last_fired"], one["zone"]))
    return shown


def _moment(seconds: float | None, zone: str) -> str:
    return "-" if seconds is None else datetime.fromtimestamp(seconds, ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M")


def _input(given: str) -> Json:
    """A JSON object from the command line, or from a file that it names. Raises CliError."""
    where = given[1:] if given.startswith("@") else "--input"
    try:
        raw = Path(where).read_bytes() if given.startswith("@") else given.encode()
        document = strict_json.loads(raw, 4 * MOST_INPUT_BYTES)
    except OSError as error:
        raise CliError(f"{where}: cannot be read: {error.strerror or error}") from None
    except BadJson as error:
        raise CliError(f"{where}: {error}") from None
    if not isinstance(document, dict):
        raise CliError(f'{where}: the input of a task is a JSON object, such as {{"title": "mug"}}')
    return document


def _told(done: str, answer: Json) -> None:
    """What was done; a command on the log that nobody has obeyed yet is told apart."""
    if answer["in_effect"]:
        typer.echo(f"{answer['name']}: {done}")
    else:
        typer.echo(f"{answer['name']}: accepted, but service schedule has not done it yet; see `callstream lag`")
