"""The command line: `callstream COMMAND`, also `python -m callstream`."""

import os
import sys
import traceback

from callstream.cli.commands import app
from callstream.streams.foreseen import DEBUG, Foreseen

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
        known = isinstance(error, Foreseen)
        text = str(error) if known else f"{type(error).__name__}: {error} (not foreseen; --debug shows where)"
        print(f"error: {text}", file=sys.stderr)
        raise SystemExit(1) from None


__all__ = ["main"]
