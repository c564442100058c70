"""Text from outside made plain: width, compatibility forms, invisible and control characters, white space. Pure.

Every function is idempotent: what it gave back, it gives back again. Notes say what was changed, for the task's trail.
"""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from types import MappingProxyType

from callstream.agents.lookalikes import Alike, unmixed
from callstream.agents.prepare.length import Limit, reckoned, shorten

MOST_MARKS = 3
"""Combining marks kept on one letter (`_MARKS` finds more); no language in use stacks more."""

LOOKED_AT, LEAST_LOOKED_AT = 8, 4_000
"""Characters that are looked at for each one that may stay, and on top: what is removed must not cost for ever."""

MOST_NAMED = 4
"""Kinds of removed characters that one note lists."""

_FOLDED = ("<wide>", "<narrow>", "<square>", "<font>", "<compat>", "<noBreak>", "<initial>", "<medial>", "<final>")
"""Compatibility forms that only look different. Superscripts, fractions and circled digits stay: m² is not m2."""

_CHINESE_PUNCTUATION = "！（），：；？～"
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_LINE_BREAKS = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_SPACES = re.compile(r"[^\S\n]+")
_INVISIBLE_LETTERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_JOINER_KEPT = re.compile(
    # Between joining scripts' letters (Arabic, Indic) and inside emoji, joiners change what is read.
    "(?<=[\u0600-\u08ff\u0900-\u0dff])[\u200c\u200d](?=[\u0600-\u08ff\u0900-\u0dff])"
    "|(?<=[\u2600-\u27bf\ufe0f\U0001f300-\U0001faff])\u200d(?=[\u2600-\u27bf\U0001f300-\U0001faff])"
)
_MARKS = re.compile("[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff]{4,}")


@dataclass(frozen=True, slots=True)
class Plain:
    """A text made plain, what was changed to make it so, and how it was too long, if it was."""

    text: str
    notes: tuple[str, ...] = ()
    too_long: str = ""


def plain(text: str, limit: int | Limit, one_line: bool = False, alike: Alike = MappingProxyType({})) -> Plain:
    """The text in plain form, within a limit (a number is of characters).

    Width and look-alike forms are folded, invisible, control and private characters removed, white space collapsed,
    piled-up accents cut; letters in Latin words that look Latin by `alike` are Latin. `one_line` turns line breaks into
    spaces. A lone surrogate counts as invisible. Of a very long text only the beginning is looked at.
    """
    limit = Limit(limit) if isinstance(limit, int) else limit
    looked_at = limit.most * LOOKED_AT + LEAST_LOOKED_AT
    too_long = f"cut at once from {len(text):,} to {looked_at:,} characters" if len(text) > looked_at else ""
    text = text[:looked_at]
    spaced, notes = _plain(text, one_line, alike)
    room = limit.room(spaced)
    cut, where = shorten(spaced, room)
    if len(cut) < len(spaced):
        # What is left may say otherwise what it is than the whole did.
        cut = fold(unmixed(cut, alike)[0])
        if limit.tokens is not None and room < (limit.characters or limit.most):
            told = f"cut from about {reckoned(spaced):,} to {reckoned(cut):,} tokens"
        else:
            told = f"cut from {len(spaced):,} to {len(cut):,} characters"
        too_long = "; ".join(filter(None, (too_long, f"{told} {where}".rstrip())))
    return Plain(cut, (*notes, *filter(None, (too_long,))), too_long)


def _plain(text: str, one_line: bool, alike: Alike) -> tuple[str, list[str]]:
    notes = []
    folded = fold(text)
    if folded != unicodedata.normalize("NFC", text):
        notes.append("width or compatibility forms folded")
    shown, removed = without_invisible(folded)
    if removed:
        notes.append(f"{removed.total()} invisible or control characters removed ({_named(removed)})")
    composed = unicodedata.normalize("NFC", shown)
    calm = _MARKS.sub(lambda marks: marks[0][:MOST_MARKS], composed)
    if len(calm) < len(composed):
        notes.append("piled-up accents cut")
    latin, foreign = unmixed(calm, alike)
    if foreign:
        letters = "1 letter" if foreign.total() == 1 else f"{foreign.total()} letters"
        notes.append(f"{letters} of other scripts in Latin words made Latin ({_named(foreign)})")
        latin = unicodedata.normalize("NFC", latin)
    spaced = collapse(latin, one_line)
    if spaced != latin:
        notes.append("white space collapsed")
    return spaced, notes


def _named(counted: Counter[str]) -> str:
    named = ", ".join(f"U+{ord(character):04X} ×{count}" for character, count in counted.most_common(MOST_NAMED))
    return named + (f" and {len(counted) - MOST_NAMED} more kinds" if len(counted) > MOST_NAMED else "")


def fold(text: str) -> str:
    """Full-width and half-width, ligatures and styled letters as ordinary ones, composed (NFC).

    Chinese full-width punctuation stays as it is in a text that holds Chinese characters.

    >>> fold("ＡＢＣ　１２３")
    'ABC 123'
    >>> fold("跑鞋，轻便！")
    '跑鞋，轻便！'
    """
    if text.isascii():
        return text
    parts = [character if character in _CHINESE_PUNCTUATION else _folded(character) for character in text]
    folded = unicodedata.normalize("NFC", "".join(parts))
    if not _HAN.search(folded):
        folded = unicodedata.normalize("NFC", "".join(map(_folded, folded)))
    return folded


def without_invisible(text: str) -> tuple[str, Counter[str]]:
    """The text without characters that nobody can see, and which were removed. Line breaks all become `\\n`."""
    text = _LINE_BREAKS.sub("\n", text)
    if text.isascii() and text.isprintable():
        return text, Counter()
    removed: Counter[str] = Counter()
    kept = []
    for character in text:
        if _is_invisible(character):
            removed[character] += 1
        else:
            kept.append(character)
    shown = "".join(kept)
    if "\u200c" not in shown and "\u200d" not in shown:
        return shown, removed
    keep = {match.start() for match in _JOINER_KEPT.finditer(shown)}
    joiners = [place for place, character in enumerate(shown) if character in "\u200c\u200d" and place not in keep]
    removed.update(shown[place] for place in joiners)
    dropped = set(joiners)
    return "".join(character for place, character in enumerate(shown) if place not in dropped), removed


def collapse(text: str, one_line: bool) -> str:
    """Runs of white space as one space, lines trimmed, at most one empty line in a row.

    >>> collapse("  a \\t b  \\n\\n\\n c ", one_line=False)
    'a b\\n\\nc'
    """
    if one_line:
        return " ".join(text.split())
    lines = "\n".join(_SPACES.sub(" ", line).strip() for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", lines).strip()


def _folded(character: str) -> str:
    kind = unicodedata.decomposition(character).partition(" ")[0]
    return unicodedata.normalize("NFKC", character) if kind in _FOLDED else character


def _is_invisible(character: str) -> bool:
    if character in "\n\t\u200c\u200d":
        return False
    category = unicodedata.category(character)
    if category in ("Cc", "Cf", "Cs", "Co") or character in _INVISIBLE_LETTERS:
        return True
    code = ord(character)
    # Variation selectors beyond the emoji ones can carry hidden text; non-characters are never text.
    return 0xE0100 <= code <= 0xE01EF or 0xFE00 <= code <= 0xFE0E or code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
