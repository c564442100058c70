"""`callstream kafka up|down|status`: the embedded broker of these settings."""

from pathlib import Path
from typing import Annotated

import typer

from callstream.cli import kafka
from callstream.settings import load
from callstream.streams.broker import BrokerOptions

app = typer.Typer(help="The embedded Kafka broker.", no_args_is_help=True)
Folder = Annotated[
    Path | None,
    typer.Option(help="Data folder of the broker: topics, logs, lock.", file_okay=False, show_default=False),
]
NOT_RUNNING = 3


@app.command()
def up(folder: Folder = None) -> None:
    """Start the broker and leave it running."""
    kafka.up(_options(folder), typer.echo)


@app.command()
def down(folder: Folder = None) -> None:
    """Stop the broker."""
    kafka.down(_options(folder), typer.echo)


@app.command()
def status(folder: Folder = None) -> None:
    """Show the broker; exit code 3 when it is not running."""
    if not kafka.status(_options(folder), typer.echo):
        raise typer.Exit(NOT_RUNNING)


def _options(folder: Path | None) -> BrokerOptions:
    settings = load()
    if settings.broker:
        typer.echo(f"note: broker is set to {settings.broker}; callstream uses that one", err=True)
    return settings.embedded if folder is None else settings.embedded.model_copy(update={"folder": folder})
