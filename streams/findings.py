"""What a validation found, in words for people: where in the document, and what is wanted there. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

MOST_FINDINGS = 10_000
"""Each finding of a validation costs time to tell; of more than these only the number is told."""
MOST_DETAIL = 500

_UNKNOWN = object()
_SHOULD = "Input should be "
_WANTED = {
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type", "mapping_type"), "an object"),
    **dict.fromkeys(("list_type", "tuple_type", "set_type"), "a list"),
}
_URL = re.compile(r"^\^https\?://\[\^\\s/?\]\+\$\Z")
_NAME = re.compile(r"^\^\[([^\]^]+)\]\[([^\]^]+)\]\{0,(\d+)\}\$\Z")
_RUN = re.compile(r"^\^\[([^\]^]+)\]\{(\d+)(?:,(\d+))?\}\$\Z")


@dataclass(frozen=True, slots=True)
class Finding:
    """One place of a document that does not fit: its path there, what is wanted, and what stands there."""

    path: tuple[int | str, ...]
    detail: str
    given: object


def findings_of(error: ValidationError, document: object = _UNKNOWN) -> list[Finding]:
    """What an error found, one finding a place, in their order.

    Pydantic's own names of what it tried (`int`, of an integer or a text) are no part of a path: it is followed through
    the document, where that is given.
    """
    found: dict[tuple[int | str, ...], Finding] = {}
    for detail in error.errors(include_url=False):
        path = detail["loc"] if document is _UNKNOWN else _in_document(detail, document)
        one = Finding(path, said(detail), detail["input"])
        earlier = found.get(path)
        found[path] = one if earlier is None else replace(earlier, detail=_either(earlier.detail, one.detail))
    return list(found.values())


def describe(error: ValidationError, document: object = _UNKNOWN, most: int = 5) -> str:
    """A validation error in one line: where, what, and the value, for the first few of its findings."""
    if error.error_count() > MOST_FINDINGS:
        return f"{error.error_count():,} places are not as they must be"
    findings = findings_of(error, document)
    lines = [
        f"{'.'.join(map(str, one.path)) or 'body'}: {one.detail} (got {_shown(one.given)})" for one in findings[:most]
    ]
    more = f"; and {len(findings) - most} more" if len(findings) > most else ""
    return ("; ".join(lines) + more)[:2000]


def said(detail: ErrorDetails) -> str:
    """What is wanted at the place of one error."""
    kind = detail["type"]
    if kind == "string_pattern_mismatch":
        return in_words(str(detail["ctx"]["pattern"]))
    if kind in _WANTED:
        return _SHOULD + _WANTED[kind]
    said = detail["msg"].removeprefix("Value error, ")
    if kind in ("too_short", "too_long"):
        what = "Object" if detail["ctx"]["field_type"] == "Dictionary" else "List"
        said = said.replace(detail["ctx"]["field_type"], what, 1).replace(" after validation", "")
    return said[:MOST_DETAIL]


def in_words(pattern: str) -> str:
    """What a text has to be like that a regular expression asks for, if it is one of the usual kinds.

    >>> in_words("^[a-z][a-z0-9-]{0,47}$")
    "must be 1 to 48 small letters, digits or '-', a small letter first"
    """
    if _URL.match(pattern):
        return "must be a URL that begins with http:// or https:// and has no spaces"
    if (name := _NAME.match(pattern)) and (rest := _characters(name[2])) and (first := _characters(name[1])):
        begins = _listed([word.removesuffix("s") for word in first])
        return f"must be 1 to {int(name[3]) + 1} {_listed(rest)}, a {begins} first"
    if (run := _RUN.match(pattern)) and (words := _characters(run[1])):
        return f"must be {run[2]}{f' to {run[3]}' if run[3] else ''} {_listed(words)}"
    return f"must match the regular expression {pattern}"[:MOST_DETAIL]


def _characters(inside: str) -> list[str]:
    """The members of a class of characters, in words; nothing for one that is not of the usual kinds."""
    words = []
    for ranges, word in (("A-Za-z", "letters"), ("a-z", "small letters"), ("0-9a-f", "digits or letters from a to f"),
                         ("0-9", "digits")):  # fmt: skip
        if ranges in inside:
            inside = inside.replace(ranges, "")
            words.append(word)
    if re.search(r"[\\A-Za-z0-9]|.-.", inside):
        return []
    return [*words, *(repr(one) for one in inside)]


def _listed(words: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _in_document(detail: ErrorDetails, document: Any) -> tuple[int | str, ...]:
    """The part of an error's location that the document has; a member that is missing has its own name."""
    path: list[int | str] = []
    parts = detail["loc"]
    for number, part in enumerate(parts, 1):
        if isinstance(document, Mapping) and (
            part in document or (detail["type"] == "missing" and number == len(parts))
        ):
            document = document.get(part)
        elif isinstance(document, list | tuple) and isinstance(part, int) and part < len(document):
            document = document[part]
        else:
            continue
        path.append(part)
    return tuple(path)


def _either(first: str, second: str) -> str:
    """Two things of which one is wanted at a place."""
    if second in first:
        return first
    if first.startswith(_SHOULD) and second.startswith(_SHOULD):
        return f"{first.replace(' or ', ', ')} or {second.removeprefix(_SHOULD)}"[:MOST_DETAIL]
    return f"{first}; or: {second}"[:MOST_DETAIL]


def _shown(given: object) -> str:
    """A short text for a value that may be megabytes long."""
    if isinstance(given, Mapping):
        return f"an object of {len(given):,}"
    if isinstance(given, list | tuple):
        return f"a list of {len(given):,}"
    return repr(given[:60] if isinstance(given, str) else str(given)[:60])
