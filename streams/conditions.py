"""Conditions in CEL (Common Expression Language) that people write: checked when read, bounded when evaluated.

What is looked at is flat, so the macros over lists (`all`, `map`, …), whose nesting would make a short expression run
long, are not taken; regular expressions run in linear time by themselves. Comments are one more thing to hide them in.
"""

import re
from collections.abc import Mapping
from typing import TypeAlias

import cel

MOST_CHARACTERS = 500

Value: TypeAlias = str | int | float | bool
_MACRO = re.compile(r"\.\s*(all|exists|exists_one|existsOne|map|filter|transform\w*|bind)\s*\(|\bcel\s*\.")
_UNPRINTED = re.compile(r"[^ -~\u00a0-\U0010ffff]")


class BadCondition(ValueError):
    """The expression cannot be used; the message says where and why, in one line."""


class Condition:
    """One expression over named values. `sample` has every name with a value of its type.

    >>> Condition("step == 'copy' && age > 60.0", {"step": "", "age": 0.0}).holds({"step": "copy", "age": 61.5})
    True
    """

    def __init__(self, expression: str, sample: Mapping[str, Value]) -> None:
        self.expression = expression
        if len(expression) > MOST_CHARACTERS:
            raise BadCondition(f"it has {len(expression):,} characters; at most {MOST_CHARACTERS} are taken")
        if _UNPRINTED.search(expression):
            raise BadCondition("it holds a line break or another character that cannot be printed")
        if _MACRO.search(expression):
            raise BadCondition("macros over lists (all, exists, map, filter) are not taken: no value here is a list")
        try:
            self._program = cel.compile(expression)
        except Exception as error:
            raise BadCondition(f"it cannot be parsed: {_said(error)}") from None
        if unknown := sorted(set(self._program.variables()) - set(sample)):
            known = ", ".join(sorted(sample))
            raise BadCondition(f"{unknown[0][:80]!r} is not known; known are: {known}")
        self.holds(sample)

    def holds(self, values: Mapping[str, Value]) -> bool:
        """Whether it is true of these values. Raises BadCondition where it errs, or gives no truth value."""
        try:
            found = self._program.execute(dict(values))
        except Exception as error:
            raise BadCondition(f"it cannot be evaluated: {_said(error)}") from None
        if not isinstance(found, bool):
            raise BadCondition(f"it gives {type(found).__name__}, not true or false")
        return found

    def needs(self, name: str) -> bool:
        """Whether it looks at the value of that name."""
        return name in self._program.variables()


def _said(error: Exception) -> str:
    """The library's words without its picture of the expression, which spans lines."""
    text = str(error)
    told = text.partition("ERROR: <input>:")[2] or text
    return " ".join(told.partition("\n")[0].split())[:300]
