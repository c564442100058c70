"""Errors of the command line."""

from callstream.streams.foreseen import Foreseen


class CliError(Foreseen, RuntimeError):
    """What went wrong, where, and what to do: one line for the terminal."""
