"""Fixtures of the fault tests, and the table of the kills at points."""

import pytest

from tests.faults.report import KILL, Row, table
from tests.support.postgres import postgres

__all__ = ["postgres"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell what each kill came to."""
    ended = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, ())]
    told = [dict(report.user_properties) for report in ended if getattr(report, "when", "") == "call"]
    if rows := [Row(**properties[KILL]) for properties in told if KILL in properties]:
        terminalreporter.section("kills at points")
        for line in table(rows):
            terminalreporter.write_line(line)
