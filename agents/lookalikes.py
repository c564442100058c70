"""Letters of other scripts that look Latin, by the data of UTS #39. None without the extra `text`.

Pure but for the data, which comes with confusable_homoglyphs.
"""

import importlib.util
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files

from callstream.streams import strict_json

MOST_DATA_BYTES = 8 * 1024 * 1024

Alike = Mapping[int, str]

_WORD = re.compile(r"[^\W\d_]+")
_FOREIGN = re.compile("[\u0370-\u058f\u13a0-\u13ff\u1c80-\u1c8f\ua640-\ua69f\uab70-\uabbf]")
"""Greek, Cyrillic, Armenian, Cherokee: scripts with small and capital letters, in which words are faked."""


@lru_cache(maxsize=1)
def lookalikes() -> Alike:
    """Letters of other scripts to the Latin ones that they look like, by code point."""
    if importlib.util.find_spec("confusable_homoglyphs") is None:
        return {}
    raw = files("confusable_homoglyphs").joinpath("confusables.json").read_bytes()
    found: Mapping[str, list[dict[str, str]]] = strict_json.loads(raw, MOST_DATA_BYTES)
    pairs = ((letter, _latin(letter, alike)) for letter, alike in found.items() if _is_letter(letter))
    return {ord(letter): latin for letter, latin in pairs if latin}


def unmixed(text: str, alike: Alike) -> tuple[str, Counter[str]]:
    """The text, of the same length, without foreign letters in Latin words; and which letters these were.

    Only a word that mixes scripts changes, at least half of whose letters are Latin, where every foreign letter looks
    Latin: words of another language stay, and so do small Greek letters among capitals (TNFα), which are names.

    >>> unmixed("раypal ρ привет", {0x440: "p", 0x430: "a", 0x3C1: "p"})[0]
    'paypal ρ привет'
    """
    if text.isascii() or alike.keys().isdisjoint(map(ord, set(text))):
        return text, Counter()
    changed: Counter[str] = Counter()

    def latin(found: re.Match[str]) -> str:
        word = found.group()
        foreign = _FOREIGN.findall(word)
        others = len(word) - len(foreign)
        if not foreign or others < len(foreign) or any(ord(letter) not in alike for letter in foreign):
            return word
        if any(not letter.isascii() and not _is_latin(letter) for letter in word if letter not in foreign):
            return word
        if _is_name(word, foreign):
            return word
        changed.update(foreign)
        return word.translate({ord(letter): alike[ord(letter)] for letter in foreign})

    return _WORD.sub(latin, text), changed


def _is_name(word: str, foreign: list[str]) -> bool:
    """Whether small Greek letters stand among capitals alone, as in TNFα or NFκB."""
    greek = all("\u0370" <= letter <= "\u03ff" and letter.islower() for letter in foreign)
    return greek and all(letter.isupper() for letter in word if letter not in foreign)


def _is_latin(letter: str) -> bool:
    return unicodedata.name(letter, "").startswith("LATIN")


def _is_letter(text: str) -> bool:
    return len(text) == 1 and not text.isascii() and unicodedata.category(text)[0] == "L"


def _latin(letter: str, alike: list[dict[str, str]]) -> str:
    """The Latin letter of the same case; the data has `l` for what is drawn as a capital I."""
    shapes = [one["c"] for one in alike if len(one["c"]) == 1 and one["c"].isascii() and one["c"].isalpha()]
    if not shapes:
        return ""
    if not letter.isupper():
        return shapes[0].lower()
    return next((shape for shape in shapes if shape.isupper()), "I" if shapes[0] == "l" else shapes[0].upper())
