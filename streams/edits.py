"""Texts of outputs that are put in the place of others, by step and member. Pure."""

from collections.abc import Mapping

from callstream.streams.event import Json


def edited(outputs: Mapping[str, Json], edits: Mapping[str, Mapping[str, str]]) -> dict[str, Json]:
    """The outputs with those texts.

    >>> edited({"copy": {"text": "An idiot.", "tokens": 3}}, {"copy": {"text": "A mug."}})
    {'copy': {'text': 'A mug.', 'tokens': 3}}
    """
    return {**outputs, **{step: {**outputs.get(step, {}), **texts} for step, texts in edits.items()}}
