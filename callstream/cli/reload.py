"""`callstream reload`: running workers read their settings again."""

import os
import signal
import time
from pathlib import Path

import typer

from callstream.cli.errors import CliError
from callstream.presence import Worker, answer_of, workers_in
from callstream.settings import load

ANSWER_SECONDS = 15.0
POLL_SECONDS = 0.05


def reload() -> None:
    """Have running workers read their settings again. What is below inference changes, all else needs a restart."""
    # Settings with an error are refused here, and nobody is asked. A worker may see others, by its own environment.
    folder = load().data_folder.absolute()
    try:
        failed = _reload(folder)
    except OSError as error:
        raise CliError(f"{folder}: {error.strerror or error}") from None
    if failed:
        raise CliError("\n       ".join(failed))


def _reload(folder: Path) -> list[str]:
    """Ask each worker and say what it answers; gives what went wrong. Raises OSError, CliError when there is none."""
    workers = workers_in(folder)
    if not workers:
        raise CliError(
            f"no worker runs in {folder}: start `callstream worker`, or name its data folder with "
            "CALLSTREAM_DATA_FOLDER"
        )
    failed: list[str] = []
    waiting: dict[Worker, float] = {}
    for worker in workers:
        asked = time.time()
        if problem := _ask(worker):
            failed.append(f"{worker}: {problem}")
        else:
            waiting[worker] = asked
    return failed + _answers(folder, waiting)


def _ask(worker: Worker) -> str:
    """Send the signal; what is in the way, or nothing."""
    if worker.pid is None:
        return "it may have read its settings already: ask again once it has started"
    if not worker.is_here:
        return f"it runs on {worker.host}: ask there"
    try:
        os.kill(worker.pid, signal.SIGHUP)
    except ProcessLookupError:
        return "it has just ended"
    except PermissionError:
        return "it belongs to another user: ask as that one"
    return ""


def _answers(folder: Path, waiting: dict[Worker, float]) -> list[str]:
    """Print what went well and give what did not, as soon as each has answered."""
    failed = []
    end = time.monotonic() + ANSWER_SECONDS
    while waiting and time.monotonic() < end:
        for worker, asked in list(waiting.items()):
            if (answer := answer_of(folder, worker, asked)) is None:
                continue
            del waiting[worker]
            if answer.outcome.problems:
                failed.append(f"{worker}: {answer.outcome}")
            else:
                typer.echo(f"{worker}: {answer.outcome}")
        time.sleep(POLL_SECONDS)
    return failed + [f"{worker}: no answer within {ANSWER_SECONDS:.0f} s; its log may say why" for worker in waiting]
