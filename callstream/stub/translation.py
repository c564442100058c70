"""A pseudo-translation: known phrases replaced, a mark in front. Pure but for a table read once."""

import re
from functools import cache

from callstream.stub.phrases import translations


def translate(text: str, language: str) -> str:
    """The text with every known English phrase put into the language, marked `[de] …`."""
    table = translations()[language]
    if not table:
        return f"[{language}] {text.strip()}"
    return f"[{language}] {_pattern(language).sub(lambda match: table[match[0].lower()], text.strip())}"


@cache
def _pattern(language: str) -> re.Pattern[str]:
    longest_first = sorted(translations()[language], key=len, reverse=True)
    return re.compile(r"\b(?:" + "|".join(map(re.escape, longest_first)) + r")\b", re.IGNORECASE)
