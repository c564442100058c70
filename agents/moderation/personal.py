"""Finds personal data in a text: telephone numbers, e-mail addresses, payment cards, resident identity numbers.

A number is one only if its checksum or its country's numbering plan says so: cards by Luhn (ISO/IEC 7812), resident
identity numbers of the PRC by GB 11643, telephone numbers by the data of libphonenumber.
Pure, but that a day of birth is not after today.
"""

import datetime
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache

import phonenumbers
from stdnum import luhn
from stdnum.cn import ric
from stdnum.exceptions import ValidationError

from callstream.agents.moderation.rules import Personal, PersonalKind, compile_pattern, matches

Find = tuple[PersonalKind, int, int]

FEWEST_DIGITS, MOST_DIGITS = 7, 19
CARD_LENGTHS = range(14, 20)
CARD_INDUSTRIES = "23456"
"""First digits of banks', travel and merchandising cards; shorter ones are as often the number of an article."""
MOST_GROUPS = 6
"""Groups of digits that one number is written in."""
MOST_BEFORE = 40
"""Characters before a number that may say what it is of."""
FIRST_BIRTH = datetime.date(1900, 1, 1)
MOST_TRIED = 500
"""Telephone numbers that are looked up for one text. What comes after so many that are none is taken for one."""

_HINT = re.compile(r"[\d@＠﹫]|\bdot\b|[(\[](?:at|dot)[)\]]", re.IGNORECASE)
"""Without one of these there is neither a number nor an address."""
_NUMBER = compile_pattern(r"[+(]{0,2}\d(?:[ .()\-]{0,2}\d){6,39}x?")
_EMAIL = compile_pattern(r"[a-z0-9][a-z0-9._%+\-]{0,63}@(?:[a-z0-9](?:[a-z0-9\-]{0,61}[a-z0-9])?\.){1,8}[a-z]{2,24}\b")
_SPELT = compile_pattern(
    r"\b[a-z0-9][a-z0-9._%+\-]{0,63}(?: dot [a-z0-9\-]{1,30}){0,3} ?(?:\(at\)|\[at\]|at) ?"
    r"[a-z0-9\-]{1,63}(?:\.[a-z0-9\-]{1,63}| ?(?:\(dot\)|\[dot\]|dot) ?[a-z0-9\-]{1,63}){0,4}"
    r" ?(?:\(dot\)|\[dot\]|dot) ?(?:com|net|org|cn|de|uk|fr|eu|io|co|me|edu|info|biz)\b"
)
_AT = compile_pattern(r"\b[a-z0-9][a-z0-9._%+\-]{0,63} ?(?:\(at\)|\[at\]) ?(?:[a-z0-9\-]{1,63}\.){1,8}[a-z]{2,24}\b")
_GROUP = compile_pattern(r"[+(]{0,2}\d+(?:[.()\-]{1,2}\d+)*x?")
_APART = re.compile(r"(?<![\d])\d([ .\-/*·_,|~])\d(?:\1\d){4,18}(?!\1?\d)")
"""The digits of a number one by one."""
_PROVINCES = (
    *range(11, 16),
    *range(21, 24),
    *range(31, 38),
    *range(41, 47),
    *range(50, 55),
    *range(61, 66),
    71,
    81,
    82,
    83,
)
_BIRTHPLACES = frozenset(map(str, _PROVINCES))
"""Provinces in resident identity numbers (GB/T 2260)."""
_OF_A_BUSINESS = frozenset(
    (
        phonenumbers.PhoneNumberType.TOLL_FREE,
        phonenumbers.PhoneNumberType.SHARED_COST,
        phonenumbers.PhoneNumberType.PREMIUM_RATE,
        phonenumbers.PhoneNumberType.UAN,
    )
)
_PUNCTUATION = str.maketrans("", "", " .()-")


def find_personal(text: str, rule: Personal) -> Iterator[Find]:
    """Each find with where it starts and ends in the text (code points), in the order of the text, none overlapping."""
    if _HINT.search(text) is None:
        return
    folded, places = _closed(*_fold(text))
    raw = folded.encode("utf-8", "replace")
    past = 0
    for kind, first, end in sorted([*_emails(raw, rule), *_Numbers(rule).found(folded, raw)], key=lambda find: find[1]):
        if first >= past:
            past = end
            yield kind, places[first], places[end - 1] + 1


def _closed(text: str, places: Sequence[int]) -> tuple[str, Sequence[int]]:
    """Without what stands between the digits of a number that is written digit by digit."""
    kept: list[int] = []
    past = 0
    for found in _APART.finditer(text):
        kept += [*range(past, found.start()), *range(found.start(), found.end(), 2)]
        past = found.end()
    if not past:
        return text, places
    kept += range(past, len(text))
    return "".join(text[at] for at in kept), [places[at] for at in kept]


def _fold(text: str) -> tuple[str, Sequence[int]]:
    """The text in narrow forms, without invisible characters, and where each character stood."""
    if text.isascii():
        return text, range(len(text))
    kept = [(narrow, at) for at, one in enumerate(text) if (narrow := _narrow(one))]
    return "".join(narrow for narrow, _ in kept), [at for _, at in kept]


@lru_cache(maxsize=65536)
def _narrow(one: str) -> str:
    if one.isascii():
        return one
    if unicodedata.category(one) == "Cf":
        return ""
    narrow = unicodedata.normalize("NFKC", one)
    return narrow if len(narrow) == 1 else one


def _emails(raw: bytes, rule: Personal) -> Iterator[Find]:
    if PersonalKind.EMAIL not in rule.kinds:
        return
    for pattern in (_EMAIL, _AT, _SPELT):
        for first, past in matches(pattern, raw):
            yield PersonalKind.EMAIL, first, past


class _Numbers:
    """Finds the numbers of one text."""

    def __init__(self, rule: Personal) -> None:
        self._rule = rule
        self._tried = 0

    def found(self, text: str, raw: bytes) -> Iterator[Find]:
        """The numbers in each run of digits that is no part of a longer one."""
        for first, past in matches(_NUMBER, raw):
            before, after = text[max(0, first - MOST_BEFORE) : first], text[past : past + 1]
            if not before[-1:].isdigit() and not after.isdigit() and not self._of_a_thing(before):
                yield from self._within(text[first:past], first)

    def _of_a_thing(self, before: str) -> bool:
        """Whether the words before a number say that it is that of an article, an order, a book."""
        return _named(before).endswith(_things(self._rule.not_after))

    def _within(self, run: str, offset: int) -> Iterator[Find]:
        """The numbers of a run: as many of its groups as make one, from the left."""
        groups = list(matches(_GROUP, run.encode()))
        at = 0
        while at < len(groups):
            for last in range(min(at + MOST_GROUPS, len(groups)) - 1, at - 1, -1):
                first, past = groups[at][0], groups[last][1]
                if (kind := self._kind(run[first:past])) is not None:
                    yield kind, offset + first, offset + past
                    at = last
                    break
            at += 1

    def _kind(self, number: str) -> PersonalKind | None:
        bare = number.lstrip("+").translate(_PUNCTUATION)
        if not FEWEST_DIGITS <= len(bare) <= MOST_DIGITS:
            return None
        kinds = self._rule.kinds
        if PersonalKind.RESIDENT_ID in kinds and _is_resident_id(bare.upper()):
            return PersonalKind.RESIDENT_ID
        if PersonalKind.CARD in kinds and len(bare) in CARD_LENGTHS and bare[0] in CARD_INDUSTRIES:
            return PersonalKind.CARD if luhn.is_valid(bare) else None
        return PersonalKind.PHONE if PersonalKind.PHONE in kinds and self._is_phone(number, bare) else None

    def _is_phone(self, number: str, bare: str) -> bool:
        """Whether it is a valid number; one without prefix and punctuation only if it is a mobile one."""
        if not bare.isdigit() or len(bare) > 15:
            return False
        plain = number == bare
        kinds: list[int] = []
        for region in (None,) if "+" in number else self._rule.regions:
            self._tried += 1
            if self._tried > MOST_TRIED:
                return True
            try:
                parsed = phonenumbers.parse(number, region)
            except phonenumbers.NumberParseException:
                continue
            kinds.append(phonenumbers.number_type(parsed))
        if plain:
            return phonenumbers.PhoneNumberType.MOBILE in kinds
        known = [kind for kind in kinds if kind != phonenumbers.PhoneNumberType.UNKNOWN]
        return bool(known) and _OF_A_BUSINESS.isdisjoint(known)


@lru_cache(maxsize=16)
def _things(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(_named, words))


def _named(text: str) -> str:
    """Without what stands between a thing's name and its number."""
    return text.casefold().rstrip(" \t:：#.no号碼码為为是")


def _is_resident_id(number: str) -> bool:
    """Whether its checksum, its day of birth and its province are right.

    The library's own check also asks for the county, of which it knows but those of one year.
    """
    if not (len(number) == 18 and number[:17].isdigit() and number[:2] in _BIRTHPLACES):
        return False
    try:
        born = ric.get_birth_date(number)
    except ValidationError:
        return False
    return ric.calc_check_digit(number) == number[-1] and FIRST_BIRTH <= born <= datetime.date.today()
