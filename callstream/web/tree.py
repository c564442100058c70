"""A JSON value as a tree that a page can show: names, texts, human forms beside them, and a bound on all of it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_MOST_CHARACTERS = 4000
_MOST_CHILDREN = 200
_EARLIEST, _LATEST = 1_000_000_000, 4_102_444_800
_TIMES = frozenset(
    {"created", "updated", "deadline", "started", "ended", "decided", "answered", "time", "start", "until", "at"}
)

_CONTROLS = (*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_VISIBLE = {code: chr(code).encode("unicode_escape").decode() for code in _CONTROLS if chr(code) not in "\n\t"}
"""What a page cannot show, or what turns the text around it, by how it is written."""


@dataclass(frozen=True, slots=True)
class Node:
    """One value. `kind` is object, list, text, number, true, false or null; `hint` says it again for people.

    `moment` is epoch seconds for a number that is a time, `omitted` how much of the value is not shown.
    """

    name: str
    kind: str
    text: str
    hint: str = ""
    moment: float | None = None
    children: tuple["Node", ...] = ()
    omitted: int = 0


def tree(name: str, value: Any, most_nodes: int = 3000) -> Node:
    """The value with at most about `most_nodes` nodes; what is left out is counted in `omitted`."""
    return _node(name, value, iter(range(most_nodes)))


def visible(text: str) -> str:
    """Text with what could not be seen written out.

    >>> visible("a\\0b")
    'a\\\\x00b'
    """
    return text.translate(_VISIBLE)


def human_bytes(count: int | None) -> str:
    """A size for people.

    >>> human_bytes(1536)
    '1.5 KiB'
    """
    if count is None:
        return "–"
    size, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1000 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.0f} {units[0]}" if units[0] == "B" or size >= 100 else f"{size:.1f} {units[0]}"


def human_seconds(seconds: float) -> str:
    """A duration for people, with three digits that matter.

    >>> human_seconds(0.0123), human_seconds(75)
    ('12.3 ms', '1 min 15 s')
    """
    if seconds < 0:
        return "-" + human_seconds(-seconds)
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s"))
    told = [f"{number} {unit}" for number, unit in parts if number]
    return " ".join(told[:2])


def human_time(moment: float) -> str:
    """Epoch seconds for people, UTC.

    >>> human_time(0)
    '1970-01-01 00:00:00 UTC'
    """
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def machine_time(moment: float) -> str:
    """Epoch seconds for the `datetime` of an HTML time element."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def preview(value: Any, most: int = 140) -> str:
    """The beginning of a value in one line, made without writing all of it out."""
    text = ""
    for piece in _pieces(value):
        text += piece
        if len(text) > most:
            return text[:most] + "…"
    return text


def _node(name: str, value: Any, budget: Iterator[int]) -> Node:
    match value:
        case dict():
            children, omitted = _children(((str(key), each) for key, each in value.items()), len(value), budget)
            return Node(name, "object", _count(len(value), "member"), children=children, omitted=omitted)
        case list() | tuple():
            children, omitted = _children(((str(at), each) for at, each in enumerate(value)), len(value), budget)
            return Node(name, "list", _count(len(value), "entry"), children=children, omitted=omitted)
        case str():
            return Node(name, "text", visible(value[:_MOST_CHARACTERS]), omitted=max(0, len(value) - _MOST_CHARACTERS))
        case bool():
            return Node(name, str(value).lower(), str(value).lower())
        case int() | float():
            return _number(name, value)
        case _:
            return Node(name, "null", "null")


def _children(members: Iterable[tuple[str, Any]], count: int, budget: Iterator[int]) -> tuple[tuple[Node, ...], int]:
    children: list[Node] = []
    for name, value in members:
        if len(children) >= _MOST_CHILDREN or next(budget, None) is None:
            break
        children.append(_node(visible(name), value, budget))
    return tuple(children), count - len(children)


def _number(name: str, value: float) -> Node:
    text = f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else repr(value)
    if name in _TIMES and _EARLIEST <= value < _LATEST:
        return Node(name, "number", repr(value), hint=human_time(value), moment=float(value))
    if name.endswith("seconds"):
        return Node(name, "number", repr(value), hint=human_seconds(value))
    if name.endswith("bytes") and isinstance(value, int):
        return Node(name, "number", repr(value), hint=human_bytes(value))
    return Node(name, "number", text)


def _pieces(value: Any) -> Iterator[str]:
    match value:
        case dict():
            yield "{"
            for at, (key, each) in enumerate(value.items()):
                yield f"{', ' if at else ''}{visible(key)}: "
                yield from _pieces(each)
            yield "}"
        case list() | tuple():
            yield "["
            for at, each in enumerate(value):
                yield ", " if at else ""
                yield from _pieces(each)
            yield "]"
        case str():
            yield visible(" ".join(value[:400].split()))
        case bool():
            yield str(value).lower()
        case None:
            yield "null"
        case float():
            yield f"{value:.6g}" if abs(value) < 1e9 else f"{value:.0f}"
        case _:
            yield repr(value)


def _count(number: int, what: str) -> str:
    plural = what.removesuffix("y") + "ies" if what.endswith("y") else what + "s"
    return f"{number:,} {what if number == 1 else plural}"
