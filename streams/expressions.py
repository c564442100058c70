"""Expressions in CEL (Common Expression Language) that people write: checked when read, bounded when evaluated. Pure.

What may run long are the macros over lists, which multiply within each other: their number is limited, and with what
the values hold also their rounds. Regular expressions run in linear time by themselves. What could hide a macro from
the check is refused: a line break ends a comment, and `bind` and `transform` give values other names.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import cel

MOST_ROUNDS = 2_000_000
"""Rounds of all loops of an expression together, at most; a second or so."""

Value: TypeAlias = str | int | float | bool
_LOOP = re.compile(r"\.\s*(?:all|exists|exists_one|existsOne|map|filter)\s*\(\s*(\w*)")
"""Each with the name of what goes through the list."""
_NOT_TAKEN = re.compile(r"\.\s*(?:transform\w*|bind\w*)\s*\(|\bcel\s*\.")
_UNPRINTED = re.compile(r"[^ -~\u00a0-\U0010ffff]|[\u2028\u2029]")


class BadExpression(ValueError):
    """The expression cannot be used; the message says where and why, in one line."""


class NotEvaluated(BadExpression):
    """It cannot be evaluated on these values, where others may do: a field is missing, say, or of another type."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long an expression may be, and how many loops (`all`, `exists`, `exists_one`, `map`, `filter`) it has."""

    characters: int
    loops: int = 0


class Expression:
    """One expression over named values that gives true or false. Raises BadExpression.

    >>> Expression("step == 'copy' && age > 60.0", {"step", "age"}, Limits(500)).holds({"step": "copy", "age": 61.5})
    True
    """

    def __init__(self, text: str, names: Collection[str], limits: Limits) -> None:
        self.text = text
        if len(text) > limits.characters:
            raise BadExpression(f"it has {len(text):,} characters; at most {limits.characters:,} are taken")
        if _UNPRINTED.search(text):
            raise BadExpression("it holds a line break or another character that cannot be printed")
        if _NOT_TAKEN.search(text):
            raise BadExpression("it binds or transforms values, which is not taken")
        bound = _LOOP.findall(text)
        if len(bound) > limits.loops:
            said = f"it has {len(bound)} loops (all, exists, exists_one, map, filter)"
            raise BadExpression(f"{said}; at most {limits.loops} are run" if limits.loops else f"{said}; none is run")
        try:
            self._program = cel.compile(text)
        except Exception as error:
            raise BadExpression(f"it cannot be parsed: {_said(error)}") from None
        self._loops = len(bound)
        self._names = frozenset(self._program.variables())
        if unknown := sorted(self._names - set(bound) - set(names)):
            raise BadExpression(f"{unknown[0][:80]!r} is not known; known are: {', '.join(sorted(names))}")

    def needs(self, name: str) -> bool:
        """Whether it looks at the value of that name."""
        return name in self._names

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it is true of these values. Raises NotEvaluated, BadExpression."""
        if self._loops and (rounds(values) + self.text.count(",")) ** self._loops > MOST_ROUNDS:
            raise NotEvaluated("the values are too large for its loops: ask for less of them")
        try:
            found = self._program.execute(dict(values))
        except KeyError as error:
            raise NotEvaluated(f"no such field: {_said(error)}; guard it with has(…)") from None
        except TypeError as error:
            raise NotEvaluated(f"it cannot be evaluated: {_said(error)}") from None
        except Exception as error:
            raise BadExpression(f"it cannot be evaluated: {_said(error)}") from None
        if not isinstance(found, bool):
            raise BadExpression(f"it gives {type(found).__name__}, not true or false")
        return found


def condition(text: str, sample: Mapping[str, Value], characters: int) -> Expression:
    """An expression over flat values, tried on a `sample` that has every name with a value of its type.

    Nothing flat is a list, so it has no loops. Raises BadExpression.
    """
    found = Expression(text, sample, Limits(characters))
    found.holds(sample)
    return found


def rounds(value: Any) -> int:
    """How many values lie within one, which no loop over any part of it exceeds."""
    count, left = 0, [value]
    while left:
        one = left.pop()
        if isinstance(one, Mapping | list):
            count += len(one)
            left.extend(one.values() if isinstance(one, Mapping) else one)
        if count > MOST_ROUNDS:
            break
    return count


def _said(error: Exception) -> str:
    """The library's words without its picture of the expression, which spans lines."""
    text = str(error.args[0] if error.args else error)
    told = text.partition("ERROR: <input>:")[2] or text
    return " ".join(told.partition("\n")[0].split())[:300]
