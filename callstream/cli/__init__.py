"""The command line: `callstream COMMAND`, also `python -m callstream`."""

import os
import sys
import traceback

from callstream.agents.delivery import DatabaseUnusable
from callstream.agents.inference.options import UnusableSecret
from callstream.alarming import BadAlarmRule
from callstream.cli.commands import app
from callstream.cli.errors import CliError
from callstream.presence import FolderInUse
from callstream.services import UnknownService
from callstream.settings import SettingsError
from callstream.settings.gather import DEBUG
from callstream.streams.blobs import BlobError
from callstream.streams.broker import BrokerError
from callstream.streams.chain import UnknownChain
from callstream.streams.declare import BrokerUnreachable, TopicsDiffer
from callstream.streams.engine import EngineUnfit
from callstream.streams.loading import BadReference
from callstream.streams.replay.recorded import TopicsUnreadable
from callstream.streams.replay.run import CannotReplay
from callstream.streams.replay.selection import UnknownStep
from callstream.stub import StubFailedError
from callstream.web.serve import CannotListen

KNOWN = (
    BadAlarmRule,
    BadReference,
    BlobError,
    BrokerError,
    BrokerUnreachable,
    CannotListen,
    CannotReplay,
    CliError,
    DatabaseUnusable,
    EngineUnfit,
    FolderInUse,
    SettingsError,
    StubFailedError,
    TopicsDiffer,
    TopicsUnreadable,
    UnknownChain,
    UnknownService,
    UnknownStep,
    UnusableSecret,
)
INTERRUPTED = 130


def main() -> None:
    """Run one command. An error is one line on standard error and exit code 1; --debug shows its traceback."""
    try:
        app()
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:
        if os.environ.get(DEBUG):
            traceback.print_exc()
        known = isinstance(error, KNOWN)
        text = str(error) if known else f"{type(error).__name__}: {error} (not foreseen; --debug shows where)"
        print(f"error: {text}", file=sys.stderr)
        raise SystemExit(1) from None


__all__ = ["main"]
