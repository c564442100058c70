"""Product copy from a brief: 2 to 4 sentences that name every attribute given, the same for the same seed. Pure."""

import re
from collections.abc import Mapping, Sequence, Set
from functools import cache

from callstream.stub.chance import pick
from callstream.stub.phrases import Phrases, phrases
from callstream.stub.prompt import Brief

MOST_SENTENCES = 4

NAMING = frozenset({"title", "brand"})
DESCRIBING = frozenset({"colour", "size", "material"})

_LISTED = re.compile(r"\s*,\s*(?:and\s+)?|\s+and\s+|\s*/\s*")


def write_copy(brief: Brief, seed: int) -> str:
    """The copy in the brief's language."""
    words = phrases(brief.language)
    values = _values(brief, words)
    key = "|".join((brief.language, *(f"{name}={value}" for name, value in sorted(values.items()))))
    openings, details = _of(words.openings, brief.category), _of(words.details, brief.category)
    opening = _best(openings, words.openings["other"], values, NAMING, (seed, key, "opening"))
    detail = _best(details, words.details["other"], values, DESCRIBING, (seed, key, "detail"))
    chosen = [template for template in (opening, detail) if template]
    if "features" in values:
        chosen.append(words.features[pick(len(words.features), seed, key, "features")])
    told = {name for template in chosen for name in _placeholders(template)}
    chosen += [words.leftovers[name] for name in words.leftovers if name in values and name not in told]
    if len(chosen) < MOST_SENTENCES:
        closings = _of(words.closings, brief.category)
        chosen.append(closings[pick(len(closings), seed, key, "closing")])
    return words.space.join(template.format_map(values) for template in chosen)


def join_list(items: Sequence[str], words: Phrases) -> str:
    """`a, b and c` in the language's way."""
    if len(items) < 2:
        return "".join(items)
    return words.joint.join(items[:-1]) + words.last_joint + items[-1]


def _values(brief: Brief, words: Phrases) -> dict[str, str]:
    values = {name: _in_words(value, words) for name, value in brief.attributes.items()}
    brand, title = values.get("brand"), values.get("title")
    if brand and title and title.lower().startswith(brand.lower()) and title[len(brand) :].strip():
        values["title"] = title[len(brand) :].strip()
    if brief.features:
        values["features"] = join_list([_in_words(item, words) for item in brief.features], words)
    return {**values, "kind": words.kinds[brief.category]}


def _in_words(value: str, words: Phrases) -> str:
    """The value in the language if it or every part of it ("blue and white") is known, else as it is."""
    known = words.words
    if value.lower() in known or not known:
        return known.get(value.lower(), value)
    parts = _LISTED.split(value.lower())
    return join_list([known[part] for part in parts], words) if all(part in known for part in parts) else value


def _of(by_category: Mapping[str, list[str]], category: str) -> list[str]:
    return by_category.get(category) or by_category["other"]


def _best(
    own: Sequence[str], common: Sequence[str], values: Mapping[str, str], topics: Set[str], chance: tuple[int, str, str]
) -> str:
    """A template that tells exactly the topics there are, rather the category's own; empty if there is none."""
    told = topics & values.keys()
    for templates in (own, common):
        fitting = [template for template in templates if _placeholders(template) & topics == told]
        if fitting:
            return fitting[pick(len(fitting), *chance)]
    return ""


@cache
def _placeholders(template: str) -> frozenset[str]:
    return frozenset(re.findall(r"{(\w+)}", template))
