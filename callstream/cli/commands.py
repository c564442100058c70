"""The program: every command in one place."""

import os
from typing import Annotated

import typer

from callstream import __version__
from callstream.cli.alarms import alarms
from callstream.cli.broker import app as broker
from callstream.cli.chains import chains
from callstream.cli.control import cancel, control, pause, resume
from callstream.cli.dead import app as dead
from callstream.cli.demo import demo
from callstream.cli.diff import diff
from callstream.cli.lag import lag
from callstream.cli.pools import pools
from callstream.cli.produce import produce
from callstream.cli.reload import reload
from callstream.cli.replay import replay
from callstream.cli.schedule import app as schedule
from callstream.cli.settings import settings
from callstream.cli.status import status
from callstream.cli.tail import tail
from callstream.cli.worker import worker
from callstream.settings.gather import DEBUG
from callstream.stub.command import stub

app = typer.Typer(
    name="callstream",
    help="Durable, asynchronous model calls over Kafka.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(broker, name="kafka")
app.add_typer(schedule, name="schedule")
app.add_typer(dead, name="dead")
for command in (
    demo,
    worker,
    reload,
    produce,
    status,
    tail,
    lag,
    pools,
    alarms,
    chains,
    cancel,
    pause,
    resume,
    control,
    replay,
    diff,
    settings,
):
    app.command()(command)
app.command(short_help="Run the stub model server.")(stub)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"callstream {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    if debug:
        os.environ[DEBUG] = "1"
