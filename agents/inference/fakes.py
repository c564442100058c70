"""Stand-ins for models and calls, for tests of layers and of steps that call models."""

from collections.abc import Iterable
from typing import Any

from callstream.agents.inference.call import Call, Reply
from callstream.streams.fakes import MemoryCell


class ScriptedModel:
    """A Model that answers from a script, in order; the last entry answers all further calls. Keeps what it was asked.

    >>> import asyncio
    >>> from callstream.agents.inference.call import CallFailed
    >>> model = ScriptedModel([CallFailed("overloaded", "later"), Reply("hello")])
    >>> async def ask() -> str:
    ...     try:
    ...         return (await model(a_call())).text
    ...     except CallFailed as failure:
    ...         return failure.kind
    >>> asyncio.run(ask()), asyncio.run(ask()), len(model.calls)
    ('overloaded', 'hello', 2)
    """

    def __init__(self, script: Iterable[Reply | BaseException]) -> None:
        self._script = list(script)
        self.calls: list[Call] = []

    async def __call__(self, call: Call) -> Reply:
        """The next entry: given, or raised if it is an exception."""
        self.calls.append(call)
        entry = self._script[min(len(self.calls), len(self._script)) - 1]
        if isinstance(entry, BaseException):
            raise entry
        return entry


def a_call(**changes: Any) -> Call:
    """A call that needs no further thought; `changes` are fields of Call."""
    fields: dict[str, Any] = {
        "id": "4:acme:mug-1/3/call-1",
        "tenant": "acme",
        "task": "mug-1",
        "pool": "copywriter",
        "request": {"messages": [{"role": "user", "content": "Brand: Kilnrow"}]},
        "cell": MemoryCell(),
    }
    return Call(**{**fields, **changes})
