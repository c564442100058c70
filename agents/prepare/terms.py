"""Finding known words in text: whole words, plurals, ends of compounds, Chinese without spaces, misread brands. Pure.

Every look-up is a hash of a piece of the text, so the cost does not grow with the number of known words.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

MOST_PARTS = 4
"""Words that one term may consist of."""

LEAST_COMPOUND = 4
LEAST_BEFORE = 3
"""A term of that many letters is found at the end of a word that has that many before it: Laufschuhe, not clamp."""

LEAST_MISREAD = 6
"""Letters that a term needs for one wrong letter to be forgiven."""

_TOKEN = re.compile("[\u3400-\u9fff]+|[^\\W_\u3400-\u9fff]+")
_ENDINGS = ("s", "es", "n", "en", "e")


@dataclass(frozen=True, slots=True)
class Match:
    """A known value found in a text between two places; `exact` is False where a letter was forgiven."""

    value: str
    start: int
    end: int
    exact: bool = True


class Terms:
    """The words that stand for each of some values; a value also stands for itself.

    `compounds` also finds them at the end of longer words, `misread` with one letter wrong. Raises ValueError for a
    term that stands for two values, or has no letters.
    """

    def __init__(self, table: Mapping[str, Sequence[str]], *, compounds: bool = False, misread: bool = False) -> None:
        self._exact: dict[str, str] = {}
        for value, words in table.items():
            for word in (value, *words):
                self._add(value, word)
        plurals = {key + ending: value for key, value in self._exact.items() for ending in _ENDINGS if len(key) > 2}
        self._forms = plurals | self._exact
        self._compounds = compounds
        self._misread = dict(self._misreadings()) if misread else {}
        self._longest = max(map(len, self._exact), default=0)
        self._longest_form = max(map(len, self._forms), default=0)

    def _add(self, value: str, word: str) -> None:
        key = squeeze(word)
        if not key:
            raise ValueError(f"{word!r} of {value!r} holds no letters or digits")
        if self._exact.setdefault(key, value) != value:
            raise ValueError(f"{word!r} stands for both {self._exact[key]!r} and {value!r}")

    def find(self, text: str) -> list[Match]:
        """The matches from left to right, none overlapping, each the longest at its place."""
        tokens = [(match[0], match.start(), match.end()) for match in _TOKEN.finditer(text.lower())]
        found: list[Match] = []
        place = 0
        while place < len(tokens):
            token, start, _ = tokens[place]
            if is_han(token):
                found += self._in_han(token, start)
                place += 1
                continue
            match, used = self._at(tokens, place)
            if match is not None:
                found.append(match)
            place += used
        return found

    def _at(self, tokens: Sequence[tuple[str, int, int]], place: int) -> tuple[Match | None, int]:
        token, start, end = tokens[place]
        joined, found, used = "", None, 1
        pair = (token, end, 1)
        for count, (part, _, until) in enumerate(tokens[place : place + MOST_PARTS], start=1):
            joined += part
            if len(joined) > self._longest_form or is_han(part):
                break
            if (value := self._forms.get(joined)) is not None:
                found, used = Match(value, start, until), count
            if count == 2:
                pair = (joined, until, 2)
        if found is None and self._compounds and (value := self._at_end(token)) is not None:
            found = Match(value, start, end)
        if found is None and self._misread:
            for word, until, count in (pair, (token, end, 1)):
                if (value := self._forgiven(word)) is not None:
                    return Match(value, start, until, exact=False), count
        return found, used

    def _at_end(self, word: str) -> str | None:
        for begin in range(max(LEAST_BEFORE, len(word) - self._longest_form), len(word) - LEAST_COMPOUND + 1):
            if (value := self._forms.get(word[begin:])) is not None:
                return value
        return None

    def _in_han(self, run: str, offset: int) -> Iterator[Match]:
        place = 0
        while place < len(run):
            for end in range(min(len(run), place + self._longest), place, -1):
                if (value := self._exact.get(run[place:end])) is not None:
                    yield Match(value, offset + place, offset + end)
                    place = end
                    break
            else:
                place += 1

    def _misreadings(self) -> Iterator[tuple[str, str]]:
        for key, value in self._exact.items():
            if len(key) >= LEAST_MISREAD and not is_han(key):
                yield from ((shorter, value) for shorter in _one_less(key))

    def _forgiven(self, word: str) -> str | None:
        if not LEAST_MISREAD - 1 <= len(word) <= self._longest + 1:
            return None
        for candidate in (word, *_one_less(word)):
            if value := self._misread.get(candidate) or (self._exact.get(candidate) if candidate != word else None):
                return value
        return None


def squeeze(text: str) -> str:
    """Letters and digits only, in lower case: how terms are compared.

    >>> squeeze("Nord-Wind 2")
    'nordwind2'
    """
    return "".join(_TOKEN.findall(text.lower()))


def is_han(token: str) -> bool:
    """Whether a token is a run of Chinese characters."""
    return "\u3400" <= token[0] <= "\u9fff"


def _one_less(word: str) -> Iterator[str]:
    for place in range(len(word)):
        yield word[:place] + word[place + 1 :]
