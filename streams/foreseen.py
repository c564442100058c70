"""Errors that whoever started the program can mend."""

DEBUG = "CALLSTREAM_DEBUG"
"""The environment variable with which tracebacks are shown."""


class Foreseen(Exception):
    """Its message says what is wrong, where, and what to do: the command line shows that and no traceback."""
