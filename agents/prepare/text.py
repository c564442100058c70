"""Text from outside made plain: width, compatibility forms, invisible and control characters, white space. Pure.

Every function is idempotent: what it gave back, it gives back again. Notes say what was changed, for the task's trail.
"""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

MOST_MARKS = 3
"""Combining marks kept on one letter (`_MARKS` finds more); no language in use stacks more."""

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
    """A text made plain, and what was changed to make it so."""

    text: str
    notes: tuple[str, ...] = ()


def plain(text: str, most_characters: int, one_line: bool = False) -> Plain:
    """The text in plain form, at most that many characters (code points) long.

    Width and look-alike forms are folded, invisible, control and private characters removed, white space collapsed,
    piled-up accents cut. `one_line` turns line breaks into spaces. A lone surrogate counts as invisible.
    """
    notes = []
    folded = fold(text)
    if folded != unicodedata.normalize("NFC", text):
        notes.append("width or compatibility forms folded")
    shown, removed = without_invisible(folded)
    if removed:
        named = ", ".join(f"U+{ord(character):04X} ×{count}" for character, count in removed.most_common(MOST_NAMED))
        more = f" and {len(removed) - MOST_NAMED} more kinds" if len(removed) > MOST_NAMED else ""
        notes.append(f"{removed.total()} invisible or control characters removed ({named}{more})")
    calm = _MARKS.sub(lambda marks: marks[0][:MOST_MARKS], unicodedata.normalize("NFC", shown))
    if len(calm) < len(unicodedata.normalize("NFC", shown)):
        notes.append("piled-up accents cut")
    spaced = collapse(calm, one_line)
    if spaced != calm:
        notes.append("white space collapsed")
    cut = clip(spaced, most_characters)
    if len(cut) < len(spaced):
        notes.append(f"cut from {len(spaced):,} to {len(cut):,} characters")
    return Plain(cut, tuple(notes))


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


def clip(text: str, most_characters: int) -> str:
    """At most that many code points, never cut between a letter and its accents or inside a joined emoji."""
    if len(text) <= most_characters:
        return text
    end = most_characters
    while end > 0 and (_continues(text[end]) or text[end - 1] == "\u200d"):
        end -= 1
    return text[:end].rstrip()


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


def _continues(character: str) -> bool:
    return (
        unicodedata.combining(character) > 0
        or character in "\u200d\ufe0f\u20e3"
        or 0x1F3FB <= ord(character) <= 0x1F3FF
    )
