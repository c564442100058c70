"""Expressions in CEL (Common Expression Language) that people write: checked when read, bounded when evaluated. Pure.

What may run long are the macros over lists, which multiply within each other: their number is limited, and with what
the values hold also their rounds. Regular expressions run in linear time by themselves, and are asked only as often as
the texts are short enough for. What could hide a macro from the check is refused: a line break ends a comment, and
`bind` and `transform` give values other names.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any, TypeAlias

MOST_ROUNDS = 2_000_000
"""Rounds of all loops of an expression together, at most; a second or so."""

MOST_READ = 50_000_000
"""Characters that an expression searches or joins, at most: calls, in all rounds, times the longest text."""

Value: TypeAlias = str | int | float | bool
_LOOP = re.compile(r"\.\s*(?:all|exists|exists_one|existsOne|map|filter)\s*\(\s*(\w*)")
"""Each with the name of what goes through the list."""
_READING = re.compile(r"\.\s*(?:matches|contains|replace|split|indexOf|lastIndexOf)\b|\bmatches\s*\(|\+")
_NOT_TAKEN = re.compile(r"\.\s*(?:transform\w*|bind\w*)\s*\(|\bcel\s*\.")
_PARSING = re.compile(r"ERROR: <input>:1:(\d+): (?:Syntax error: )?(.*)")
_TOKEN = re.compile(r"(?:token recognition error at: |(?:mismatched|extraneous) input )'(.*?)'(?: expecting .*)?\Z")
_INSTEAD = {
    "=": "== to compare",
    "&": "&& for and",
    "and": "&&",
    "|": "|| for or",
    "or": "||",
    "not": "!",
    **dict.fromkeys("“”„‘’«»", "plain quotes, ' or \""),
}
_CONVERT = "compare like with like, such as 1.0 with a decimal, or convert: int(x), double(x), string(x)"
_UNPRINTED = re.compile(r"[^ -~\u00a0-\U0010ffff]|[\u2028\u2029]")


@lru_cache(maxsize=1)
def library() -> Any:
    """The library, read at its first use: it brings a shell, which takes half a second. A worker reads it at start."""
    return import_module("cel")


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
            said = f"it has {len(bound)} loop{'s' * (len(bound) != 1)} (all, exists, exists_one, map, filter)"
            raise BadExpression(f"{said}; at most {limits.loops} are run" if limits.loops else f"{said}; none is run")
        try:
            self._program = library().compile(text)
        except Exception as error:
            raise BadExpression(_unparsed(error)) from None
        self._loops = len(bound)
        self._readings = len(_READING.findall(text))
        self._names = frozenset(self._program.variables())
        if unknown := sorted(self._names - set(bound) - set(names)):
            raise BadExpression(f"{unknown[0][:80]!r} is not known; known are: {', '.join(sorted(names))}")

    def needs(self, name: str) -> bool:
        """Whether it looks at the value of that name."""
        return name in self._names

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it is true of these values. Raises NotEvaluated, BadExpression."""
        most_rounds = (rounds(values) + self.text.count(",")) ** self._loops if self._loops else 1
        if most_rounds > MOST_ROUNDS:
            raise NotEvaluated("the values are too large for its loops: ask for less of them")
        if self._readings and most_rounds * self._readings * longest(values) > MOST_READ:
            raise NotEvaluated("the texts are too long to be searched so often: ask for less of them")
        try:
            found = self._program.execute(dict(values))
        except KeyError as error:
            raise NotEvaluated(f"no such field: {_first(error)}; guard it with has(…)") from None
        except TypeError as error:
            raise NotEvaluated(f"it cannot be evaluated: {_unfit(error)}") from None
        except Exception as error:
            raise BadExpression(f"it cannot be evaluated: {_unfit(error)}") from None
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


def longest(value: Any) -> int:
    """How many characters the longest text within a value has."""
    most, left = 0, [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            most = max(most, len(one))
        elif isinstance(one, Mapping | list):
            left.extend(one.values() if isinstance(one, Mapping) else one)
    return most


def _unparsed(error: Exception) -> str:
    """Where an expression cannot be parsed, why, and what to do."""
    found = _PARSING.search(str(error))
    if found is None:
        return f"it cannot be parsed: {_first(error)}"
    return f"it cannot be parsed at column {found[1]}: {_unread(found[2].strip())}"


def _unread(said: str) -> str:
    """What the parser says about a place, without what it expected there."""
    if "Recursion limit" in said:
        return "it is nested too deep"
    if "input '<EOF>'" in said:
        return "it ends too early: a value or a closing bracket is missing"
    if (found := _TOKEN.match(said)) is None:
        return said[:200]
    token = found[1].strip()
    if token in _INSTEAD:
        return f"{token!r} cannot stand here: write {_INSTEAD[token]}"
    if token[:1] in ("'", '"'):
        return "the text that begins here does not end: close its quote, and write two backslashes for one"
    return f"{token[:40]!r} cannot stand here: join conditions with && or ||, and put texts in quotes"


def _unfit(error: Exception) -> str:
    """Why an expression cannot be evaluated, and what to do."""
    first = _first(error)
    if first.startswith("No such overload"):
        return f"a value is of another type than is asked for; {_CONVERT}"
    if first.startswith("Unsupported operation"):
        return f"{first}; {_CONVERT}"
    return first.replace("Undefined variable or function", "not known")


def _first(error: Exception) -> str:
    """The first sentence of the library's words."""
    text = str(error.args[0] if error.args else error).partition("\n")[0]
    return " ".join(text.partition(". ")[0].split())[:200].rstrip(".:")
