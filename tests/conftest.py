"""What holds for every test."""

import os
from collections.abc import Generator

import pytest

from tests.support.quick_broker import options


def pytest_configure() -> None:
    """Have brokers start quickly."""
    os.environ.setdefault("JDK_JAVA_OPTIONS", options())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Have lone surrogates escaped in what a test logged: xdist cannot send them to the process that reports."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report
