"""Texts of a task that moderation is about, by name: a step and a member of its output, or `input` and one. Pure."""

from collections.abc import Iterator, Sequence

from callstream.streams.event import Event

INPUT = "input"
"""The first part of the name of a text that the caller handed in; else it is a step's."""
COPY_PARTS = ("copy.text", "input.title", "input.description")


def check_parts(step: str, parts: Sequence[str]) -> None:
    """Raises ValueError for names that are none."""
    if wrong := [part for part in parts if len(part.split(".")) != 2 or not all(part.split("."))]:
        raise ValueError(f"step {step}: {wrong[0]!r} is no part: a step's name or input, a dot, and a member")


def texts_of(event: Event, parts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The texts of those names; what is not there, or is no text or empty, is left out."""
    for part in parts:
        step, member = part.split(".")
        text = (event.input if step == INPUT else event.body.outputs.get(step, {})).get(member)
        if isinstance(text, str) and text:
            yield part, text
