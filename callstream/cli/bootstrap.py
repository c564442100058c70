"""Where the broker is that the commands talk to."""

from callstream.cli.errors import CliError
from callstream.settings import Settings
from callstream.streams.broker import control


def bootstrap_of(settings: Settings, given: str | None) -> str:
    """The broker that is named, or set, or the embedded one that runs. Raises CliError when there is none."""
    if found := given or settings.broker:
        return found
    running = control.status(settings.embedded)
    if running is None:
        raise CliError(
            f"no broker runs in {settings.embedded.folder}: start `callstream worker` or `callstream kafka up`, "
            "or name one with --broker HOST:PORT or CALLSTREAM_BROKER"
        )
    return running.bootstrap
