"""Which line of a TOML document sets which key: tomllib tells values only."""

import re
import tomllib

Keys = dict[tuple[str | int, ...], int]

_HEADER = re.compile(r"^\s*(\[\[?)\s*(.+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")


def lines_of(text: str) -> Keys:
    """The line (from 1) of each key that begins a line, and of each table's header. Text that is TOML is expected."""
    found: Keys = {}
    table: tuple[str | int, ...] = ()
    counts: dict[tuple[str | int, ...], int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            names = _names(header[2])
            if names is None:
                continue
            table = _inside_arrays(names, counts)
            if header[1] == "[[":
                index = counts.get(table, 0)
                counts[table] = index + 1
                table = (*table, index)
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            names = _names(key[1])
            if names is not None:
                found.setdefault((*table, *names), number)
    return found


def _inside_arrays(names: tuple[str, ...], counts: dict[tuple[str | int, ...], int]) -> tuple[str | int, ...]:
    """The path of a header: below an array of tables it means the array's last table."""
    path: tuple[str | int, ...] = ()
    for position, name in enumerate(names):
        path = (*path, name)
        if path in counts and position < len(names) - 1:
            path = (*path, counts[path] - 1)
    return path


def _names(dotted: str) -> tuple[str, ...] | None:
    """The parts of a dotted key, read by tomllib itself; None for what is no key, such as a line of a long string."""
    try:
        value = tomllib.loads(f"{dotted} = 0")
    except tomllib.TOMLDecodeError:
        return None
    names: list[str] = []
    while isinstance(value, dict) and value:
        name, value = next(iter(value.items()))
        names.append(name)
    return tuple(names)
