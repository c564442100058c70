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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, UndefinedError, meta
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import Field, JsonValue, StringConstraints, ValidationError, field_validator

from callstream.streams.chain import describe
from callstream.streams.event import Strict

SUFFIX = ".prompt"
MOST_FILE_BYTES = 64 * 1024
MOST_MESSAGE_CHARACTERS = 32_000
MOST_TEMPLATES = 500
REQUIRED = "product"
"""The variable that every last user message must use: the block that carries the product's own text."""

OURS = frozenset({"messages", "model", "stream", "n"})
"""Members of a request that are not a template's business."""

_FRONT = re.compile(r"\A\+\+\+[ \t]*\n(.*?)^\+\+\+[ \t]*\n", re.DOTALL | re.MULTILINE)
_SECTION = re.compile(r"^\[(system|user|assistant)\][ \t]*\n", re.MULTILINE)
_USES_PRODUCT = re.compile(r"^\{\{ *product *\}\}$", re.MULTILINE)


class BadTemplate(ValueError):
    """What is wrong with a template file: the file, the line where known, and why."""


class CannotRender(ValueError):
    """Why a template gave no prompt; names the variable that is missing."""


class Front(Strict):
    """The front matter of a template file."""

    version: Annotated[str, StringConstraints(min_length=1, max_length=40)]
    categories: tuple[str, ...] = ()
    languages: tuple[Annotated[str, StringConstraints(pattern=r"^[a-z]{2}$")], ...] = ()
    parameters: Annotated[dict[str, JsonValue], Field(max_length=20, default_factory=dict)]

    @field_validator("parameters")
    @classmethod
    def _leave_the_rest(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if ours := sorted(OURS & set(value)):
            raise ValueError(f"{', '.join(ours)} cannot be set by a template")
        return value


@dataclass(frozen=True, slots=True)
class Section:
    """One message's role and its compiled template."""

    role: Literal["system", "user", "assistant"]
    template: Template


@dataclass(frozen=True, slots=True)
class Prompt:
    """One template file."""

    name: str
    front: Front
    sections: tuple[Section, ...]

    def fits(self, category: str | None, language: str) -> bool:
        """Whether it is made for that kind of product and language."""
        return (not self.front.categories or category in self.front.categories) and (
            not self.front.languages or language in self.front.languages
        )

    def render(self, variables: Mapping[str, Any]) -> list[dict[str, str]]:
        """The messages. Raises CannotRender."""
        return [{"role": section.role, "content": self._text(section, variables)} for section in self.sections]

    def _text(self, section: Section, variables: Mapping[str, Any]) -> str:
        where = f"template {self.name}, {section.role} message"
        pieces, length = [], 0
        try:
            for piece in section.template.generate(variables):
                length += len(piece)
                if length > MOST_MESSAGE_CHARACTERS:
                    raise CannotRender(f"{where}: longer than {MOST_MESSAGE_CHARACTERS:,} characters")
                pieces.append(piece)
        except UndefinedError as error:
            raise CannotRender(f"{where}: {error.message}") from None
        except (SecurityError, ArithmeticError, TypeError, ValueError, OverflowError, LookupError) as error:
            if isinstance(error, CannotRender):
                raise
            raise CannotRender(f"{where}: {str(error)[:200]}") from None
        return "".join(pieces).strip()


class Prompts:
    """The templates of a folder; `choose` takes the one made most closely for a product."""

    def __init__(self, prompts: Iterable[Prompt]) -> None:
        self._prompts = tuple(prompts)

    def __len__(self) -> int:
        return len(self._prompts)

    @classmethod
    def load(cls, folder: Path) -> "Prompts":
        """Read every `*.prompt` of a folder, by name. Raises BadTemplate naming file and reason."""
        files = sorted(folder.glob(f"*{SUFFIX}"))
        if not files:
            raise BadTemplate(f"{folder}: no template (*{SUFFIX}) in it")
        if len(files) > MOST_TEMPLATES:
            raise BadTemplate(f"{folder}: {len(files)} templates; at most {MOST_TEMPLATES} are read")
        return cls(_read(file) for file in files)

    def choose(self, category: str | None, language: str) -> Prompt | None:
        """The fitting template: one for the category before a general one, then one for the language; then by name."""
        fitting = [prompt for prompt in self._prompts if prompt.fits(category, language)]
        return max(
            fitting, key=lambda prompt: (bool(prompt.front.categories), bool(prompt.front.languages)), default=None
        )


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
    if not _USES_PRODUCT.search(bodies[-1]):
        raise BadTemplate(f"{name}: the last [user] section must hold {{{{ {REQUIRED} }}}} on a line of its own")
    sections = tuple(_section(name, role, body) for role, body in zip(roles, bodies, strict=True))
    if any(REQUIRED in meta.find_undeclared_variables(_ENVIRONMENT.parse(body)) for body in bodies[:-1]):
        raise BadTemplate(f"{name}: only the last [user] section may use {REQUIRED}: its text is not to be obeyed")
    return Prompt(name, header, sections)


def _section(name: str, role: Any, body: str) -> Section:
    try:
        return Section(role, _ENVIRONMENT.from_string(body))
    except TemplateSyntaxError as error:
        raise BadTemplate(f"{name}: [{role}] section, line {error.lineno}: {error.message}") from None


def _read(file: Path) -> Prompt:
    try:
        raw = file.read_bytes()
        if len(raw) > MOST_FILE_BYTES:
            raise BadTemplate(f"{file}: {len(raw):,} bytes; at most {MOST_FILE_BYTES:,} are read")
        return parse(file.stem, raw.decode("utf-8").replace("\r\n", "\n"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadTemplate(f"{file}: {error}") from None


_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
