"""`callstream worker [SERVICE…]`: run services in this process."""

from typing import Annotated

import typer
from rich.progress import Progress, TaskID

from callstream.app import run_worker
from callstream.cli.console import Console
from callstream.settings import check_secrets, load
from callstream.streams import logs


def worker(
    services: Annotated[
        list[str] | None, typer.Argument(metavar="[SERVICE]...", help="Services to run; all if none is named.")
    ] = None,
) -> None:
    """Run services until SIGTERM or Ctrl-C. Without a broker in the settings, the embedded one runs with them."""
    settings = load()
    check_secrets(settings)
    logs.setup(settings.logs)
    with Download() as download:
        code = run_worker(settings, tuple(services or ()), download.show)
    if code:
        raise typer.Exit(code)


class Download:
    """A bar that appears when something is downloaded, and goes when that is done."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._bars = Progress(console=console, transient=True, disable=not console.is_terminal)
        self._task: TaskID | None = None

    def __enter__(self) -> "Download":
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def show(self, text: str, done: int, total: int | None) -> None:
        """How far it is: so many bytes or files of so many, or of an unknown number."""
        if self._task is None:
            self._bars.start()
            self._task = self._bars.add_task("", total=None)
        self._bars.update(self._task, description=f"Kafka: {text}", completed=done, total=total)
        if total is not None and done >= total:
            self._bars.stop()
            self._bars.remove_task(self._task)
            self._task = None
