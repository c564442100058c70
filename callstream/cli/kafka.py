"""`callstream kafka up|down|status`: the embedded broker from a terminal.

`up`, `down` and `status` are plain functions of options and of a way to print; the commands wire them to a folder.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from aiokafka.errors import KafkaError
from rich.progress import Progress, TaskID

from callstream.cli.console import Console
from callstream.streams.broker import BrokerError, BrokerOptions, control
from callstream.streams.broker.topics import list_topics

Echo = Callable[[str], None]
TOPICS_SHOWN = 50

app = typer.Typer(help="The embedded Kafka broker.", no_args_is_help=True)
Folder = Annotated[Path, typer.Option(help="Data folder of the broker: topics, logs, lock.", file_okay=False)]
DEFAULT_FOLDER = Path(".callstream/kafka")


def up(options: BrokerOptions, echo: Echo) -> None:
    """Starts the broker, unless it runs, and leaves it running; shows a bar while its jars are downloaded.

    Raises:
        BrokerError: see `control.start_detached`.
    """
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks: list[TaskID] = []

        def show(text: str, done: int, total: int | None) -> None:
            if not tasks:
                tasks.append(bars.add_task("", total=None))
            bars.update(tasks[0], description=f"Kafka: {text}", completed=done, total=total)

        broker, started = control.start_detached(options, show)
    echo(f"{'started' if started else 'already running'}: {broker.bootstrap}")
    echo(f"pid {broker.pid}, data and logs in {broker.folder}")


def down(options: BrokerOptions, echo: Echo) -> None:
    """Stops the broker.

    Raises:
        BrokerError: see `control.stop`.
    """
    stopped = control.stop(options)
    if stopped is None:
        echo(f"not running: {options.folder.absolute()}")
    else:
        echo(f"stopped: {stopped.bootstrap}, pid {stopped.pid}")


def status(options: BrokerOptions, echo: Echo) -> bool:
    """Prints what runs in the folder; returns whether a broker lives there."""
    broker = control.status(options)
    if broker is None:
        echo(f"not running: {options.folder.absolute()}")
        return False
    memory = "unknown" if broker.resident_bytes is None else f"{broker.resident_bytes / 1024**2:.0f} MiB"
    echo("running" if broker.is_answering else "running, but not answering")
    echo(f"bootstrap  {broker.bootstrap}")
    echo(f"pid        {broker.pid}{'' if broker.detached else f' (ends with process {broker.starter})'}")
    echo(f"folder     {broker.folder}")
    echo(f"uptime     {broker.uptime_seconds:.0f} s")
    echo(f"memory     {memory}")
    echo(f"topics     {describe_topics(broker.bootstrap) if broker.is_answering else 'unknown'}")
    return True


def describe_topics(bootstrap: str) -> str:
    """The broker's topics with their partitions, in one line."""
    try:
        topics = asyncio.run(list_topics(bootstrap))
    except (OSError, KafkaError) as error:
        return f"unknown ({error})"
    shown = [f"{name} ({partitions})" for name, partitions in list(topics.items())[:TOPICS_SHOWN]]
    more = len(topics) - len(shown)
    return (", ".join(shown) or "none") + (f" and {more} more" if more else "")


def run(command: Callable[[BrokerOptions, Echo], object], options: BrokerOptions) -> object:
    """Runs one of the three, turning an error of the broker into one line and exit code 1."""
    try:
        return command(options, typer.echo)
    except BrokerError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


@app.command("up")
def up_command(folder: Folder = DEFAULT_FOLDER) -> None:
    """Start the broker and leave it running."""
    run(up, BrokerOptions(folder=folder))


@app.command("down")
def down_command(folder: Folder = DEFAULT_FOLDER) -> None:
    """Stop the broker."""
    run(down, BrokerOptions(folder=folder))


@app.command("status")
def status_command(folder: Folder = DEFAULT_FOLDER) -> None:
    """Show the broker; exit code 3 when it is not running."""
    if not run(status, BrokerOptions(folder=folder)):
        raise typer.Exit(3)
