"""A pseudo-translation: known phrases replaced, a mark in front. Pure but for a table read once."""

import re
from collections.abc import Mapping
from functools import lru_cache

from callstream.stub.phrases import translations


def translate(text: str, language: str, terms: Mapping[str, str] | None = None) -> str:
    """The text with every known English phrase put into the language, marked `[de] …`.

    `terms` are translations that were demanded, by the term in lower case; they come before the known ones.
    """
    table = {**translations().get(language, {}), **(terms or {})}
    if not table:
        return f"[{language}] {text.strip()}"
    return f"[{language}] {_pattern(frozenset(table)).sub(lambda match: table[match[0].lower()], text.strip())}"


@lru_cache(maxsize=256)
def _pattern(phrases: frozenset[str]) -> re.Pattern[str]:
    longest_first = sorted(phrases, key=lambda phrase: (-len(phrase), phrase))
    return re.compile(r"\b(?:" + "|".join(map(re.escape, longest_first)) + r")\b", re.IGNORECASE)
