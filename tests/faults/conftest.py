"""Fixtures of the fault tests, and the table of the kills at points."""

import pytest

from tests.faults.report import POINTS_KEY, table
from tests.support.postgres import postgres

__all__ = ["postgres"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Tell what each kill came to."""
    if rows := config.stash.get(POINTS_KEY, []):
        terminalreporter.section("kills at points")
        for line in table(rows):
            terminalreporter.write_line(line)
