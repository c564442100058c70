"""JSON from outside: one parser at every door, so that what is accepted at the first cannot fail at the third.

Refused with the reason: bytes that are not UTF-8, NaN and infinities, numbers out of range, repeated keys, lone
surrogates, nesting deeper than `MAX_DEPTH`, documents larger than the caller's bound.
"""

import json
import math
import re
from collections import Counter
from typing import Any, NoReturn

from pydantic_core import from_json, to_json

MAX_DEPTH = 32
MAX_INTEGER_DIGITS = 19


class BadJson(ValueError):
    """What is wrong with a document, in one sentence."""


class TooLarge(BadJson):
    """A document of more bytes than are taken."""


def loads(raw: bytes, max_bytes: int, max_depth: int = MAX_DEPTH) -> Any:
    """Parse one document of at most `max_bytes`, nested at most `max_depth` deep. Raises BadJson."""
    if len(raw) > max_bytes:
        raise TooLarge(f"{len(raw):,} bytes; at most {max_bytes:,} are taken")
    if (found := _plain(raw, max_depth)) is not None:
        return found
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadJson(f"not UTF-8 at byte {error.start}") from None
    if text.count("[") + text.count("{") > max_depth:
        _check_depth(text, max_depth)
    try:
        value = _CAREFUL.decode(text)
    except json.JSONDecodeError as error:
        raise BadJson(f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    if "\\u" in text:
        _refuse_lone_surrogates(value)
    return value


def dumps(value: Any) -> bytes:
    """Compact UTF-8 JSON. Raises ValueError for NaN, infinities, lone surrogates and whatever else is no JSON."""
    try:
        return _ENCODER.encode(value).encode("utf-8")
    except (TypeError, RecursionError) as error:
        raise BadJson(f"no JSON: {error}") from None


def readable(value: Any, max_bytes: int, max_depth: int = MAX_DEPTH) -> Any:
    """The value as whoever reads it will have it: written and parsed. Raises ValueError if a reader would refuse it."""
    return loads(dumps(value), max_bytes, max_depth)


def pack(value: Any) -> bytes:
    """What only we read again, such as a table's row, written by Rust: no value in it comes unchecked from outside."""
    return to_json(value)


def unpack(raw: bytes) -> Any:
    """What `pack` or `dumps` wrote."""
    return from_json(raw)


def _plain(raw: bytes, max_depth: int) -> Any:
    """What our own writer wrote, parsed by Rust in a fifth of the time; None for all else, which is looked at closely.

    It is ours if writing it again gives the same bytes: a repeated key, an escape, a number out of range does not.
    An integer without end and a depth without end would, so they are looked for.
    """
    if _LONG_INTEGER in raw.translate(_DIGITS_AS_ZEROS):
        return None
    try:
        value = from_json(raw, allow_inf_nan=False)
        ours = to_json(value) == raw and (
            raw.count(b"[") + raw.count(b"{") <= max_depth or _is_within(value, max_depth)
        )
    except ValueError:
        return None
    return value if ours else None


def _is_within(value: Any, max_depth: int) -> bool:
    nested = [value]
    for _ in range(max_depth):
        nested = [
            child
            for each in nested
            if isinstance(each, dict | list)
            for child in (each.values() if isinstance(each, dict) else each)
        ]
        if not nested:
            return True
    return not any(isinstance(each, dict | list) for each in nested)


def _check_depth(text: str, max_depth: int) -> None:
    depth = 0
    for bracket in _BRACKETS.finditer(_STRINGS.sub("", text)):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > max_depth:
            raise BadJson(f"nested deeper than {max_depth}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        repeated = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise BadJson(f"key {repeated[:80]!r} stands twice in one object")
    return members


def _integer(digits: str) -> int:
    length = len(digits.lstrip("-"))
    if length > MAX_INTEGER_DIGITS:
        raise BadJson(f"an integer of {length:,} digits; at most {MAX_INTEGER_DIGITS} are taken")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise BadJson(f"number {digits[:40]} is out of range")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise BadJson(f"{name} is not a JSON number")


def _refuse_lone_surrogates(value: Any) -> None:
    try:
        _ENCODER.encode(value).encode("utf-8")
    except UnicodeEncodeError:
        raise BadJson("a string holds half of a surrogate pair") from None


# Takes a string that never ends as one, so that no text makes the search begin again at each of its quotes.
_STRINGS = re.compile(r'"(?:[^"\\]+|\\.?)*+"?', re.DOTALL)
_BRACKETS = re.compile(r"[\[\]{}]")
_LONG_INTEGER = b"0" * (MAX_INTEGER_DIGITS + 1)
_DIGITS_AS_ZEROS = bytes(48 if chr(byte).isdecimal() and byte < 128 else 32 for byte in range(256))
_CAREFUL = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_integer, parse_float=_finite, parse_constant=_refuse_constant
)
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
