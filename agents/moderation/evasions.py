"""Words that a filter is to overlook: with letters of other scripts, digits for letters, letters set apart. Pure."""

import re
from collections.abc import Sequence

from callstream.agents.moderation.normalise import Variants, View
from callstream.agents.moderation.rules import compile_pattern

FEWEST_APART = 3
"""Letters that stand alone one after the other before they are taken for a word."""

_WORD = re.compile(r"[^\W\d_]+")
_ASCII_WORD = re.compile(r"(?<![^\W\d_])[A-Za-z]{2,}(?![^\W\d_])")
_FOREIGN = re.compile("[\u0370-\u052f]")
_APART = re.compile(
    rf"(?<![^\W_])[a-z]([ .*·|/~,']{{1,2}})[a-z](?:\1[a-z]){{{FEWEST_APART - 2},30}}(?![^\W_]|\1[^\W_](?![^\W_]))"
)
_CUT = re.compile(r"(?<![^\W_])[a-z]{1,20}(?:[.*·|/~+^][a-z]{1,20}){1,8}(?![^\W_])")
_DISGUISED = re.compile(r"(?<![^\W_])(?=[a-z]*[013457@$!])(?=[013457@$!]*[a-z])[a-z013457@$!]{3,30}(?<!!)(?![^\W_])")
_HINT = compile_pattern(r"[a-z][.*·|/~+^][a-z]|[a-z][013457@$!]|[013457@$!][a-z]|\b[a-z][ .*·|/~,']{1,2}[a-z]\b")
"""Without one of these, which is soon known, nothing is disguised."""
_LETTER_OF = {"0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "7": "t", "@": "a", "$": "s", "!": "i"}
_DISGUISES = str.maketrans(_LETTER_OF)


def as_latin(text: str, alike: Variants) -> str:
    """The text, of the same length, with the letters of other scripts that stand in its Latin words as Latin ones.

    A word with such letters alone is one if it stands among Latin words, and nothing in the text can only be Greek or
    Cyrillic.

    >>> as_latin("а сlass of its оwn", {0x430: "a", 0x441: "c", 0x43E: "o"})
    'a class of its own'
    """
    if text.isascii() or alike.keys().isdisjoint(map(ord, set(text))):
        return text
    foreign = any(ord(letter) not in alike for letter in _FOREIGN.findall(text))
    mixed = not foreign and _ASCII_WORD.search(text) is not None

    def latin(word: re.Match[str]) -> str:
        letters = word.group()
        others = [letter for letter in letters if not letter.isascii()]
        whole = len(others) == len(letters)
        if not others or any(ord(letter) not in alike for letter in others) or (whole and not mixed):
            return letters
        return letters.translate(alike)

    return _WORD.sub(latin, text)


def undisguised(seen: View) -> View | None:
    """The folded text with disguised words as they would be read; None if there are none.

    >>> from callstream.agents.moderation.normalise import view
    >>> undisguised(view("an i d i o t, c0unterfeit, sh.it")).text
    'an idiot, counterfeit, shit'
    """
    if _HINT.search(seen.text.encode()) is None:
        return None
    kept: Sequence[int] = range(len(seen.text))
    text = _DISGUISED.sub(_as_letters, seen.text)
    for pattern in (_APART, _CUT):
        joined = "".join(text[at] for at in kept)
        within = bytearray(len(joined))
        for found in pattern.finditer(joined):
            within[found.start() : found.end()] = b"\1" * len(found.group())
        kept = [at for at, letter, inside in zip(kept, joined, within, strict=True) if letter.isalpha() or not inside]
    if len(kept) == len(seen.text) and text == seen.text:
        return None
    return View(
        seen.original,
        "".join(text[at] for at in kept),
        tuple(seen.starts[at] for at in kept),
        tuple(seen.ends[at] for at in kept),
    )


def _as_letters(found: re.Match[str]) -> str:
    """At least as many letters as disguises make it a word; else it is the number of an article."""
    word = found.group()
    disguises = sum(map(word.count, _LETTER_OF))
    return word.translate(_DISGUISES) if len(word) >= max(3, 2 * disguises) else word
