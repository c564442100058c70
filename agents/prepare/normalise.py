"""The step that makes a task's texts plain and tells their language and words."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import ClassVar

from callstream.agents.prepare.language import (
    LANGUAGES,
    Detect,
    Segment,
    demand,
    load_detector,
    load_segmenter,
    words_of,
)
from callstream.agents.prepare.text import plain
from callstream.agents.tools import Tools
from callstream.streams.chain import Cell, Step
from callstream.streams.event import Event, Failure, Json
from callstream.streams.outcome import Bury, Forward, Outcome

TITLE_CHARACTERS = 200
DESCRIPTION_CHARACTERS = 4000
MOST_NOTES = 32


class Normalise(Step):
    """Output: each text field in plain form, `language` (ISO 639-1 or None) and `words` (segmented, lower case).

    `fields` maps each field of the input to the most characters kept; the first is one line and must not be empty.
    `languages` are the ones told apart. A language that the input names wins over the one detected.
    """

    service: ClassVar[str] = "prepare"
    harmless: ClassVar[bool] = True

    def __init__(
        self,
        name: str = "normalise",
        fields: Mapping[str, int] | None = None,
        languages: Sequence[str] = LANGUAGES,
    ) -> None:
        self.name = name
        self.fields = dict(fields or {"title": TITLE_CHARACTERS, "description": DESCRIPTION_CHARACTERS})
        self.languages = tuple(languages)
        self._detect: Detect | None = None
        self._segment: Segment | None = None

    async def open(self, tools: Tools) -> None:
        """Load the dictionaries. Raises MissingExtra."""
        demand("text", "lingua", "jieba")
        self._detect = load_detector(self.languages)
        self._segment = await asyncio.to_thread(load_segmenter)

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Never calls anything outside; buries a task whose first field is empty once made plain."""
        if self._detect is None or self._segment is None:
            raise RuntimeError(f"step {self.name} acts before it was opened")
        output: Json = {}
        notes = []
        for place, (field, most) in enumerate(self.fields.items()):
            given = event.input.get(field)
            made = plain(given if isinstance(given, str) else "", most, one_line=place == 0)
            output[field] = made.text
            notes += [f"{field}: {note}" for note in made.notes]
        first = next(iter(self.fields))
        if not output[first]:
            because = f" ({'; '.join(notes)})" if notes else ""
            return Bury(Failure(kind="empty-text", message=f"{first} holds no visible text{because}", step=self.name))
        text = "\n".join(output.values())
        detected = self._detect(text)
        asked = event.input.get("language")
        if asked and detected and asked != detected:
            notes.append(f"language: {asked} as asked, though the text looks like {detected}")
        output["language"] = asked or detected
        output["detected"] = detected
        output["words"] = words_of(text, self._segment)
        return Forward(output, notes=tuple(notes[:MOST_NOTES]))
