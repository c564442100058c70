"""Errors of the command line."""


class CliError(RuntimeError):
    """What went wrong, where, and what to do: one line for the terminal."""
