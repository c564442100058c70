"""The tests of a rules file: texts with the verdict that each must get, in a file beside it. Pure but for reading it.

[[cases]]
text = "国家级品质"
verdict = "reject"
rules = ["cn-ad-law-named"]
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from callstream.agents.moderation.judge import Judge
from callstream.agents.moderation.matcher import Judgement
from callstream.agents.moderation.rules import Decision, read_model
from callstream.streams.event import Strict
from callstream.streams.keys import Name

MOST_QUOTED = 40


class Case(Strict):
    """A text and its verdict. If `rules` are given, these and no others must have found something."""

    text: Annotated[str, StringConstraints(max_length=20_000)]
    verdict: Decision
    rules: tuple[Name, ...] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Case":
        if self.verdict is Decision.PASS and self.rules:
            raise ValueError("a text that passes is found by no rule: leave rules out")
        return self


class Cases(Strict):
    """One file of them."""

    cases: Annotated[tuple[Case, ...], Field(min_length=1, max_length=10_000)]


@dataclass(frozen=True, slots=True)
class Miss:
    """A case, by its number from 1, that came out otherwise."""

    number: int
    case: Case
    judgement: Judgement

    def __str__(self) -> str:
        expected = _told(self.case.verdict, self.case.rules or ())
        got = _told(self.judgement.decision, _found_by(self.judgement) if self.case.rules is not None else ())
        return f"case {self.number} {self.case.text[:MOST_QUOTED]!r}: expected {expected}, got {got}"


@dataclass(frozen=True, slots=True)
class Run:
    """What came of all cases: the misses, and the rules that found nothing in any of them."""

    misses: tuple[Miss, ...]
    idle: tuple[str, ...]


def tried(judge: Judge, cases: Cases) -> Run:
    """Judge every case."""
    misses: list[Miss] = []
    met: set[str] = set()
    for number, case in enumerate(cases.cases, 1):
        judgement = judge.judge({"text": case.text})
        rules = _found_by(judgement)
        met.update(rules)
        if judgement.decision is not case.verdict or (case.rules is not None and set(case.rules) != set(rules)):
            misses.append(Miss(number, case, judgement))
    return Run(tuple(misses), tuple(rule.id for rule in judge.rules.rules if rule.id not in met))


def cases_beside(rules: Path) -> Path:
    """Where the cases of a rules file are: `mine.cases.toml` beside `mine.toml`."""
    return rules.with_suffix(".cases.toml")


def load_cases(path: Path) -> Cases:
    """The cases of a file. Raises BadRules."""
    return read_model(path, Cases)


def _found_by(judgement: Judgement) -> tuple[str, ...]:
    return tuple(dict.fromkeys(finding.rule for finding in judgement.findings))


def _told(verdict: Decision, rules: Iterable[str]) -> str:
    named = ", ".join(rules)
    return f"{verdict} by {named}" if named else str(verdict)
