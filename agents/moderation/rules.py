"""What moderation looks for, as data: word lists, claims, lengths and an allow-list, from a TOML or JSON file."""

import re
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Protocol, TypeVar

import phonenumbers
import re2
from pydantic import Field, StringConstraints, ValidationError, field_validator, model_validator

from callstream.agents.moderation.normalise import view
from callstream.streams import strict_json
from callstream.streams.event import Json, Strict
from callstream.streams.expressions import Expression, Limits, NotEvaluated
from callstream.streams.findings import describe
from callstream.streams.foreseen import Foreseen
from callstream.streams.keys import Name

DEFAULT_RULES = Path(__file__).with_name("default_rules.toml")
MAX_FILE_BYTES = 32 * 1024 * 1024
NOTHING_KNOWN: Json = {"tenant": "", "chain": "", "input": {}, "outputs": {}}
"""What a policy sees of a text that belongs to no task."""
NOTHING_FOUND: Json = {**NOTHING_KNOWN, "found": 0, "findings": []}
"""And all that it sees, of a text in which nothing is found."""
VARIABLES = frozenset(NOTHING_FOUND)
LIMITS = Limits(characters=1_000, loops=2)
MAX_PATTERN_MEMORY_BYTES = 1024 * 1024

Word = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Note = Annotated[str, StringConstraints(max_length=500)]
Model = TypeVar("Model", bound=Strict)


class Pattern(Protocol):
    """A compiled pattern over UTF-8 bytes, as RE2 has it."""

    def search(self, text: bytes) -> re.Match[bytes] | None:
        """The first match."""

    def finditer(self, text: bytes) -> Iterator[re.Match[bytes]]:
        """Every match that does not overlap an earlier one."""


class BadRules(Foreseen, ValueError):
    """What is wrong with a rules file: which file, where in it, what is allowed."""


class Action(StrEnum):
    """What a finding leads to: it is made unreadable, the text is written anew, a person decides, or the task ends."""

    MASK = "mask"
    REGENERATE = "regenerate"
    HOLD = "hold"
    REJECT = "reject"


class Decision(StrEnum):
    """What moderation decides about texts, the gravest last."""

    PASS = "pass"
    MASK = "mask"
    REGENERATE = "regenerate"
    HOLD = "hold"
    REJECT = "reject"

    def gravity(self) -> int:
        """How grave it is beside the others."""
        return list(Decision).index(self)


class Severity(StrEnum):
    """How grave a finding is, for those who read it; the action alone decides what happens."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Rule(Strict):
    """What every rule has. `source` and `licence` say where its data comes from and under which terms."""

    id: Name
    category: Name
    action: Action
    severity: Severity = Severity.MEDIUM
    why: Note = ""
    source: Note = ""
    licence: Note = ""


class WordList(Rule):
    """Words and phrases, found whatever their case, width, variant or spacing; Latin words only as whole words."""

    words: Annotated[tuple[Word, ...], Field(min_length=1, max_length=200_000)]

    @field_validator("words")
    @classmethod
    def _visible(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        if empty := [word for word in words if not view(word).text.strip()]:
            raise ValueError(f"{empty[0]!r} holds nothing that can be found")
        return words


class Claim(Rule):
    """A forbidden claim as an RE2 pattern (linear in time; no look-around, no back-references).

    It is matched on the folded text: lower case, single spaces, no hyphens, nothing between Chinese characters.
    """

    pattern: Annotated[str, StringConstraints(min_length=1, max_length=4000)]

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            compiled = compile_pattern(pattern)
        except re2.error as error:
            detail = error.args[0] if error.args else ""
            text = detail.decode(errors="replace") if isinstance(detail, bytes) else str(detail)
            raise ValueError(f"not an RE2 pattern: {text}") from None
        if compiled.search(b""):
            raise ValueError("the pattern matches nothing at all, so it would match everywhere")
        return pattern


class PersonalKind(StrEnum):
    """Personal data that can be told from other text by a checksum, a numbering plan or its form."""

    PHONE = "phone"
    EMAIL = "email"
    CARD = "card"
    RESIDENT_ID = "resident-id"


class Personal(Rule):
    """Personal data of some kinds. A number without its country's prefix is tried in each of the `regions`.

    A number right after one of the words `not_after` is that of an article, an order or a book, and nobody's.
    """

    kinds: Annotated[tuple[PersonalKind, ...], Field(min_length=1, max_length=8)] = tuple(PersonalKind)
    regions: Annotated[tuple[str, ...], Field(max_length=8)] = ("CN",)
    not_after: Annotated[tuple[Word, ...], Field(max_length=200)] = ()

    @field_validator("regions")
    @classmethod
    def _known(cls, regions: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [region for region in regions if region not in phonenumbers.SUPPORTED_REGIONS]:
            raise ValueError(f"{unknown[0]!r} is no region of ISO 3166 that has telephone numbers, such as CN")
        return regions


class Policy(Strict):
    """A verdict for texts of which a CEL expression is true, whatever the actions of the findings are.

    It sees `findings` (each with `rule`, `category`, `action`, `severity`, `part`, `text`), how many were `found`, and
    of the task `tenant`, `chain`, `input` and `outputs`.
    """

    id: Name
    when: Annotated[str, StringConstraints(min_length=1, max_length=LIMITS.characters)]
    verdict: Decision
    why: Note = ""

    @field_validator("when")
    @classmethod
    def _evaluates(cls, when: str) -> str:
        test = Expression(when, VARIABLES, LIMITS)
        with suppress(NotEvaluated):
            test.holds(NOTHING_FOUND)
        return when


class LengthRule(Strict):
    """How many characters (code points, white space at the ends not counted) a text may have."""

    fewest_characters: Annotated[int, Field(ge=0, le=200_000)] = 1
    most_characters: Annotated[int, Field(ge=1, le=200_000)] = 20_000
    action: Action = Action.REJECT

    @model_validator(mode="after")
    def _ordered(self) -> "LengthRule":
        if self.fewest_characters > self.most_characters:
            raise ValueError(f"fewest_characters {self.fewest_characters} is above most_characters")
        return self


class ModerationRules(Strict):
    """One rules file. What lies within a phrase of `allow` is not found."""

    version: Annotated[int, Field(ge=1)] = 1
    about: Note = ""
    length: LengthRule = LengthRule()
    words: Annotated[tuple[WordList, ...], Field(max_length=200)] = ()
    claims: Annotated[tuple[Claim, ...], Field(max_length=500)] = ()
    personal: Annotated[tuple[Personal, ...], Field(max_length=20)] = ()
    policies: Annotated[tuple[Policy, ...], Field(max_length=100)] = ()
    allow: Annotated[tuple[Word, ...], Field(max_length=50_000)] = ()

    @model_validator(mode="after")
    def _distinct(self) -> "ModerationRules":
        names = [*(rule.id for rule in self.rules), *(policy.id for policy in self.policies)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two rules are called {', '.join(twice)}")
        return self

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Every rule that has an id."""
        return (*self.words, *self.claims, *self.personal)


def compile_pattern(pattern: str) -> Pattern:
    """The pattern as RE2 has it, case ignored, its memory bounded. Raises re2.error."""
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    options.max_mem = MAX_PATTERN_MEMORY_BYTES
    compiled: Pattern = re2.compile(pattern, options)
    return compiled


def matches(pattern: Pattern, raw: bytes) -> Iterator[tuple[int, int]]:
    """Where a pattern matches in a text in UTF-8, in characters."""
    bytes_read = past = 0
    for match in pattern.finditer(raw):
        first = past + len(raw[bytes_read : match.start()].decode())
        past = first + len(match.group().decode())
        bytes_read = match.end()
        yield first, past


def load_rules(path: Path) -> ModerationRules:
    """The rules of a `.toml` or `.json` file. Raises BadRules."""
    return read_model(path, ModerationRules)


def read_model(path: Path, model: type[Model]) -> Model:
    """What a `.toml` or `.json` file of rules, or of what belongs to them, says. Raises BadRules."""
    try:
        raw = path.read_bytes()
        if path.suffix == ".toml":
            parsed = tomllib.loads(raw.decode())
        elif path.suffix == ".json":
            parsed = strict_json.loads(raw, MAX_FILE_BYTES)
        else:
            raise BadRules(f"{path}: a rules file ends in .toml or .json")
        return model.model_validate(parsed)
    except ValidationError as error:
        raise BadRules(f"{path}: {describe(error)}") from None
    except OSError as error:
        raise BadRules(f"{path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, strict_json.BadJson) as error:
        raise BadRules(f"{path}: {error}") from None


@lru_cache(maxsize=1)
def default_rules() -> ModerationRules:
    """The rules that ship with callstream."""
    return load_rules(DEFAULT_RULES)
