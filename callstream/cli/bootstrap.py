"""Where the broker is that the commands talk to."""

from callstream.cli.errors import CliError
from callstream.settings import Settings
from callstream.streams.broker import BrokerOptions, control

DEMO_FOLDER = "demo"
"""Within the data folder."""


def bootstrap_of(settings: Settings, given: str | None) -> str:
    """The broker that is named, or set, or the embedded one that runs. Raises CliError when there is none."""
    if found := given or settings.broker:
        return found
    running = control.status(settings.embedded)
    if running is None:
        demo = control.status(BrokerOptions(folder=settings.data_folder / DEMO_FOLDER / "kafka"))
        if demo is not None:
            what_to_do = f"that of the demo does: name it with --broker {demo.bootstrap}"
        else:
            start = "start `callstream worker` or `callstream kafka up`"
            what_to_do = f"{start}, or name one with --broker HOST:PORT or CALLSTREAM_BROKER"
        raise CliError(f"no broker runs in {settings.embedded.folder}: {what_to_do}")
    return running.bootstrap
