"""Prompt templates: one file each, a TOML front matter and one section for each message, rendered in a sandbox.

    +++
    version = "2"
    categories = ["shoes"]      # empty or absent: any
    languages = ["de"]          # empty or absent: any
    parameters = { temperature = 0.7, max_tokens = 300 }
    +++
    [system]
    You write catalogue copy in {{ language }}.
    [user]
    Write at most {{ most_words }} words about this product.
    {{ product }}

Sections are told apart before anything is rendered, so text that a template inserts cannot open one.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from jinja2 import Template, TemplateSyntaxError
from pydantic import Field, JsonValue, StringConstraints, ValidationError, field_validator, model_validator

from callstream.agents.inference.schema import BadSchema, Schema
from callstream.agents.prepare.sandbox import compiled, rendered
from callstream.streams.event import Json, Strict
from callstream.streams.findings import describe
from callstream.streams.foreseen import Foreseen

SUFFIX = ".prompt"
MOST_FILE_BYTES = 64 * 1024
MOST_SECTIONS = 32
REQUIRED = "product"
"""The variable that every last user message must use: the block that carries the product's own text."""

OURS = frozenset({"messages", "model", "stream", "n", "response_format"})
"""Members of a request that are not a template's business."""

_FRONT = re.compile(r"\A\+\+\+[ \t]*\n(.*?)^\+\+\+[ \t]*\n", re.DOTALL | re.MULTILINE)
_SECTION = re.compile(r"^\[(system|user|assistant)\][ \t]*\n", re.MULTILINE)
_USES_PRODUCT = re.compile(r"^\{\{ *product *\}\}$", re.MULTILINE)

Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}$")]
TemplateName = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class BadTemplate(Foreseen, ValueError):
    """What is wrong with a template file: the file, the line where known, and why."""


class Front(Strict):
    """The front matter of a template file.

    A template `instead_of` another gets `share` per cent of that one's tasks, and no others. One that is `only_by_rule`
    is taken where a rule names it. `answer` is the JSON schema of the answer.
    """

    version: Annotated[str, StringConstraints(min_length=1, max_length=40)]
    categories: tuple[str, ...] = ()
    languages: tuple[Language, ...] = ()
    parameters: Annotated[dict[str, JsonValue], Field(max_length=20, default_factory=dict)]
    answer: Json | None = None
    only_by_rule: bool = False
    instead_of: TemplateName | None = None
    share: Annotated[float, Field(ge=0, le=100)] | None = None

    @field_validator("parameters")
    @classmethod
    def _leave_the_rest(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if ours := sorted(OURS & set(value)):
            raise ValueError(f"{', '.join(ours)} cannot be set by a template")
        return value

    @field_validator("answer")
    @classmethod
    def _is_a_schema(cls, value: Json | None) -> Json | None:
        if value is not None:
            try:
                Schema(value)
            except BadSchema as error:
                raise ValueError(str(error)) from None
        return value

    @model_validator(mode="after")
    def _stands_for_one(self) -> "Front":
        if (self.instead_of is None) != (self.share is None):
            raise ValueError("instead_of and share stand together: whose tasks, and how many per cent of them")
        if self.instead_of is not None and (self.categories or self.languages or self.only_by_rule):
            raise ValueError("a template instead of another is for what that one is for: leave out what it is for")
        return self


@dataclass(frozen=True, slots=True)
class Section:
    """One message's role and its compiled template."""

    role: Literal["system", "user", "assistant"]
    template: Template


@dataclass(frozen=True, slots=True)
class Prompt:
    """One template file; `names` are the variables that it uses."""

    name: str
    front: Front
    sections: tuple[Section, ...]
    names: frozenset[str] = frozenset()

    def fits(self, category: str | None, language: str) -> bool:
        """Whether it is made for that kind of product and language, and taken without a rule."""
        front = self.front
        if front.only_by_rule or front.instead_of is not None:
            return False
        return (not front.categories or category in front.categories) and (
            not front.languages or language in front.languages
        )

    def render(self, variables: Mapping[str, Any]) -> list[dict[str, str]]:
        """The messages. Raises CannotRender."""
        return [
            {
                "role": section.role,
                "content": rendered(section.template, variables, f"template {self.name}, {section.role} message"),
            }
            for section in self.sections
        ]


def parse(name: str, source: str) -> Prompt:
    """A template file's text as a Prompt. Raises BadTemplate."""
    front = _FRONT.match(source)
    if front is None:
        raise BadTemplate(f"{name}: must begin with a front matter between two lines '+++'")
    try:
        header = Front.model_validate(tomllib.loads(front[1]))
    except tomllib.TOMLDecodeError as error:
        raise BadTemplate(f"{name}: front matter: {error}") from None
    except ValidationError as error:
        raise BadTemplate(f"{name}: front matter: {describe(error)}") from None
    first_line = source[: front.end()].count("\n")
    parts = _SECTION.split(source[front.end() :])
    if parts[0].strip():
        raise BadTemplate(
            f"{name}: line {first_line + 1}: text before the first section; begin with [system] or [user]"
        )
    roles, bodies = parts[1::2], parts[2::2]
    if not roles or roles[-1] != "user":
        raise BadTemplate(f"{name}: the last section must be [user]")
    if len(roles) > MOST_SECTIONS:
        raise BadTemplate(f"{name}: {len(roles)} sections; at most {MOST_SECTIONS} are taken")
    if not _USES_PRODUCT.search(bodies[-1]):
        raise BadTemplate(f"{name}: the last [user] section must hold {{{{ {REQUIRED} }}}} on a line of its own")
    made = [_section(name, role, body) for role, body in zip(roles, bodies, strict=True)]
    if any(REQUIRED in names for _, names in made[:-1]):
        raise BadTemplate(f"{name}: only the last [user] section may use {REQUIRED}: its text is not to be obeyed")
    return Prompt(name, header, tuple(one for one, _ in made), frozenset().union(*(names for _, names in made)))


def read(file: Path) -> Prompt:
    """A template file. Raises BadTemplate."""
    try:
        raw = file.read_bytes()
        if len(raw) > MOST_FILE_BYTES:
            raise BadTemplate(f"{file}: {len(raw):,} bytes; at most {MOST_FILE_BYTES:,} are read")
        return parse(file.stem, raw.decode("utf-8").replace("\r\n", "\n"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadTemplate(f"{file}: {error}") from None


def _section(name: str, role: Any, body: str) -> tuple[Section, frozenset[str]]:
    try:
        template, names = compiled(body)
    except TemplateSyntaxError as error:
        raise BadTemplate(f"{name}: [{role}] section, line {error.lineno}: {error.message}") from None
    return Section(role, template), names
