"""The templates of a folder, and which of them a task gets: by the first rule that holds, else the closest one.

    [[rules]]                                    # rules.toml, beside the templates
    when = "category == 'shoe' && input.season == 'winter'"
    template = "wear-winter"

Of a template's tasks, those that stand `instead_of` it get their shares, by a hash of the task's id.
"""

import tomllib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, ValidationError

from callstream.agents.prepare.template import SUFFIX, BadTemplate, Prompt, TemplateName, read
from callstream.streams.event import Json, Strict
from callstream.streams.expressions import BadExpression, Expression, Limits
from callstream.streams.findings import describe
from callstream.streams.routes import VARIABLES as OF_EVENTS
from callstream.streams.routes import percent_of

RULES = "rules.toml"
MOST_TEMPLATES = 500
MOST_RULES = 100
MOST_RULES_BYTES = 256 * 1024
MOST_SHOWN = 80
LIMITS = Limits(characters=1_000, loops=2)
VARIABLES = OF_EVENTS | {"category", "language"}


class RuleFailed(ValueError):
    """A rule could not be evaluated for a task; the message says which and why."""


class _Row(Strict):
    when: Annotated[str, StringConstraints(min_length=1)]
    template: TemplateName


class _Rows(Strict):
    rules: Annotated[tuple[_Row, ...], Field(max_length=MOST_RULES)] = ()


@dataclass(frozen=True, slots=True)
class PromptRule:
    """The template of the tasks of which a CEL expression is true."""

    when: Expression
    template: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a template is chosen by. `seen` is what rules see of the task, `key` what shares go by."""

    category: str | None
    language: str
    seen: Json
    key: bytes


@dataclass(frozen=True, slots=True)
class Choice:
    """The template of a task, and how it came to it."""

    prompt: Prompt
    how: str


class Prompts:
    """The templates of a folder and its rules. Raises BadTemplate for unknown names, and for shares over 100 %."""

    def __init__(self, prompts: Iterable[Prompt], rules: Iterable[PromptRule] = ()) -> None:
        self._prompts = {prompt.name: prompt for prompt in sorted(prompts, key=lambda prompt: prompt.name)}
        self.rules = tuple(rules)
        for number, rule in enumerate(self.rules, start=1):
            if rule.template not in self._prompts:
                raise BadTemplate(f"{RULES}: rule {number}: no template is called {rule.template!r}; {self._known()}")
        for prompt in self:
            self._check(prompt)
        shares = Counter[str]()
        for prompt in self:
            shares[prompt.front.instead_of or ""] += round((prompt.front.share or 0) * 1000)
        if over := [name for name, share in shares.items() if share > 100_000]:
            raise BadTemplate(f"{over[0]}: those instead of it have {shares[over[0]] / 1000:g} % of its tasks together")

    def __len__(self) -> int:
        return len(self._prompts)

    def __iter__(self) -> Iterator[Prompt]:
        return iter(self._prompts.values())

    @classmethod
    def load(cls, folder: Path) -> "Prompts":
        """Read every `*.prompt` of a folder, and `rules.toml` if it is there. Raises BadTemplate with all problems."""
        files = sorted(folder.glob(f"*{SUFFIX}"))
        if not files:
            raise BadTemplate(f"{folder}: no template (*{SUFFIX}) in it")
        if len(files) > MOST_TEMPLATES:
            raise BadTemplate(f"{folder}: {len(files)} templates; at most {MOST_TEMPLATES} are read")
        prompts, problems = [], []
        for file in files:
            try:
                prompts.append(read(file))
            except BadTemplate as error:
                problems.append(str(error))
        if problems:
            raise BadTemplate("\n".join(problems))
        return cls(prompts, read_rules(folder / RULES))

    def choose(self, wanted: Wanted) -> Choice | None:
        """The template of a task. Raises RuleFailed."""
        for number, rule in enumerate(self.rules, start=1):
            name = f"rule {number} ({rule.when.text[:MOST_SHOWN]})"
            try:
                holds = rule.when.holds(wanted.seen | {"category": wanted.category or "", "language": wanted.language})
            except BadExpression as error:
                raise RuleFailed(f"{RULES}: {name}: {error}") from None
            if holds:
                return self._drawn(self._prompts[rule.template], wanted.key, f"by {name}")
        found = self.closest(wanted.category, wanted.language)
        return None if found is None else self._drawn(found, wanted.key, "")

    def closest(self, category: str | None, language: str) -> Prompt | None:
        """The fitting template: one for the category before a general one, then one for the language; then by name."""
        fitting = [prompt for prompt in self if prompt.fits(category, language)]
        return max(
            fitting, key=lambda prompt: (bool(prompt.front.categories), bool(prompt.front.languages)), default=None
        )

    def require(self, names: Collection[str]) -> None:
        """Check that no template uses another variable than these. Raises BadTemplate."""
        for prompt in self:
            if unknown := sorted(prompt.names - set(names)):
                raise BadTemplate(f"{prompt.name}: {unknown[0]!r} is not known; known are: {', '.join(sorted(names))}")

    def _check(self, prompt: Prompt) -> None:
        name, of = prompt.name, prompt.front.instead_of
        if of is not None and (of not in self._prompts or self._prompts[of].front.instead_of is not None):
            why = "stands instead of another itself" if of in self._prompts else f"is none; {self._known()}"
            raise BadTemplate(f"{name}: instead_of {of!r}, which {why}")
        if prompt.front.only_by_rule and name not in {rule.template for rule in self.rules}:
            raise BadTemplate(f"{name}: only_by_rule, and no rule of {RULES} names it")

    def _drawn(self, prompt: Prompt, key: bytes, how: str) -> Choice:
        """The template itself or the one that stands for it: a larger share keeps the tasks that a smaller one had."""
        place = percent_of(f"prompt/{prompt.name}", key)
        for other in self:
            if other.front.instead_of != prompt.name:
                continue
            share = other.front.share or 0.0
            if place < share:
                told = f"with {share:g} % of the tasks of {prompt.name}"
                return Choice(other, f"{how}, {told}" if how else told)
            place -= share
        return Choice(prompt, how)

    def _known(self) -> str:
        return f"known are: {', '.join(list(self._prompts)[:20])}"


def read_rules(file: Path) -> tuple[PromptRule, ...]:
    """The rules of a file, none if it is not there. Raises BadTemplate."""
    if not file.exists():
        return ()
    try:
        raw = file.read_bytes()
        if len(raw) > MOST_RULES_BYTES:
            raise BadTemplate(f"{file}: {len(raw):,} bytes; at most {MOST_RULES_BYTES:,} are read")
        rows = _Rows.model_validate(tomllib.loads(raw.decode("utf-8"))).rules
    except ValidationError as error:
        raise BadTemplate(f"{file}: {describe(error)}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadTemplate(f"{file}: {error}") from None
    rules = []
    for number, row in enumerate(rows, start=1):
        try:
            rules.append(PromptRule(Expression(row.when, VARIABLES, LIMITS), row.template))
        except BadExpression as error:
            raise BadTemplate(f"{file}: rule {number} ({row.when[:MOST_SHOWN]}): {error}") from None
    return tuple(rules)
