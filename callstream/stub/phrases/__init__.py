"""The phrases the stub writes with, one TOML file a language."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

LANGUAGES = ("en", "zh", "de", "fr")


@dataclass(frozen=True)
class Phrases:
    """The phrases of one language.

    `joint`, `last_joint` and `space` put a list and sentences together. `kinds` name a category. Templates use
    `{title}`, `{brand}`, `{colour}`, `{size}`, `{material}`, `{features}`, `{kind}`. `words` translates attribute
    values given in English.
    """

    joint: str
    last_joint: str
    space: str
    kinds: dict[str, str]
    openings: dict[str, list[str]]
    details: dict[str, list[str]]
    features: list[str]
    leftovers: dict[str, str]
    closings: dict[str, list[str]]
    words: dict[str, str]


@cache
def phrases(language: str) -> Phrases:
    """The phrases of one of LANGUAGES."""
    text = files(__name__).joinpath(f"{language}.toml").read_text(encoding="utf-8")
    return Phrases(**tomllib.loads(text))


@cache
def translations() -> dict[str, dict[str, str]]:
    """English phrases in lower case with their translation, by language."""
    text = files(__name__).joinpath("translations.toml").read_text(encoding="utf-8")
    found: dict[str, dict[str, str]] = tomllib.loads(text)
    return found


@cache
def replies() -> dict[str, dict[str, str]]:
    """What is written to customers, by language and what it is about."""
    text = files(__name__).joinpath("replies.toml").read_text(encoding="utf-8")
    found: dict[str, dict[str, str]] = tomllib.loads(text)
    return found
