"""A shop's own words in one TOML file: brands, categories, colours, materials. Read once, checked when read."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, ValidationError

from callstream.agents.prepare.terms import Terms
from callstream.streams.event import Strict
from callstream.streams.findings import describe

MOST_VALUES = 20_000
Word = Annotated[str, StringConstraints(min_length=1, max_length=80)]
Table = Annotated[dict[Word, Annotated[list[Word], Field(max_length=200)]], Field(max_length=MOST_VALUES)]


class BadLexicon(ValueError):
    """What is wrong with a lexicon: the file, the place in it and why."""


class Tables(Strict):
    """The tables of a lexicon file: each value with the other words that stand for it, in any language."""

    brands: Table = Field(default_factory=dict)
    categories: Table = Field(default_factory=dict)
    colours: Table = Field(default_factory=dict)
    materials: Table = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Terms by attribute; an attribute without a table finds nothing."""

    brands: Terms
    categories: Terms
    colours: Terms
    materials: Terms

    @classmethod
    def of(cls, tables: Mapping[str, object]) -> "Lexicon":
        """A lexicon of tables as a file has them. Raises ValueError saying what is wrong."""
        try:
            checked = Tables.model_validate(tables)
        except ValidationError as error:
            raise ValueError(describe(error)) from None
        return cls(
            brands=Terms(checked.brands, misread=True),
            categories=Terms(checked.categories, compounds=True),
            colours=Terms(checked.colours, compounds=True),
            materials=Terms(checked.materials),
        )

    @classmethod
    def load(cls, path: Path) -> "Lexicon":
        """Read a lexicon file. Raises BadLexicon."""
        try:
            return cls.of(tomllib.loads(path.read_text("utf-8")))
        except (OSError, ValueError) as error:
            raise BadLexicon(f"{path}: {error}") from None
