"""From words and colours to attributes: which of the things that were found is to be believed. Pure.

Each place where a value is found gives it some confidence; places that agree add up (1 − Π(1 − c)).
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from string import whitespace

from callstream.agents.prepare.attributes import Attributes, Fact, Line, Seen, Source
from callstream.agents.prepare.lexicon import Lexicon
from callstream.agents.prepare.terms import Match, Terms

MOST_FEATURES = 6
FEATURE_CHARACTERS = range(3, 141)

_IN_TITLE = 0.85
_IN_TITLE_ASIDE = 0.45
_IN_DESCRIPTION = 0.4
_ON_LABEL = 0.8
_MISREAD = 0.75
"""What one forgiven letter takes from a match."""

# Where a title's own thing ends and what it is for or made of begins, in the languages that put the head first.
_ASIDE = re.compile(
    r"\s(?:for|with|in|from|of|by|für|mit|aus|von|im|pour|avec|en|de|d’|à|aux?|du|des|sans|para|con)\s"
    r"|[,，;；|/(（]|\s[-–—]\s",
    re.IGNORECASE,
)
_NUMBER = r"\d{1,5}(?:[.,]\d{1,2})?"
_LENGTH = r"(?:cm|mm|inch(?:es)?|in|英寸|厘米|毫米)"
_UNIT = rf"(?:ml|cl|dl|l|kg|g|oz|{_LENGTH}|毫升|升|千克|公斤|克|英寸)"
_SIZES = (
    re.compile(rf"{_NUMBER}\s?[x×*]\s?{_NUMBER}(?:\s?[x×*]\s?{_NUMBER})?\s?{_LENGTH}(?![a-z])", re.IGNORECASE),
    re.compile(r"\b(?:EU|EUR|US|UK)\s?\d{1,2}(?:[.,]5)?\b"),
    re.compile(
        r"(?:\b(?:size|gr(?:ö|oe)ße|taille)|尺码|尺寸)\s?[:：]?\s?(?P<value>\d{2}(?:[.,]5)?|X{0,3}[SL]|M)\b",
        re.IGNORECASE,
    ),
    re.compile(r"(?<!\d)(?P<value>[34]\d)\s?码"),
    re.compile(r"(?<![A-Za-z0-9-])A[3-7](?![A-Za-z0-9-])"),
    re.compile(rf"(?<![A-Za-z0-9.,]){_NUMBER}\s?{_UNIT}(?![a-z])", re.IGNORECASE),
    re.compile(r"(?<![A-Za-z0-9-])(?:X{1,3}[SL]|[2-5]XL)(?![A-Za-z0-9-])"),
)
_PIECES = re.compile(r"[\n;；。！!•·]|(?<!\d)[.](?:\s|$)|(?<=[^\d])[.](?=\s|$)")
_COMMAS = re.compile(r"[,，、]")
_BULLETS, _TAIL = f"{whitespace}\u3000-–*", f"{whitespace}\u3000,，:："


@dataclass(frozen=True, slots=True)
class Texts:
    """What is written about a product: its title, its description, and the lines read from its photo."""

    title: str
    description: str
    lines: tuple[Line, ...] = ()


def attributes_of(texts: Texts, seen: Seen | None, lexicon: Lexicon) -> Attributes:
    """Everything that can be told of a product."""
    # A colour inside a category's name (green tea) is not the product's, nor a category inside a colour's (樱花粉).
    categories = _outside(lexicon.categories.find(texts.title), lexicon.colours.find(texts.title))
    bare = texts.title
    for match in categories:
        bare = bare[: match.start] + " " * (match.end - match.start) + bare[match.end :]
    return Attributes(
        brand=brand(texts, lexicon.brands),
        category=category(texts, categories, lexicon.categories),
        colour=colour(bare, texts.description, seen, lexicon.colours),
        size=size(texts),
        material=best(_in_text(texts.title, texts.description, lexicon.materials)),
        features=features(texts.description),
        colours=seen.colours if seen else (),
        label=texts.lines,
        picture=seen.picture if seen else None,
    )


def best(found: Iterable[Fact]) -> Fact | None:
    """The value most believed when equal ones add up; of equals, the one found first."""
    together: dict[str, Fact] = {}
    for fact in found:
        known = together.get(fact.value)
        if known is None:
            together[fact.value] = fact
            continue
        stronger = fact if fact.confidence > known.confidence else known
        joined = 1 - (1 - fact.confidence) * (1 - known.confidence)
        together[fact.value] = Fact(value=fact.value, confidence=round(joined, 3), source=stronger.source)
    return max(together.values(), key=lambda fact: fact.confidence, default=None)


def brand(texts: Texts, terms: Terms) -> Fact | None:
    """The brand on the label or in the text; on a label, large letters count for more."""
    found = [
        Fact(
            value=match.value,
            confidence=_rounded(_ON_LABEL * line.confidence * _trust(match) + min(0.15, line.height)),
            source=Source.LABEL,
        )
        for line in texts.lines
        for match in terms.find(line.text)
    ]
    found += [
        Fact(value=match.value, confidence=_rounded(confidence * _trust(match)), source=source)
        for text, confidence, source in (
            (texts.title, _IN_TITLE, Source.TITLE),
            (texts.description, _IN_DESCRIPTION, Source.DESCRIPTION),
        )
        for match in terms.find(text)
    ]
    return best(found)


def category(texts: Texts, in_title: list[Match], terms: Terms) -> Fact | None:
    """What kind of thing it is: above all the last word of the title's head (coffee *mug* for travellers)."""
    aside = _ASIDE.search(texts.title, 1)
    end = aside.start() if aside else len(texts.title)
    head = [match for match in in_title if match.start < end]
    found = [
        Fact(
            value=match.value,
            confidence=_IN_TITLE if head and match is head[-1] else _IN_TITLE_ASIDE,
            source=Source.TITLE,
        )
        for match in in_title
    ]
    found += [
        Fact(value=match.value, confidence=_rounded(0.6 * line.confidence), source=Source.LABEL)
        for line in texts.lines
        for match in terms.find(line.text)
    ]
    described = dict.fromkeys(match.value for match in terms.find(texts.description))
    found += [Fact(value=value, confidence=_IN_DESCRIPTION, source=Source.DESCRIPTION) for value in described]
    return best(found)


def colour(title: str, description: str, seen: Seen | None, terms: Terms) -> Fact | None:
    """The product's colour: as the text says, as the photo shows; a clear photo outweighs a description."""
    found = list(_in_text(title, description, terms))
    if seen:
        found += [
            Fact(value=colour.name, confidence=_rounded(0.2 + 0.6 * colour.share), source=Source.PHOTO)
            for colour in seen.colours[:2]
        ]
    return best(found)


def size(texts: Texts) -> Fact | None:
    """The first size of the most telling kind: three dimensions, a shoe's or garment's size, volume, weight."""
    places = [(texts.title, _IN_TITLE, Source.TITLE)]
    places += [(line.text, _ON_LABEL * line.confidence, Source.LABEL) for line in texts.lines]
    places.append((texts.description, _IN_DESCRIPTION, Source.DESCRIPTION))
    for text, confidence, source in places:
        for pattern in _SIZES:
            if match := pattern.search(text):
                value = match.groupdict().get("value") or match[0]
                return Fact(value=_tidy(value), confidence=_rounded(confidence), source=source)
    return None


def features(description: str) -> tuple[str, ...]:
    """The description's short statements, at most `MOST_FEATURES`.

    >>> features("Waterproof. Light as a feather; two pockets.")
    ('Waterproof', 'Light as a feather', 'two pockets')
    """
    pieces = [piece for piece in map(_bare, _PIECES.split(description)) if piece]
    if len(pieces) == 1:
        pieces = [piece for piece in map(_bare, _COMMAS.split(pieces[0])) if piece]
    kept = dict.fromkeys(piece for piece in pieces if len(piece) in FEATURE_CHARACTERS)
    return tuple(kept)[:MOST_FEATURES]


def _in_text(title: str, description: str, terms: Terms) -> Iterator[Fact]:
    for place, match in enumerate(terms.find(title)):
        yield Fact(value=match.value, confidence=_IN_TITLE if place == 0 else _IN_TITLE_ASIDE, source=Source.TITLE)
    for value in dict.fromkeys(match.value for match in terms.find(description)):
        yield Fact(value=value, confidence=_IN_DESCRIPTION, source=Source.DESCRIPTION)


def _outside(found: list[Match], longer: list[Match]) -> list[Match]:
    """The matches that are not part of a longer one."""
    return [
        match
        for match in found
        if not any(
            other.start <= match.start and match.end <= other.end and other.end - other.start > match.end - match.start
            for other in longer
        )
    ]


def _trust(match: Match) -> float:
    return 1.0 if match.exact else _MISREAD


def _tidy(value: str) -> str:
    spaced = re.sub(
        r"(?<=\d)\s*(?=[a-z一-鿿])", " ", value.replace("*", "×").replace("x", "×") if "cm" in value else value
    )
    return " ".join(spaced.split())


def _bare(piece: str) -> str:
    return piece.lstrip(_BULLETS).rstrip(_TAIL)


def _rounded(confidence: float) -> float:
    return round(min(confidence, 0.99), 3)
