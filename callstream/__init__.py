"""Durable, asynchronous model calls over Kafka.

A chain of your own needs no more than the names here; `faust -A callstream worker` finds the app of all services.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

from callstream.agents.inference.call import Call, CallFailed, Reply
from callstream.streams.chain import Attempts, Cell, Chain, Late, Step
from callstream.streams.event import Event, Failure, Usage
from callstream.streams.outcome import Bury, FanOut, Finish, Forward, Hold, Keep, Outcome, Retry, Subtask
from callstream.streams.routes import END, Routes, Rule

__all__ = [
    "END",
    "Attempts",
    "Bury",
    "Call",
    "CallFailed",
    "Cell",
    "Chain",
    "Event",
    "Failure",
    "FanOut",
    "Finish",
    "Forward",
    "Hold",
    "Keep",
    "Late",
    "Outcome",
    "Reply",
    "Retry",
    "Routes",
    "Rule",
    "Step",
    "Subtask",
    "Usage",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """`app`, the app of all services, built when `faust -A callstream` asks for it: importing alone starts nothing."""
    if name != "app":
        raise AttributeError(f"module 'callstream' has no attribute {name!r}")
    app = importlib.import_module("callstream.app").faust_app()
    globals()["app"] = app
    return app
