"""Durable, asynchronous model calls over Kafka.

A chain of your own needs no more than the names here; `faust -A callstream worker` finds the app of all services.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Attempts": "callstream.streams.chain",
    "Cell": "callstream.streams.chain",
    "Chain": "callstream.streams.chain",
    "Step": "callstream.streams.chain",
    "Event": "callstream.streams.event",
    "Failure": "callstream.streams.event",
    "Usage": "callstream.streams.event",
    "Bury": "callstream.streams.outcome",
    "Finish": "callstream.streams.outcome",
    "Forward": "callstream.streams.outcome",
    "Hold": "callstream.streams.outcome",
    "Keep": "callstream.streams.outcome",
    "Outcome": "callstream.streams.outcome",
    "Retry": "callstream.streams.outcome",
    "Call": "callstream.agents.inference.call",
    "CallFailed": "callstream.agents.inference.call",
    "Reply": "callstream.agents.inference.call",
    "Tools": "callstream.agents.tools",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    """The public names, looked up when they are first used: importing callstream starts and imports nothing."""
    if name == "app":
        value = importlib.import_module("callstream.app").faust_app()
    elif name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'callstream' has no attribute {name!r}")
    globals()[name] = value
    return value
