"""How two tasks differ, step by step. Pure: rows of the status API and outputs in, sections out."""

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import unified_diff
from typing import Any

from callstream.streams.event import Json

FIGURES = ("model", "attempts", "calls", "tokens_in", "tokens_out", "seconds")
MOST_LINES = 2_000
"""Of one section that are held against each other: telling differences takes their square."""
MOST_CHANGES = 1_000
CONTEXT = 2


class NotComparable(ValueError):
    """The two are no pair; the message says why."""


@dataclass(frozen=True)
class Side:
    """One task: its row, what it was given, and its steps' outputs; None for what is on the topics no more."""

    row: Json
    given: Json | None = None
    outputs: Json | None = None


@dataclass(frozen=True)
class Section:
    """One part of both tasks: what each has there (None where it has nothing), and figures about it."""

    name: str
    a: Any
    b: Any
    figures_a: Json
    figures_b: Json
    inherited: bool = False

    @property
    def is_same(self) -> bool:
        """Whether both have the same there; figures do not count."""
        return bool(self.a == self.b)

    def diff(self, a: str, b: str) -> list[str]:
        """A unified diff between the two, whose names are given; empty if they are the same."""
        before, after = list(lines_of(self.a))[:MOST_LINES], list(lines_of(self.b))[:MOST_LINES]
        return list(unified_diff(before, after, a, b, lineterm="", n=CONTEXT))

    def changes(self) -> list[Json]:
        """Each place that differs, by its path."""
        left, right = dict(_leaves(self.a)), dict(_leaves(self.b))
        paths = [path for path in dict.fromkeys([*left, *right]) if left.get(path) != right.get(path)]
        return [{"path": path, "a": left.get(path), "b": right.get(path)} for path in paths[:MOST_CHANGES]]


def compare(a: Side, b: Side) -> list[Section]:
    """The sections of two tasks: their input, each step, their end. Raises NotComparable."""
    one, other = a.row, b.row
    if one["id"] == other["id"]:
        raise NotComparable(f"{one['id']!r} is named twice: name two tasks")
    if one["chain"] != other["chain"]:
        raise NotComparable(
            f"{one['id']!r} is of chain {one['chain']!r} and {other['id']!r} of {other['chain']!r}: "
            "only tasks of one chain have steps to compare"
        )
    hops_a, hops_b = _hops(one), _hops(other)
    sections = [Section("input", a.given, b.given, {}, {})]
    inherited = {hop["step"] for hop in other["steps"][: other.get("inherited", 0)]}
    for step in dict.fromkeys([*hops_a, *hops_b]):
        content_a, content_b = _content(step, hops_a, a), _content(step, hops_b, b)
        figures_a, figures_b = _figures(hops_a.get(step)), _figures(hops_b.get(step))
        sections.append(Section(step, content_a, content_b, figures_a, figures_b, step in inherited))
    return [*sections, Section("end", _end(one), _end(other), {}, {})]


def as_json(a: Side, b: Side, sections: list[Section]) -> Json:
    """The comparison for programs."""
    return {
        "a": a.row["id"],
        "b": b.row["id"],
        "same": all(section.is_same for section in sections),
        "sections": [
            {
                "section": section.name,
                "same": section.is_same,
                "inherited": section.inherited,
                "a": section.figures_a,
                "b": section.figures_b,
                "changes": section.changes(),
            }
            for section in sections
        ],
    }


def _hops(row: Json) -> dict[str, Json]:
    """The hops of a task by step; of a step that was taken twice the last."""
    return {hop["step"]: hop for hop in row["steps"]}


def _figures(hop: Json | None) -> Json:
    return {} if hop is None else {name: hop.get(name) for name in FIGURES}


def _content(step: str, hops: dict[str, Json], side: Side) -> Json | None:
    if step not in hops:
        return None
    output = None if side.outputs is None else side.outputs.get(step)
    told = {"notes": list(hops[step]["notes"]), "output": output}
    return {name: value for name, value in told.items() if value}


def _end(row: Json) -> Json:
    told = {"state": row["state"], "held": row.get("held"), "failure": row.get("failure"), "result": row.get("result")}
    return {name: value for name, value in told.items() if value is not None}


def lines_of(value: Any, name: str = "", depth: int = 0) -> Iterator[str]:
    """A value in lines, so that one that changed stands alone."""
    indent = "  " * depth
    label = f"{name} " if name == "-" else f"{name}: " if name else ""
    if isinstance(value, dict | list) and value:
        if name:
            yield f"{indent}{label.strip()}"
        members = value.items() if isinstance(value, dict) else (("-", one) for one in value)
        for key, member in members:
            yield from lines_of(member, str(key), depth + bool(name))
    elif isinstance(value, str) and len(parts := value.splitlines()) > 1:
        yield f"{indent}{label.strip()}"
        yield from (f"{indent}  {part}" for part in parts)
    elif value is not None:
        yield f"{indent}{label}{value}"


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list) and value:
        members = value.items() if isinstance(value, dict) else enumerate(value)
        for key, member in members:
            yield from _leaves(member, f"{path}/{key}")
    elif value is not None:
        yield path, value
