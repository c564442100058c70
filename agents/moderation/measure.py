"""How well rules tell texts apart, by a labelled set: precision, recall, and every text that came out otherwise. Pure.

[[texts]]
text = "国家级品质"
verdict = "flag"
category = "superlative"
evasion = "spacing"
language = "zh"
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from callstream.agents.moderation.judge import Judge
from callstream.agents.moderation.matcher import Judgement
from callstream.agents.moderation.rules import Decision, read_model
from callstream.streams.event import Strict
from callstream.streams.keys import Name

Label = Annotated[str, StringConstraints(min_length=1, max_length=40)]


class Verdict(StrEnum):
    """What a careful person would do with a text: let it pass, or not as it is."""

    PASS = "pass"
    FLAG = "flag"


class Labelled(Strict):
    """A text as a person judged it: the category of what is wrong with it, and how that was disguised."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=20_000)]
    verdict: Verdict
    category: Name | None = None
    evasion: Label | None = None
    language: Label | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Labelled":
        if (self.category is None) != (self.verdict is Verdict.PASS):
            raise ValueError("a text that is flagged has a category, and one that passes has none")
        return self


class LabelledSet(Strict):
    """One file of them."""

    texts: Annotated[tuple[Labelled, ...], Field(min_length=1, max_length=100_000)]


@dataclass(frozen=True, slots=True)
class Told:
    """A text and what the rules said about it."""

    number: int
    labelled: Labelled
    judgement: Judgement

    @property
    def flagged(self) -> bool:
        """Whether the rules found anything."""
        return self.judgement.decision is not Decision.PASS

    @property
    def right(self) -> bool:
        """Whether a person would say so too."""
        return self.flagged == (self.labelled.verdict is Verdict.FLAG)


@dataclass(frozen=True, slots=True)
class Score:
    """Of some texts: how many should be flagged, how many of these were, and how many were that should pass."""

    wanted: int
    found: int
    wrong: int

    @property
    def recall(self) -> float | None:
        """The share of those that should be flagged that were; None if there are none."""
        return self.found / self.wanted if self.wanted else None

    @property
    def precision(self) -> float | None:
        """The share of those that were flagged that should be; None if there are none."""
        flagged = self.found + self.wrong
        return self.found / flagged if flagged else None


def judged(judge: Judge, texts: LabelledSet) -> list[Told]:
    """What the rules say about each text, numbered from 1."""
    return [Told(number, one, judge.judge({"text": one.text})) for number, one in enumerate(texts.texts, 1)]


def score(told: Iterable[Told]) -> Score:
    """The counts of some texts."""
    wanted = found = wrong = 0
    for one in told:
        flag = one.labelled.verdict is Verdict.FLAG
        wanted += flag
        found += flag and one.flagged
        wrong += one.flagged and not flag
    return Score(wanted, found, wrong)


def by(told: Iterable[Told], label: Callable[[Labelled], str | None]) -> dict[str, Score]:
    """The counts by a label, in its order; texts without it are left out."""
    groups: dict[str, list[Told]] = {}
    for one in told:
        if (name := label(one.labelled)) is not None:
            groups.setdefault(name, []).append(one)
    return {name: score(groups[name]) for name in sorted(groups)}


def load_labelled(path: Path) -> LabelledSet:
    """The texts of a `.toml` or `.json` file. Raises BadRules."""
    return read_model(path, LabelledSet)
