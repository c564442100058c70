"""How long a text may be, in characters and tokens, and where a longer one is cut. Pure.

Tokens are reckoned by the rates that the model calls begin with before they have learned of a model: a letter or space
takes a quarter, other ASCII a half, each byte of other scripts 0.4 (a Chinese character 1.2). That is about what models
take of English, and more than they take of Chinese.
"""

import math
import re
import unicodedata
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from callstream.agents.inference.admission.tokens import RATES, measure

LEAST_KEPT = 0.6
"""A cut goes back to the end of a sentence, or else of a word, that leaves so much of what may stay."""

MOST_LIMIT = 1_000_000

_SENTENCE = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s)|[。！？；…]+[”’」』）]*|\n")
_CHEAPEST = min(RATES[:3])


@dataclass(frozen=True, slots=True)
class Limit:
    """The most characters (code points), the most tokens, or both; a longer text is cut, or its task buried.

    Raises ValueError for a limit that is none.
    """

    characters: int | None = None
    tokens: int | None = None
    longer: Literal["cut", "bury"] = "cut"

    def __post_init__(self) -> None:
        if self.characters is None and self.tokens is None:
            raise ValueError("a limit is of characters, of tokens, or of both")
        for name, most in (("characters", self.characters), ("tokens", self.tokens)):
            if most is not None and not 1 <= most <= MOST_LIMIT:
                raise ValueError(f"limit: {name} is {most}; 1 to {MOST_LIMIT:,} are allowed")
        if self.longer not in ("cut", "bury"):
            raise ValueError(f"limit: longer is {self.longer!r}; 'cut' and 'bury' are allowed")

    def __str__(self) -> str:
        named = ((self.characters, "characters"), (self.tokens, "tokens"))
        return " and ".join(f"{most:,} {name}" for most, name in named if most is not None)

    @property
    def most(self) -> int:
        """The most characters that can be within it."""
        by_tokens = MOST_LIMIT * 10 if self.tokens is None else math.ceil(self.tokens / _CHEAPEST)
        return min(by_tokens, MOST_LIMIT * 10 if self.characters is None else self.characters)

    def room(self, text: str) -> int:
        """How many of a text's characters are within it, from its start."""
        room = min(len(text), self.most)
        if self.tokens is None or reckoned(text[:room]) <= self.tokens:
            return room
        return sum(1 for spent in accumulate(map(_cost, text[:room])) if spent <= self.tokens + 1e-9)


def reckoned(text: str) -> int:
    """About how many tokens a text takes.

    >>> reckoned("A mug for two."), reckoned("双人马克杯")
    (4, 6)
    """
    size = measure({"input": text})
    return math.ceil(sum(count * rate for count, rate in zip(size[:3], RATES[:3], strict=True)) - 1e-9)


def shorten(text: str, room: int) -> tuple[str, str]:
    """At most that many characters of a text, cut where it hurts least; and where that was, in words for people."""
    if len(text) <= room:
        return text, ""
    kept = clip(text, room)
    least = LEAST_KEPT * len(kept)
    ends = [found.end() for found in _SENTENCE.finditer(text[: len(kept) + 1]) if found.end() <= len(kept)]
    if ends and ends[-1] >= least:
        return text[: ends[-1]].rstrip(), "after a sentence"
    if not text[len(kept)].isspace() and (space := max(map(kept.rfind, (" ", "\n")))) >= least:
        return kept[:space].rstrip(), "after a word"
    return kept, ""


def clip(text: str, most_characters: int) -> str:
    """At most that many code points, never cut between a letter and its accents or inside a joined emoji or a flag."""
    if len(text) <= most_characters:
        return text
    end = most_characters
    while end > 0 and (_continues(text[end]) or text[end - 1] == "\u200d"):
        end -= 1
    if end > 0 and _is_flag(text[end - 1]) and _is_flag(text[end]):
        flags = end - len(text[:end].rstrip("".join(map(chr, range(0x1F1E6, 0x1F200)))))
        end -= flags % 2
    return text[:end].rstrip()


def _continues(character: str) -> bool:
    return (
        unicodedata.category(character)[0] == "M"
        or character in "\u200d\ufe0f\u20e3"
        or 0x1F3FB <= ord(character) <= 0x1F3FF
    )


def _is_flag(character: str) -> bool:
    return 0x1F1E6 <= ord(character) <= 0x1F1FF


def _cost(character: str) -> float:
    if character.isascii():
        return RATES[0] if character.isalpha() or character == " " else RATES[1]
    return RATES[2] * len(character.encode("utf-8", "surrogatepass"))
