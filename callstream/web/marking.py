"""Text from outside as a reviewer is to see it: findings marked, and every character that hides or turns text named."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from callstream.streams.event import Json

MOST_SHOWN = 50_000
MOST_PIECES = 2_000

_NAMED = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    r"\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ue000-\uf8ff\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Controls, what has no width, and what turns the direction of text."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text. `kind` is plain, finding, control, or rest: how much is not shown. `title` explains it."""

    kind: str
    text: str
    title: str = ""


def marked(text: str, findings: Sequence[Json] = ()) -> list[Piece]:
    """The text in pieces; spans of findings count in its code points. What stands in a finding is named there too.

    >>> [piece.text for piece in marked("a\\u202eb")]
    ['a', 'U+202E', 'b']
    """
    spans = [span for span in map(_span, findings) if span is not None]
    shown = text[:MOST_SHOWN]
    ends = {0, len(shown), *(min(end, len(shown)) for start, stop, _ in spans for end in (start, stop))}
    pieces: list[Piece] = []
    for start, stop in pairwise(sorted(ends)):
        titles = [title for begin, end, title in spans if begin <= start and stop <= end]
        kind = "finding" if titles else "plain"
        pieces += _pieces(shown[start:stop], kind, "; ".join(titles))
        if len(pieces) > MOST_PIECES:
            break
    kept = pieces[:MOST_PIECES]
    hidden = len(text) - len(shown) if kept == pieces else None
    if hidden is None or hidden > 0:
        kept.append(
            Piece("rest", "more, not shown; the raw JSON has it" if hidden is None else f"{hidden:,} more characters")
        )
    return kept


def _pieces(text: str, kind: str, title: str) -> list[Piece]:
    found: list[Piece] = []
    at = 0
    for match in _NAMED.finditer(text):
        if match.start() > at:
            found.append(Piece(kind, text[at : match.start()], title))
        found.append(_named(match[0]))
        at = match.end()
        if len(found) > MOST_PIECES:
            break
    if at < len(text):
        found.append(Piece(kind, text[at:], title))
    return found


def _named(character: str) -> Piece:
    name = unicodedata.name(character, "a character without a name")
    return Piece("control", f"U+{ord(character):04X}", name.lower())


def _span(finding: Json) -> tuple[int, int, str] | None:
    """Where a finding is, and what it says; None for what is none."""
    start, end = finding.get("start"), finding.get("end")
    if not (isinstance(start, int) and isinstance(end, int) and 0 <= start < end):
        return None
    said = (finding.get(name) for name in ("category", "action", "rule", "why"))
    return start, end, " · ".join(str(one)[:300] for one in said if one)
