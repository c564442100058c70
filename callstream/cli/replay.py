"""`callstream replay`: steps are done again from their recorded inputs, by new tasks; `--reach` says what is there."""

import asyncio
import time
from dataclasses import dataclass
from typing import Annotated

import typer
from rich import box
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from callstream.cli.bootstrap import bootstrap_of
from callstream.cli.console import Console
from callstream.cli.errors import CliError
from callstream.settings import Settings, load
from callstream.streams import strict_json
from callstream.streams.blobs import BlobStore
from callstream.streams.chain import Chains
from callstream.streams.event import Json
from callstream.streams.expressions import BadExpression
from callstream.streams.loading import load_chains
from callstream.streams.replay.lineage import Manner
from callstream.streams.replay.recorded import Reach, Topics
from callstream.streams.replay.run import Replay, Summary, Wanted, moment
from callstream.streams.replay.selection import Selection
from callstream.streams.replay.sending import Outlet
from callstream.streams.replay.where import where
from callstream.streams.topics import FINISHED, INTAKE, REVIEW, lanes_of, topic_of
from callstream.streams.wire import epoch

DEFAULT_TENANT = "default"
HOUR = 3_600.0


@dataclass(frozen=True)
class Asked:
    """The options that choose tasks, as they were given."""

    task: str | None
    chain: str | None
    tenant: str | None
    since: str | None
    until: str | None
    where: str | None


def replay(
    task: Annotated[str | None, typer.Option(help="One task, by its id.")] = None,
    chain: Annotated[str | None, typer.Option(help="All tasks of a chain; needs --since.")] = None,
    step: Annotated[
        str | None, typer.Option("--from", help="Step to begin at; of a chain by default its first.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Recorded at or after, such as 2030-01-31T12:00:00Z.")] = None,
    until: Annotated[str | None, typer.Option(help="Recorded before.")] = None,
    where: Annotated[str | None, typer.Option(help="Only where this CEL rule holds.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose; a task's is 'default', a chain's all.")] = None,
    reuse_answers: Annotated[bool, typer.Option("--reuse-answers", help="Take paid answers of models again.")] = False,
    dry: Annotated[bool, typer.Option("--dry", help="In a sandbox: nothing is delivered, nobody is told.")] = False,
    rate: Annotated[float, typer.Option(help="Tasks started a second, at most.", min=0.01, max=10_000)] = 100,
    name: Annotated[str, typer.Option(help="Another name makes the same replay another one.")] = "",
    reach: Annotated[bool, typer.Option("--reach", help="Only say since when there are records.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    broker: Annotated[str | None, typer.Option(help="HOST:PORT of the broker.")] = None,
) -> None:
    """Do steps again, by new tasks. The same replay given again starts only what is not started yet."""
    settings = load()
    chains = load_chains(settings.chains)
    if reach:
        found = asyncio.run(_reach(bootstrap_of(settings, broker), chains))
        if as_json:
            typer.echo(strict_json.dumps([reach_json(one) for one in found]).decode())
        else:
            Console().print(reach_table(found, settings.retention_hours))
        return
    wanted = wanted_of(Asked(task, chain, tenant, since, until, where), chains, step, time.time())
    manner = Manner(wanted.selection.step, reuse_answers, dry, name)
    summary = asyncio.run(_run(settings, bootstrap_of(settings, broker), (wanted, manner), rate))
    for line in [strict_json.dumps(summary_json(summary)).decode()] if as_json else lines(summary, manner):
        typer.echo(line)
    if summary.refused:
        raise typer.Exit(1)


def wanted_of(asked: Asked, chains: Chains, step: str | None, now: float) -> Wanted:
    """Which tasks are meant; `now` is epoch seconds. Raises CliError, UnknownChain, UnknownStep."""
    if (asked.task is None) == (asked.chain is None):
        raise CliError("name either one task with --task or all of a chain with --chain and --since")
    since, until = _moment("--since", asked.since), _moment("--until", asked.until)
    if since is not None and since > now:
        raise CliError(f"--since {asked.since} lies in the future: nothing was recorded since then")
    if since is not None and until is not None and until <= since:
        raise CliError(f"--until {asked.until} is not after --since {asked.since}")
    try:
        rule = None if asked.where is None else where(asked.where)
    except BadExpression as error:
        raise CliError(f"--where: {error}") from None
    if asked.task is not None:
        if rule is not None:
            raise CliError("--where chooses among the tasks of a --chain; --task names one")
        if step is None:
            raise CliError("say with --from at which step the task is to begin again")
        wanted = Wanted(Selection(chains, step, None, asked.tenant or DEFAULT_TENANT), asked.task, since, until)
    else:
        current = chains.current(asked.chain or "")
        if since is None:
            raise CliError(
                "--chain needs --since, from when on; `callstream replay --reach` shows since when there are records"
            )
        selection = Selection(chains, step or current.steps[0].name, asked.chain, asked.tenant)
        wanted = Wanted(selection, None, since, until, rule)
    wanted.selection.topics()
    return wanted


async def _run(settings: Settings, bootstrap: str, what: tuple[Wanted, Manner], rate: float) -> Summary:
    wanted, manner = what
    blobs = BlobStore(settings.blobs)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bars = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    async with Topics(bootstrap) as topics, Outlet(bootstrap, blobs, rate) as outlet:
        with bars:
            bar = bars.add_task("records", total=None)

            def told(read: int, total: int, summary: Summary) -> None:
                said = f"{summary.found:,} found, {summary.started:,} started; records"
                bars.update(bar, description=said, completed=read, total=total)

            try:
                return await Replay(topics, blobs, wanted, manner, time.time).run(outlet, told)
            except BadExpression as error:
                raise CliError(f"--where: {error}") from None


def lines(summary: Summary, manner: Manner) -> list[str]:
    """What a replay did, for a terminal."""
    how = [f"from {manner.step}"]
    how += ["with the answers that were paid for"] if manner.reuse_answers else []
    how += ["in a sandbox"] if manner.sandbox else []
    counts = f"{summary.found:,} found, {summary.started:,} started, {summary.already:,} already there"
    told = [f"{counts}, {summary.refused:,} refused ({', '.join(how)})"]
    told += [f"  {child}" for child in summary.children]
    if (more := summary.started + summary.already - len(summary.children)) > 0:
        told.append(f"  and {more:,} more")
    told += [f"  refused: {example}" for example in summary.examples]
    if (more := summary.refused - len(summary.examples)) > 0:
        told.append(f"  and {more:,} more refused")
    return told


def summary_json(summary: Summary) -> Json:
    """What a replay did; `tasks` and `reasons` are the first few."""
    return {
        "found": summary.found,
        "started": summary.started,
        "already": summary.already,
        "refused": summary.refused,
        "tasks": summary.children,
        "reasons": summary.examples,
    }


async def _reach(bootstrap: str, chains: Chains) -> list[Reach]:
    services = [lane for service in chains.services() for lane in lanes_of(service)]
    async with Topics(bootstrap) as topics:
        return await topics.reach(topic_of(name) for name in dict.fromkeys((INTAKE, *services, REVIEW, FINISHED)))


def reach_table(found: list[Reach], retention_hours: float) -> Table:
    """Since when there are records of each topic."""
    table = Table(box=box.SIMPLE_HEAD, caption=f"retention_hours = {retention_hours:g}", caption_justify="left")
    table.add_column("topic", overflow="fold")
    for column in ("records", "oldest", "complete since", "kept for"):
        table.add_column(column, justify="right", overflow="fold")
    for one in found:
        kept = "for ever" if one.retention_seconds is None else f"{one.retention_seconds / HOUR:g} h"
        oldest = "-" if one.oldest is None else moment(one.oldest)
        table.add_row(one.topic, f"{one.records:,}", oldest, _complete(one), kept)
    return table


def reach_json(one: Reach) -> Json:
    """The same for programs; `complete_since` is null while nothing was swept."""
    swept = one.complete_since is not None
    complete = one.complete_since if swept and one.records else None
    return {
        "topic": one.topic,
        "partitions": one.partitions,
        "records": one.records,
        "oldest": one.oldest,
        "swept": swept,
        "complete_since": None if complete in (None, float("inf")) else complete,
        "retention_seconds": one.retention_seconds,
    }


def _complete(one: Reach) -> str:
    if one.complete_since is None:
        return "the beginning"
    return "nothing left" if one.complete_since == float("inf") else moment(one.complete_since)


def _moment(option: str, given: str | None) -> float | None:
    if given is None:
        return None
    try:
        return epoch(given)
    except (ValueError, OverflowError) as error:
        wanted = "take RFC 3339 with an offset, such as 2030-01-31T12:00:00Z"
        raise CliError(f"{option} {given[:80]}: {str(error)[:200]}; {wanted}") from None
