"""`callstream produce`: send tasks from a file, at a rate, and wait for their ends if asked."""

import asyncio
import secrets
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from callstream.cli.bootstrap import bootstrap_of
from callstream.cli.client import api_of
from callstream.cli.console import Console
from callstream.cli.errors import CliError
from callstream.cli.follow import Sent, Tally, summary, until_settled
from callstream.cli.orders import Order, find_file, multiplied, named, of_chain, read_orders, starting
from callstream.cli.pace import for_each
from callstream.cli.sending import HttpSender, KafkaSender, Sender
from callstream.settings import Settings, load
from callstream.streams.blobs import BlobStore
from callstream.streams.submission import parse_run_at

DEFAULT_TENANT = "default"
MOST_WAITING = 128


@dataclass(frozen=True)
class Plan:
    """What is to be sent, and how."""

    orders: list[Order]
    rate: float | None
    at_once: int
    wait: bool
    timeout_seconds: float


def produce(
    file: Annotated[Path | None, typer.Argument(help="Tasks, one JSON object a line.", dir_okay=False)] = None,
    chain: Annotated[str | None, typer.Option(help="Only tasks of this chain; without FILE those it ships.")] = None,
    count: Annotated[int | None, typer.Option(help="New tasks, going round the file's.", min=1, max=10_000_000)] = None,
    rate: Annotated[float | None, typer.Option(help="Tasks a second, at most.", min=0.001, max=1e6)] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow each task; exit 1 unless all end as expected.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for a task's end.", min=1, max=86_400)] = 300,
    at_once: Annotated[int, typer.Option(help="Tasks sent at the same time.", min=1, max=256)] = 16,
    url: Annotated[str | None, typer.Option(help="Base URL of a gateway.")] = None,
    kafka: Annotated[bool, typer.Option("--kafka", help="Send straight onto the intake topic.")] = False,
    broker: Annotated[str | None, typer.Option(help="With --kafka: HOST:PORT.")] = None,
    run_at: Annotated[str | None, typer.Option(help="RFC 3339: no task starts before.")] = None,
    tenant: Annotated[str, typer.Option(help="With --kafka: whose tasks they are.")] = DEFAULT_TENANT,
) -> None:
    """Send test tasks, with a progress bar. Tasks with an id that was sent before are recognised as repeats."""
    settings = load()
    orders = _orders(settings, file, chain, count)
    plan = Plan(orders if run_at is None else _starting(orders, run_at), rate, at_once, wait, timeout)
    route = _Route(settings, url, bootstrap_of(settings, broker) if kafka else None, tenant)
    tally = asyncio.run(_run(plan, route, Console(stderr=True)))
    for line in summary(tally) if wait else [f"{len(tally.sent):,} tasks sent"]:
        typer.echo(line)
    if wait and tally.unexpected:
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Route:
    settings: Settings
    url: str | None
    bootstrap: str | None
    tenant: str


def _orders(settings: Settings, file: Path | None, chain: str | None, count: int | None) -> list[Order]:
    if file is None:
        if chain is None:
            raise CliError("name a FILE of tasks, or a chain with --chain")
        file = find_file(settings.chains, chain)
    orders = read_orders(file)
    if chain is not None:
        orders = of_chain(orders, chain)
    run = secrets.token_hex(4)
    made: Iterator[Order] = multiplied(orders, count, run) if count else named(orders, run)
    return list(made)


def _starting(orders: list[Order], run_at: str) -> list[Order]:
    try:
        parse_run_at(run_at, time.time())
    except ValueError as error:
        raise CliError(f"--run-at {run_at}: {error}") from None
    return list(starting(orders, run_at))


async def _run(plan: Plan, route: _Route, console: Console) -> Tally:
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(api_of(route.settings, route.url))
        sender: Sender = HttpSender(api)
        if route.bootstrap is not None:
            blobs = BlobStore(route.settings.blobs)
            sender = await stack.enter_async_context(KafkaSender(route.bootstrap, blobs, route.tenant))
        bars = stack.enter_context(_bars(console))
        total = len(plan.orders)
        sent_bar = bars.add_task("sent", total=total)
        ended_bar = bars.add_task("ended", total=total, visible=plan.wait)
        tally = Tally()

        async def send(order: Order) -> None:
            tally.sent.append(Sent(order, await sender.send(order)))
            bars.advance(sent_bar)

        await for_each(plan.orders, send, plan.at_once, plan.rate)
        if plan.wait:

            async def follow(sent: Sent) -> None:
                await until_settled(api, sent, plan.timeout_seconds)
                bars.advance(ended_bar)

            await for_each(tally.sent, follow, MOST_WAITING)
        return tally


def _bars(console: Console) -> Progress:
    columns = (TextColumn("{task.description:>6}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
