"""The step that makes a task's texts plain and tells their language and words."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from callstream.agents.lookalikes import Alike, lookalikes
from callstream.agents.prepare.dictionary import NO_WORDS, Dictionary
from callstream.agents.prepare.language import (
    LANGUAGES,
    Convert,
    Detect,
    Segment,
    Variant,
    demand,
    is_chinese,
    load_converter,
    load_detector,
    load_segmenter,
    words_of,
)
from callstream.agents.prepare.length import Limit
from callstream.agents.prepare.text import plain
from callstream.agents.tools import Tools
from callstream.streams.chain import Cell, Step
from callstream.streams.event import Event, Failure, Json
from callstream.streams.outcome import Bury, Forward, Outcome

TITLE_CHARACTERS = 200
DESCRIPTION_CHARACTERS = 4000
MOST_NOTES = 32


@dataclass(frozen=True, slots=True)
class _Loaded:
    detect: Detect
    segment: Segment
    convert: Convert | None
    alike: Alike


class Normalise(Step):
    """Output: each text field in plain form, `language` (ISO 639-1 or None) and `words` (segmented, lower case).

    `fields` maps each field of the input to the most characters kept, or to a `Limit` of characters or tokens; the
    first is one line and must not be empty. `languages` are the ones told apart. A language that the input names wins
    over the one detected. `words` is a file of a chain's own words for the segmentation of Chinese, one a line
    (`word [frequency]`). `chinese` writes Chinese texts in that variant. What was changed is in the notes. Bury kinds:
    `empty-text`, `text-too-long`. Raises BadDictionary when made.
    """

    service: ClassVar[str] = "prepare"
    harmless: ClassVar[bool] = True

    def __init__(
        self,
        name: str = "normalise",
        fields: Mapping[str, int | Limit] | None = None,
        languages: Sequence[str] = LANGUAGES,
        words: Path | None = None,
        chinese: Variant | None = None,
    ) -> None:
        self.name = name
        given = fields or {"title": TITLE_CHARACTERS, "description": DESCRIPTION_CHARACTERS}
        self.fields = {field: Limit(limit) if isinstance(limit, int) else limit for field, limit in given.items()}
        self.languages = tuple(languages)
        self.dictionary = Dictionary.load(words) if words is not None else NO_WORDS
        self.chinese = chinese
        if chinese not in (None, "simplified", "traditional"):
            raise ValueError(f"step {name}: chinese is {chinese!r}; 'simplified' and 'traditional' are known")
        self._loaded: _Loaded | None = None

    def load(self) -> None:
        """Read the dictionaries. Raises MissingExtra."""
        demand("text", "lingua", "jieba", "opencc", "confusable_homoglyphs")
        self._loaded = _Loaded(
            load_detector(self.languages),
            load_segmenter(self.dictionary),
            load_converter(self.chinese) if self.chinese is not None else None,
            lookalikes(),
        )

    async def open(self, tools: Tools) -> None:
        """Read the dictionaries, if that was not done. Raises MissingExtra."""
        if self._loaded is None:
            await asyncio.to_thread(self.load)

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Never calls anything outside; buries a task whose first field is empty once made plain."""
        if self._loaded is None:
            raise RuntimeError(f"step {self.name} acts before it was opened")
        output: Json = {}
        notes: list[str] = []
        for place, (field, limit) in enumerate(self.fields.items()):
            given = event.input.get(field)
            made = plain(given if isinstance(given, str) else "", limit, place == 0, self._loaded.alike)
            if made.too_long and limit.longer == "bury":
                return self._bury(
                    "text-too-long", f"{field} is too long: at most {limit} are taken, and it would be {made.too_long}"
                )
            notes += [f"{field}: {note}" for note in made.notes]
            output[field] = self._written(field, made.text, self._loaded.convert, notes)
        first = next(iter(self.fields))
        if not output[first]:
            because = f" ({'; '.join(notes)})" if notes else ""
            return self._bury("empty-text", f"{first} holds no visible text{because}")
        text = "\n".join(output.values())
        detected = self._loaded.detect(text)
        asked = event.input.get("language")
        if asked and detected and asked != detected:
            notes.append(f"language: {asked} as asked, though the text looks like {detected}")
        output["language"] = asked or detected
        output["detected"] = detected
        output["words"] = words_of(text, self._loaded.segment)
        return Forward(output, notes=tuple(notes[:MOST_NOTES]))

    def _written(self, field: str, text: str, convert: Convert | None, notes: list[str]) -> str:
        """The text in the variant of Chinese that is asked for."""
        if convert is None or not is_chinese(text):
            return text
        converted = convert(text)
        if converted != text:
            changed = sum(before != after for before, after in zip(text, converted, strict=False))
            notes.append(f"{field}: Chinese written as {self.chinese}, {changed} characters changed")
        return converted

    def _bury(self, kind: str, message: str) -> Bury:
        return Bury(Failure(kind=kind, message=message[:1000], step=self.name))
