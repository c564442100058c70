"""The view that moderation matches on: a text folded so that evasions fall together, each character traced back. Pure.

Folded are width and compatibility forms, case, zero-width characters, traditional to simplified Chinese, runs of white
space and hyphens (one space), and whatever is put between two Chinese, Japanese or Korean characters to keep a word
apart.
"""

import importlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

MOST_SKIPPED = 16
"""Separators in a row that may be dropped between two CJK characters; more of them are a layout, not an evasion."""

Variants = Mapping[int, str]

STAND_INS = {"冣": "最", "蕞": "最", "儍": "傻", "屄": "逼", "玖": "久", "燄": "焰"}
"""Characters that hardly occur but in the place of the ones that sound or look like them."""

_OTHER, _CJK, _MARK, _SEPARATOR, _SPACE, _NOTHING = range(6)
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_QUOTES = str.maketrans("’‘ʼ`´", "'''''")
_SENTENCE_ENDS = frozenset("。！？；，、：!?;,:\n\r\u2028\u2029")
_ASCII = str.maketrans({"\t": " ", "\n": " ", "\r": " ", "\v": " ", "\f": " ", "-": " ", "_": " ", "`": "'"})
_RUNS = re.compile("[0-9A-Za-z]{2,}|[\u4e00-\u9fff]{2,}|.", re.DOTALL)
"""What folds as a whole, and any other character."""
_ASCII_CONTROLS = frozenset(map(chr, (*range(9), *range(14, 32), 127)))


@dataclass(frozen=True, slots=True)
class View:
    """A folded text. Character i of `text` stands for `original[starts[i]:ends[i]]`."""

    original: str
    text: str
    starts: tuple[int, ...] | range
    ends: tuple[int, ...] | range

    def span(self, first: int, past: int) -> tuple[int, int]:
        """Where `text[first:past]` (not empty) stands in the original."""
        return self.starts[first], self.ends[past - 1]

    def crosses_sentence(self, first: int, past: int) -> bool:
        """Whether a match runs over the end of a clause, and so is no word but two neighbours.

        A mark between *all* characters of a word ("国。家。级") is an evasion and not the end of a clause.
        """
        gaps = [
            self.original[self.ends[i] : self.starts[i + 1]]
            for i in range(first, past - 1)
            if self.ends[i] < self.starts[i + 1]
        ]
        if not any(_SENTENCE_ENDS.intersection(gap) for gap in gaps):
            return False
        return len(gaps) < past - first - 1 or len(gaps) == 1


def view(text: str, variants: Variants | None = None) -> View:
    """Fold a text. `variants` maps traditional characters to simplified ones (`simplified()`).

    >>> view("ＦＲＥＥ\u200b  shipping").text
    'free shipping'
    >>> view("國 家-级", {ord("國"): "国"}).span(0, 3)
    (0, 5)
    """
    if text.isascii():
        plain = text.lower().translate(_ASCII)
        if "  " not in plain and _ASCII_CONTROLS.isdisjoint(plain):
            return View(text, plain, range(len(text)), range(1, len(text) + 1))
    folding = _Folding()
    for found in _RUNS.finditer(text.translate(variants) if variants else text):
        run, index = found.group(), found.start()
        if len(run) > 1:
            folding.add_run(run.lower(), _OTHER if run.isascii() else _CJK, index)
        else:
            for folded, kind in _folded(run):
                folding.add(folded, kind, index)
    return folding.view(text)


def is_spaced(character: str) -> bool:
    """Whether it belongs to a script that parts its words (Latin, Greek, Cyrillic, digits)."""
    return character.isalnum() and (character < "\u0590" or "\u1e00" <= character < "\u2000")


@lru_cache(maxsize=1)
def simplified() -> Variants:
    """Traditional to simplified, one character for one; without the extra `text` (opencc), but for stand-ins."""
    stand_ins = {ord(one): plain for one, plain in STAND_INS.items()}
    try:
        converter = importlib.import_module("opencc").OpenCC("t2s")
    except ImportError:
        return stand_ins
    traditional = "\n".join(map(chr, (*range(0x3400, 0x4DC0), *range(0x4E00, 0xA000), *range(0xF900, 0xFAD9))))
    pairs = zip(traditional.split("\n"), converter.convert(traditional).split("\n"), strict=True)
    return {ord(before): after for before, after in pairs if before != after and len(after) == 1} | stand_ins


class _Folding:
    """Collects folded characters; separators wait until it is known what follows them."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._waiting: list[tuple[str, int, int]] = []
        self._after_cjk = False

    def add(self, character: str, kind: int, index: int) -> None:
        if kind <= _CJK:
            self.add_run(character, kind, index)
        elif kind in (_SEPARATOR, _SPACE):
            self._waiting.append((character, kind, index))
        elif kind == _MARK:
            self._mark(character, index)

    def add_run(self, characters: str, kind: int, index: int) -> None:
        """Characters that are neither separators nor marks, one after the other from `index` on."""
        if self._waiting:
            if not (self._after_cjk and kind == _CJK and len(self._waiting) <= MOST_SKIPPED):
                self._flush()
            self._waiting.clear()
        self._text.extend(characters)
        self._starts.extend(range(index, index + len(characters)))
        self._ends.extend(range(index + 1, index + len(characters) + 1))
        self._after_cjk = kind == _CJK

    def view(self, original: str) -> View:
        self._flush()
        return View(original, "".join(self._text), tuple(self._starts), tuple(self._ends))

    def _append(self, character: str, index: int) -> None:
        self._text.append(character)
        self._starts.append(index)
        self._ends.append(index + 1)

    def _flush(self) -> None:
        spaced = False
        for character, kind, index in self._waiting:
            if kind == _SPACE and spaced:
                self._ends[-1] = index + 1
            else:
                self._append(character, index)
            spaced = kind == _SPACE

    def _mark(self, mark: str, index: int) -> None:
        """A combining mark: joined with its letter where there is such a character, else dropped from European ones."""
        if self._waiting or not self._text:
            return
        composed = unicodedata.normalize("NFKC", self._text[-1] + mark)
        if len(composed) == 1:
            self._text[-1] = composed
            self._ends[-1] = index + 1
        elif is_spaced(self._text[-1]):
            self._ends[-1] = index + 1
        else:
            self._append(mark, index)


@lru_cache(maxsize=65536)
def _folded(character: str) -> tuple[tuple[str, int], ...]:
    if _is_mark(character):
        return ((character, _MARK),)
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", character).casefold()).translate(_QUOTES)
    return tuple((" " if kind == _SPACE else each, kind) for each in plain if (kind := _kind(each)) != _NOTHING)


def _is_mark(character: str) -> bool:
    # Half-width voiced marks and Korean medial and final letters join the character before them as accents do.
    return unicodedata.combining(character) != 0 or character in "ﾞﾟ" or "\u1160" < character <= "\u11ff"


def _kind(character: str) -> int:
    category = unicodedata.category(character)
    if character.isspace() or category in ("Pd", "Pc", "Zs"):
        return _SPACE
    if category in ("Cf", "Cc", "Cs", "Co", "Cn") or character in _FILLERS or _is_variation_selector(character):
        return _NOTHING
    if unicodedata.combining(character):
        return _MARK
    if category[0] in "PS":
        return _SEPARATOR
    return _CJK if _is_cjk(ord(character)) else _OTHER


def _is_variation_selector(character: str) -> bool:
    return "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"


def _is_cjk(code: int) -> bool:
    return (
        0x2E80 <= code <= 0x9FFF
        or 0xAC00 <= code <= 0xD7AF
        or 0xF900 <= code <= 0xFAFF
        or 0x1100 <= code <= 0x11FF
        or 0x20000 <= code <= 0x3FFFF
    )
