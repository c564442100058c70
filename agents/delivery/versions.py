"""What is kept of one key so that an older write never replaces a newer one, and a write can be taken back: pure.

A key's *versions* are the writes that may stand there again: the newest of them stands. A write that is taken back goes
from among them, in any order, and the newest that is left stands.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from callstream.streams.event import Json

MOST_KEPT = 20
"""Versions of one key: a write that was followed by so many others cannot be taken back any more."""


@dataclass(frozen=True, slots=True)
class Version:
    """One write: of two, the one with the greater `order` is newer. `keeps`: it may be taken back."""

    order: str
    task: str
    step: str
    keeps: bool
    value: Json


Versions = tuple[Version, ...]
"""Oldest first."""


def put(versions: Versions, new: Version) -> Versions:
    """With one more write; again, or late, it changes nothing that is newer."""
    mine = next((one for one in versions if (one.task, one.step) == (new.task, new.step)), None)
    if mine is not None and mine.order >= new.order:
        return versions
    others = [one for one in versions if one is not mine]
    ordered = sorted((*others, new), key=lambda one: one.order)
    # Nothing that is older than a write which stays can ever stand again.
    last = max((place for place, one in enumerate(ordered) if not one.keeps), default=0)
    return tuple(ordered[last:][-MOST_KEPT:])


def without(versions: Versions, task: str, step: str) -> Versions:
    """Without what a step of a task wrote, unless that stays."""
    return tuple(one for one in versions if (one.task, one.step) != (task, step) or not one.keeps)


def standing(versions: Versions) -> Version | None:
    """The version that stands; None: nothing does."""
    return versions[-1] if versions else None


def wrote(versions: Versions, task: str, step: str) -> bool:
    """Whether a step's write is among them: its receipt, as long as it may stand again."""
    return any((one.task, one.step) == (task, step) for one in versions)


def dumped(versions: Versions) -> list[Json]:
    """As JSON."""
    return [
        {"order": one.order, "task": one.task, "step": one.step, "keeps": one.keeps, "value": one.value}
        for one in versions
    ]


def loaded(rows: Iterable[Json]) -> Versions:
    """What `dumped` gave."""
    return tuple(Version(one["order"], one["task"], one["step"], one["keeps"], one["value"]) for one in rows)
