"""`callstream demo`: a whole chain on this machine, by default from photos to catalogue copy."""

import asyncio
import json
import signal
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live
from rich.table import Table
from sqlalchemy import func, inspect, select
from sqlalchemy.exc import SQLAlchemyError

from callstream.agents.delivery import make_engine
from callstream.agents.delivery.schema import catalogue
from callstream.cli.client import Api, api_of
from callstream.cli.console import Console
from callstream.cli.demo import example, show
from callstream.cli.demo.figures import calls_in_rows, figures, is_good, recognised
from callstream.cli.demo.parts import (
    LOG,
    fresh_folder,
    load_with,
    pools_of_stub,
    running_broker,
    running_model,
    running_worker,
    worker_environment,
)
from callstream.cli.demo.reviewing import REVIEWER, Reviewer
from callstream.cli.follow import Sent, Tally, summary, until_settled
from callstream.cli.orders import Order, read_orders
from callstream.cli.pace import for_each
from callstream.cli.sending import HttpSender
from callstream.cli.worker import Download
from callstream.settings import Settings, load
from callstream.stub import RunningStub

AT_ONCE = 8
MOST_FOLLOWED = 64
SETTLE_SECONDS = 150.0
REFRESHES = 8
SHOWN_ROWS = 5
MOST_WHY = 100
TELL_SECONDS = 5.0
WIDTH = 120


def demo(
    name: Annotated[str, typer.Argument(metavar="EXAMPLE", help="A folder of examples.")] = example.DEFAULT,
    once: Annotated[bool, typer.Option("--once", help="End by itself; exit 0 only if all went as expected.")] = False,
) -> None:
    """Show the whole chain at work. A broker, a model server and a worker turn product photos into catalogue copy."""
    good = asyncio.run(Demo(load(), example.find(name), once).run())
    if not good:
        raise typer.Exit(1)


class Demo:
    """One run. `run` gives whether every task ended as expected; Ctrl-C or SIGTERM ends it in order."""

    def __init__(self, settings: Settings, shown: example.Example, once: bool) -> None:
        self._settings = settings
        self._example = shown
        self._once = once
        self._began = time.monotonic()
        self._console = Console()
        if not self._console.is_terminal:
            self._console = Console(width=WIDTH)
        self._tally = Tally()
        self._is_shown = False

    async def run(self) -> bool:
        """Begin the parts, send the products, show what became of them, and stay until told to end."""
        running = asyncio.create_task(self._whole())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            # Once: the parts end within their own bounds, and a second signal would leave some behind.
            loop.add_signal_handler(number, lambda: running.cancelling() or running.cancel())
        try:
            await running
        except asyncio.CancelledError:
            self._say("ended" if self._is_shown else "ended before it was done")
        return self._is_shown and is_good(self._tally)

    async def _whole(self) -> None:
        orders = read_orders(self._example.tasks)
        stands_in = bool(pools_of_stub(self._settings, self._example))
        folder = fresh_folder(self._settings)
        async with AsyncExitStack() as stack:
            api, model = await self._begin(stack, folder, stands_in)
            reviewer = Reviewer(api)
            await self._with(reviewer, self._send_and_follow(api, orders))
            calls = int((await model.report())["calls"]) if model else calls_in_rows(self._tally)
            found = figures(self._tally, calls, time.monotonic() - self._began)
            await self._show(api, model.base if model else None)
            await self._review(reviewer)
            self._is_shown = True
            if not self._once:
                self._say(f"Ctrl-C ends everything. Data and the worker's log ({LOG}) are in {folder}")
                await asyncio.Event().wait()
        typer.echo(json.dumps(found.as_json()))

    async def _begin(self, stack: AsyncExitStack, folder: Path, stands_in: bool) -> tuple[Api, RunningStub | None]:
        """Broker, model, worker, in that order; ended in the other."""
        with Download() as download:
            bootstrap = await stack.enter_async_context(running_broker(self._settings, folder, download.show))
        self._say(f"broker   {bootstrap}")
        model = await stack.enter_async_context(running_model(stands_in))
        self._say(f"model    {model.url if model else 'as set in inference.pools'}")
        self._settings = load_with(worker_environment(self._settings, folder, bootstrap, self._example, model))
        api = await stack.enter_async_context(api_of(self._settings, None))
        await stack.enter_async_context(running_worker(folder, api))
        self._say(f"worker   {api.url}, ready after {time.monotonic() - self._began:.1f} s")
        return api, model

    async def _with(self, reviewer: Reviewer, work: Awaitable[None]) -> None:
        """Do the work, with the reviewer beside it where tasks would not end without one."""
        if not (self._once and self._example.told.reviewed):
            await work
            return
        beside = asyncio.create_task(reviewer.stay())
        try:
            await work
        finally:
            beside.cancel()

    async def _review(self, reviewer: Reviewer) -> None:
        """Where it ends by itself: have one that is held approved, and tell what was decided."""
        held = [sent for sent in self._tally.sent if sent.state == "held"]
        if self._once and held:
            # Told apart from what was counted, which is as its line expects.
            first = Sent(held[0].order, held[0].task)
            await reviewer.approve(first.task, str((held[0].row or {})["held"]))
            began = time.monotonic()
            await until_settled(reviewer.api, first, SETTLE_SECONDS, past_holds=True)
            self._say(f"{first.task} is {first.state}, {time.monotonic() - began:.1f} s after it was approved")
        for task, why in list(reviewer.reviewed.items())[:SHOWN_ROWS]:
            self._say(f"review   {task}: claimed and approved by {REVIEWER}; it was held: {why[:MOST_WHY]}")
        if (more := len(reviewer.reviewed) - SHOWN_ROWS) > 0:
            self._say(f"review   and {more} more")

    async def _send_and_follow(self, api: Api, orders: list[Order]) -> None:
        sender, total = HttpSender(api), len(orders)

        async def send(order: Order) -> None:
            self._tally.sent.append(Sent(order, await sender.send(order)))

        async def follow(sent: Sent) -> None:
            await until_settled(api, sent, SETTLE_SECONDS)

        def table() -> Table:
            return show.progress(self._tally.sent, total)

        async def both() -> None:
            await for_each(orders, send, AT_ONCE)
            await for_each(list(self._tally.sent), follow, MOST_FOLLOWED)

        if self._console.is_terminal:
            with Live(console=self._console, get_renderable=table, refresh_per_second=REFRESHES, transient=True):
                await both()
        else:
            telling = asyncio.create_task(self._tell(total))
            try:
                await both()
            finally:
                telling.cancel()

    async def _tell(self, total: int) -> None:
        """Where no table can be redrawn: a line now and then."""
        while True:
            await asyncio.sleep(TELL_SECONDS)
            self._say(f"{len(self._tally.sent) - self._tally.lost} of {total} tasks settled")

    async def _show(self, api: Api, model: str | None) -> None:
        tally, console = self._tally, self._console
        console.print(show.ended(tally.sent))
        if any(sent.state != "finished" for sent in tally.sent):
            console.print(show.stopped(tally.sent))
        if (rows := await self._catalogue()) is not None:
            console.print(rows)
        for line in summary(tally):
            self._say(line)
        right, total = recognised(tally)
        if total:
            self._say(f"{right} of {total} attributes recognised as the example expects")
        for line in show.links(api.url, tally.sent[0].task, model):
            self._say(line)

    async def _catalogue(self) -> Table | None:
        """What the catalogue has; None for a chain that writes nothing there."""
        engine = make_engine(self._settings.delivery)
        try:
            async with engine.connect() as connection:
                if not await connection.run_sync(lambda there: inspect(there).has_table(catalogue.name)):
                    return None
                count = (await connection.execute(select(func.count()).select_from(catalogue))).scalar_one()
                found = (await connection.execute(select(catalogue).limit(SHOWN_ROWS))).all()
            if not count:
                return None
            return show.rows(found, count, engine.url.render_as_string(hide_password=True))
        except SQLAlchemyError as error:
            return show.rows((), 0, f"a database that cannot be read: {str(error).splitlines()[0]}")
        finally:
            await engine.dispose()

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)
