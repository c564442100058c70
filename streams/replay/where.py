"""Rules in CEL that choose tasks by what their recorded event says. Pure, and bounded before it is evaluated."""

import re
from typing import Any

import cel

from callstream.streams.event import Event, Json

VARIABLES = ("chain", "tenant", "task", "priority", "version", "time", "input", "outputs", "state")
MOST_CHARACTERS = 2_000
MOST_MACROS = 3
MOST_ROUNDS = 2_000_000
"""Rounds of all loops of a rule together, at most; a second or so."""

_MACRO = re.compile(r"\.\s*(all|exists|exists_one|existsOne|map|filter)\s*\(\s*(\w+)\s*,")
_NOT_TAKEN = re.compile(r"\.\s*(?:transform\w*|bind\w*)\s*\(|\bcel\s*\.")
_UNPRINTED = re.compile(r"[^ -~\u00a0-\U0010ffff]")
"""Line breaks too: they end comments, and a comment hides a loop."""


class BadRule(ValueError):
    """The rule cannot be used at all; the message says why."""


class RuleFailed(ValueError):
    """The rule cannot be evaluated on one event; the message says why and how to guard it."""


class Where:
    """A rule over `VARIABLES` that gives true or false.

        Where('chain == "copy" && outputs.copy.text.contains("lawyer")')

    Raises BadRule: it does not parse, is too long, has over `MOST_MACROS` loops or hidden ones, or names no variable.
    """

    def __init__(self, text: str) -> None:
        if len(text) > MOST_CHARACTERS:
            raise BadRule(f"the rule has {len(text):,} characters; at most {MOST_CHARACTERS:,} are taken")
        if _UNPRINTED.search(text):
            raise BadRule("the rule holds a line break or another character that cannot be printed")
        if _NOT_TAKEN.search(text):
            raise BadRule("the rule binds or transforms values, which is not taken; loops are all, exists, map, filter")
        loops = _MACRO.findall(text)
        if len(loops) > MOST_MACROS:
            raise BadRule(f"the rule has {len(loops)} loops (all, exists, map, filter); at most {MOST_MACROS} are run")
        try:
            self._program = cel.compile(text)
        except ValueError as error:
            raise BadRule(f"the rule does not parse: {_line(error)}") from None
        self._loops = len(loops)
        self._names = frozenset(self._program.variables())
        unknown = self._names - {bound for _, bound in loops} - set(VARIABLES)
        if unknown:
            raise BadRule(f"{sorted(unknown)[0]!r} is no variable of a rule; there are: {', '.join(VARIABLES)}")
        self.text = text

    @property
    def needs_state(self) -> bool:
        """Whether it asks how the task ended."""
        return "state" in self._names

    def holds(self, event: Event, state: str = "running") -> bool:
        """Whether it is true of an event; `state` is how its task ended. Raises RuleFailed, BadRule."""
        values = values_of(event, state)
        if self._loops and rounds(values) ** self._loops > MOST_ROUNDS:
            raise RuleFailed("the event is too large for the loops of the rule: ask for less of it")
        try:
            found = self._program.execute(values)
        except KeyError as error:
            raise RuleFailed(f"no such field: {error.args[0]!s}; guard it with has(…)") from None
        except TypeError as error:
            raise RuleFailed(_line(error)) from None
        except (RuntimeError, ValueError, OverflowError, ArithmeticError) as error:
            raise BadRule(_line(error)) from None
        if not isinstance(found, bool):
            raise BadRule(f"the rule gives {type(found).__name__}, not true or false")
        return found


def values_of(event: Event, state: str) -> Json:
    """What a rule may ask about an event."""
    return {
        "chain": event.chain,
        "tenant": event.tenant,
        "task": event.task,
        "priority": str(event.priority),
        "version": event.version,
        "time": event.time,
        "input": event.input,
        "outputs": event.body.outputs,
        "state": state,
    }


def rounds(value: Any) -> int:
    """How many values lie within one, which no loop over any part of it exceeds."""
    count, left = 0, [value]
    while left:
        one = left.pop()
        if isinstance(one, dict | list):
            count += len(one)
            left.extend(one.values() if isinstance(one, dict) else one)
        if count > MOST_ROUNDS:
            break
    return count


def _line(error: BaseException) -> str:
    return " ".join(str(error.args[0] if error.args else error).split())[:300]
