"""A chain's own Chinese words, from a file in the form of jieba's: `word [frequency] [part of speech]`, one a line."""

from dataclasses import dataclass
from pathlib import Path

from callstream.streams.foreseen import Foreseen

MOST_BYTES = 4 * 1024 * 1024
MOST_WORDS = 50_000
MOST_CHARACTERS = 32
MOST_FREQUENCY = 10**9


class BadDictionary(Foreseen, ValueError):
    """What is wrong with a dictionary: the file, the line and why."""


@dataclass(frozen=True, slots=True)
class Dictionary:
    """Words with their frequencies; None where jieba is to choose one that makes it a word."""

    words: tuple[tuple[str, int | None], ...] = ()

    @classmethod
    def load(cls, path: Path) -> "Dictionary":
        """Read a file; empty lines and those that begin with # are left out. Raises BadDictionary."""
        try:
            raw = path.read_bytes()
            if len(raw) > MOST_BYTES:
                raise BadDictionary(f"{path}: {len(raw):,} bytes; at most {MOST_BYTES:,} are read")
            lines = raw.decode("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise BadDictionary(f"{path}: {error}") from None
        words: dict[str, int | None] = {}
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.startswith("#"):
                continue
            try:
                word, frequency = _entry(line)
            except ValueError as error:
                raise BadDictionary(f"{path}: line {number}: {error}") from None
            words[word] = frequency
        if not words:
            raise BadDictionary(f"{path}: no word in it; write one a line: word [frequency]")
        if len(words) > MOST_WORDS:
            raise BadDictionary(f"{path}: {len(words):,} words; at most {MOST_WORDS:,} are taken")
        return cls(tuple(words.items()))


NO_WORDS = Dictionary()


def _entry(line: str) -> tuple[str, int | None]:
    """
    >>> _entry("云屿 2000 nz"), _entry("防泼水")
    (('云屿', 2000), ('防泼水', None))
    """
    word, *rest = line.split()
    if len(word) > MOST_CHARACTERS:
        raise ValueError(f"a word of {len(word)} characters; at most {MOST_CHARACTERS} are taken")
    if not word.isalnum():
        raise ValueError(f"{word!r} is no word: letters, digits and Chinese characters alone")
    if len(rest) > 2 or (len(rest) == 2 and not rest[0].isdecimal()):
        raise ValueError(f"{line.strip()[:80]!r}: write word [frequency] [part of speech]")
    if not rest or not rest[0].isdecimal():
        return word, None
    if not rest[0].isascii() or len(rest[0]) > 10 or not 1 <= int(rest[0]) <= MOST_FREQUENCY:
        raise ValueError(f"the frequency of {word!r} is {rest[0][:20]}; 1 to {MOST_FREQUENCY:,} are taken")
    return word, int(rest[0])
