"""`callstream cancel | pause | resume | control`: commands to all workers, by a gateway."""

from collections import Counter
from typing import Annotated

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

MOST_AT_ONCE = 1_000
ChainName = Annotated[str | None, typer.Option(help="A chain.")]
TenantName = Annotated[str | None, typer.Option(help="A tenant.")]
Why = Annotated[str, typer.Option(help="Why: told to whoever asks.")]
Url = Annotated[str | None, typer.Option(help="Base URL of a gateway.")]


def cancel(
    tasks: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of tasks.")] = None,
    chain: ChainName = None,
    tenant: TenantName = None,
    state: Annotated[str | None, typer.Option(help="accepted, running or held.")] = None,
    created_before: Annotated[float | None, typer.Option(help="Epoch seconds.")] = None,
    rollback: Annotated[
        bool, typer.Option("--rollback/--no-rollback", help="Undo what declares an undo, or keep what was done.")
    ] = True,
    reason: Why = "",
    url: Url = None,
) -> None:
    """Cancel tasks: those named, or all that fit the options. What runs is cut, what waits never starts."""
    fits = {"chain": chain, "tenant": tenant, "state": state, "created_before": created_before}
    given = {name: value for name, value in fits.items() if value is not None}
    if tasks and set(given) - {"tenant"}:
        raise CliError("give ids of tasks, or --chain, --tenant, --state and --created-before, not both")
    if not tasks and not given:
        raise CliError("name what to cancel: ids of tasks, or --chain, --tenant, --state or --created-before")
    how = {} if rollback else {"rollback": False}
    if not tasks:
        told = _post("cancel", {"filter": given, **how}, reason, url)
        typer.echo(
            f"cancelled: {_words(told['filter'])}, accepted up to {moment(told['filter']['before'])}{_kept(rollback)}"
        )
        return
    found: list[Json] = []
    for first in range(0, len(tasks), MOST_AT_ONCE):
        some: Json = {"tasks": tasks[first : first + MOST_AT_ONCE], **given, **how}
        found += _post("cancel", some, reason, url)["tasks"]
    for one in found[:MOST_AT_ONCE]:
        typer.echo(f"{one['id']}: {one['outcome']}{_state(one)}{_kept(rollback or one['outcome'] != 'cancelled')}")
    counts = Counter(one["outcome"] for one in found)
    if failed := sum(counts[outcome] for outcome in ("unknown", "ended", "unreached")):
        raise CliError(f"{failed:,} of {len(found):,} were not cancelled")


def pause(
    task: Annotated[str | None, typer.Option(help="Id of a task.")] = None,
    chain: ChainName = None,
    service: Annotated[str | None, typer.Option(help="A service.")] = None,
    pool: Annotated[str | None, typer.Option(help="A pool of models.")] = None,
    tenant: TenantName = None,
    reason: Why = "",
    url: Url = None,
) -> None:
    """Pause a task, a chain, a service, a pool or a tenant. What runs may finish, nothing more begins."""
    told = _post("pause", {"scope": _scope(task, chain, service, pool, tenant)}, reason, url)
    typer.echo(f"paused: {_words(told['scope'])}, since {moment(told['since'])} by {told['by']}")


def resume(
    task: Annotated[str | None, typer.Option(help="Id of a task.")] = None,
    chain: ChainName = None,
    service: Annotated[str | None, typer.Option(help="A service.")] = None,
    pool: Annotated[str | None, typer.Option(help="A pool of models.")] = None,
    tenant: TenantName = None,
    reason: Why = "",
    url: Url = None,
) -> None:
    """Let go on what was paused. The same option as for the pause."""
    told = _post("resume", {"scope": _scope(task, chain, service, pool, tenant)}, reason, url)
    typer.echo(f"resumed: {_words(told['scope'])}, paused since {moment(told['paused_since'])}")


def control(
    as_json: Annotated[bool, typer.Option("--json", help="As the gateway gives it.")] = False, url: Url = None
) -> None:
    """Show what is paused and which filters cancel tasks. Each with since when, by whom and why."""
    told = ask(url, lambda api: api.control())
    if as_json:
        typer.echo(strict_json.dumps(told).decode())
    else:
        Console(highlight=False).print(table(told))


def table(told: Json) -> Table | str:
    """Commands in force, the oldest first; a line if there are none."""
    remembered = f"{told['cancelled_tasks']:,} single tasks are remembered as cancelled"
    if not told["pauses"] and not told["filters"]:
        return f"nothing is paused, no filter cancels tasks; {remembered}"
    shown = Table(box=box.SIMPLE_HEAD, caption=remembered)
    for name in ("what", "which", "since", "by", "reason"):
        shown.add_column(name, overflow="fold")
    for one in told["pauses"]:
        shown.add_row("paused", *map(escape, (_words(one["scope"]), moment(one["since"]), one["by"], one["reason"])))
    for one in told["filters"]:
        shown.add_row("cancelled", *map(escape, (_words(one), moment(one["at"]), one["by"], one["reason"])))
    return shown


def _scope(task: str | None, chain: str | None, service: str | None, pool: str | None, tenant: str | None) -> Json:
    named = {"task": task, "chain": chain, "service": service, "pool": pool, "tenant": tenant}
    scope = {name: value for name, value in named.items() if value is not None}
    if len(scope) != 1 and set(scope) != {"task", "tenant"}:
        raise CliError("name one of --task, --chain, --service, --pool and --tenant (--task takes --tenant beside it)")
    return scope


def _post(what: str, document: Json, reason: str, url: str | None) -> Json:
    return ask(url, lambda api: api.command(what, {**document, "reason": reason, "by": who()}))


def _words(which: Json) -> str:
    names = ("task", "chain", "service", "pool", "tenant", "state")
    return ", ".join(f"{name} {which[name]}" for name in names if which.get(name) is not None) or "every task"


def _state(one: Json) -> str:
    return f" ({one['state']})" if "state" in one else ""


def _kept(rollback: bool) -> str:
    return "" if rollback else ", without rollback"
