"""What a prompt says: the product's attributes, the language, and directives to the stub. Pure.

The convention: the last user message holds a fenced JSON block or lines `name: value`. Names are read in English and
Chinese, in any case. `stub-NAME: VALUE` in a user message is a directive to the stub itself.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

LANGUAGES = {
    "en": ("en", "english", "englisch", "anglais", "英文", "英语"),
    "zh": ("zh", "cn", "chinese", "chinesisch", "chinois", "mandarin", "中文", "汉语", "简体"),
    "de": ("de", "german", "deutsch", "allemand", "德文", "德语"),
    "fr": ("fr", "french", "französisch", "français", "francais", "法文", "法语"),
}
TRANSLATED = {
    **LANGUAGES,
    "es": ("es", "spanish", "spanisch", "espagnol", "español", "西班牙语"),
    "it": ("it", "italian", "italienisch", "italien", "italiano", "意大利语"),
}
"""What it translates into, beside what it writes."""
NAMES = {
    "brand": ("brand", "maker", "品牌"),
    "category": ("category", "type", "product_type", "product type", "品类", "类别", "类目", "类型"),
    "colour": ("colour", "color", "colours", "colors", "颜色"),
    "size": ("size", "dimensions", "尺寸", "尺码", "规格"),
    "material": ("material", "materials", "材质", "材料"),
    "title": ("title", "name", "product", "product_name", "product name", "标题", "名称", "商品名", "商品"),
    "features": ("features", "feature", "highlights", "selling_points", "特点", "卖点", "特征"),
    "language": ("language", "lang", "target_language", "target language", "语言"),
}
CATEGORIES = {
    "phone case": ("phone case", "phone-case", "phone_case", "phonecase", "handyhülle", "coque", "手机壳", "保护壳"),
    "shoes": ("shoe", "sneaker", "boot", "sandal", "trainer", "schuh", "chaussure", "鞋"),
    "mug": ("mug", "cup", "tasse", "becher", "杯"),
    "lamp": ("lamp", "light", "leuchte", "lampe", "灯"),
    "tea": ("tea", "tee", "thé", "茶"),
    "jacket": ("jacket", "coat", "parka", "jacke", "mantel", "veste", "manteau", "夹克", "外套", "冲锋衣"),
    "backpack": ("backpack", "rucksack", "sac à dos", "背包", "书包"),
    "headphones": ("headphone", "earphone", "earbud", "headset", "kopfhörer", "casque", "耳机"),
    "camera": ("camera", "kamera", "appareil photo", "相机"),
    "coffee": ("coffee", "espresso", "kaffee", "café", "咖啡"),
}
MOST_NAME_CHARS = 40
MOST_VALUE_CHARS = 400

_FIELD = {alias: name for name, aliases in NAMES.items() for alias in aliases}
_LANGUAGE = {alias: code for code, aliases in TRANSLATED.items() for alias in aliases}
_CATEGORY = {
    # A compound ends in its kind ("Laufschuhe", "teacup"), so only the end of a word counts; Chinese knows no ends.
    category: re.compile(
        "|".join(rf"{re.escape(w)}(?:e?s|e?n|e)?\b" if w[0] < "\u2e80" else w for w in words), re.IGNORECASE
    )
    for category, words in CATEGORIES.items()
}
_FENCE = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL | re.IGNORECASE)
_LINE = re.compile(rf"^[ \t]*(?:[-*][ \t]+)?([^:：\n]{{1,{MOST_NAME_CHARS}}})[ \t]*[:：][ \t]*(\S.*)$", re.MULTILINE)
_DIRECTIVE = re.compile(
    r"(?<![\w-])stub-([a-z]{1,20}):[ \t]*(.*?)[ \t]*(?=$|(?<![\w-])stub-[a-z]{1,20}:)", re.MULTILINE
)
_TRANSLATION = re.compile(r"\btranslat|übersetz|tradui|翻译", re.IGNORECASE)
_TARGET = re.compile(
    r"\b(?:into|to|ins?|en)\s+(?:simplified\s+)?([^\W\d_]{2,20})|(?:成|为|到)\s*(\w{2})", re.IGNORECASE
)
_TERM = re.compile(r"^[ \t]*(?:[-*][ \t]+)?([^=\n]{1,80}?)[ \t]*=[ \t]*(\S[^\n]{0,79})$", re.MULTILINE)
_CHINESE = re.compile(r"[\u4e00-\u9fff]")


@dataclass(frozen=True)
class Message:
    """One chat message, its text parts joined by new lines."""

    role: str
    text: str
    images: int = 0
    small_images: int = 0


@dataclass(frozen=True)
class Brief:
    """What to write. `attributes` go by the names in NAMES, but for those that have a field of their own.

    `terms` are translations that the instructions demand, by the term in lower case.
    """

    attributes: dict[str, str] = field(default_factory=dict)
    features: tuple[str, ...] = ()
    category: str = "other"
    language: str = "en"
    translate: bool = False
    text: str = ""
    terms: dict[str, str] = field(default_factory=dict)


def directives(text: str) -> dict[str, str]:
    """What `stub-NAME: VALUE` tells, by NAME: in a line of the text, or in a text of its fenced block.

    VALUE goes to the end of the line or to the next directive; the last of a NAME counts.
    """
    if "stub-" not in text:
        return {}
    block = _block(text)
    told = [text] if block is None else [_FENCE.sub("", text), *_texts(block)]
    return {name: value for part in told for name, value in _DIRECTIVE.findall(part)}


def last_user_text(messages: tuple[Message, ...]) -> str:
    """The text of the last user message, or of the last message if no user has spoken."""
    for message in reversed(messages):
        if message.role == "user":
            return message.text
    return messages[-1].text if messages else ""


def instructions(messages: tuple[Message, ...]) -> str:
    """What the system or the developer says, one message after another."""
    return "\n".join(message.text for message in messages if message.role in ("system", "developer"))


def read_brief(messages: tuple[Message, ...]) -> Brief:
    """The brief of a conversation; whatever is missing stays at its default."""
    text = last_user_text(messages)
    system = instructions(messages)
    found = _attributes(text)
    translate = bool(_TRANSLATION.search(system))
    named = language_code(found.pop("language", ("",))[0], translate) or _target(system, translate)
    features = found.pop("features", ())
    attributes = {name: ", ".join(values) for name, values in found.items()}
    category = category_of(attributes.pop("category", "") or attributes.get("title", ""))
    fallback = "zh" if _CHINESE.search(text) and not translate else "en"
    terms = {term.lower(): told for term, told in _TERM.findall(system)} if translate else {}
    return Brief(attributes, features, category, named or fallback, translate, text, terms)


def language_code(name: str, translate: bool = False) -> str | None:
    """`en` for "English", "EN-gb" or "英文"; None for a language that the stub does not write, or translate into."""
    lowered = name.strip().lower()
    code = _LANGUAGE.get(lowered) or _LANGUAGE.get(re.split(r"[-_ ]", lowered, maxsplit=1)[0])
    return code if code in (TRANSLATED if translate else LANGUAGES) else None


def field_lines(text: str) -> dict[str, str]:
    """What the lines `name: value` of a text say, by name in lower case."""
    return {name.strip().lower(): value.strip() for name, value in _LINE.findall(text)}


def category_of(text: str) -> str:
    """The first known category the text names, else `other`."""
    return next((category for category, pattern in _CATEGORY.items() if pattern.search(text)), "other")


def _target(system: str, translate: bool) -> str | None:
    for western, chinese in _TARGET.findall(system):
        code = language_code(western or chinese, translate)
        if code:
            return code
    return None


def _attributes(text: str) -> dict[str, tuple[str, ...]]:
    block = _block(text)
    return _from_lines(text) if block is None else _from_block(block)


def _block(text: str) -> dict[str, object] | None:
    fence = _FENCE.search(text)
    if fence is None:
        return None
    try:
        block = json.loads(fence[1])
    except (ValueError, RecursionError):
        return None
    return block if isinstance(block, dict) else None


def _texts(block: dict[str, object]) -> Iterator[str]:
    inner = [value for value in block.values() if isinstance(value, dict)]
    for source in (block, *inner):
        for value in source.values():
            yield from (item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str))


def _from_block(block: dict[str, object]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    inner = [value for value in block.values() if isinstance(value, dict)]
    for source in (*inner, block):
        for name, value in source.items():
            known = _FIELD.get(name.strip().lower())
            values = _values(value)
            if known and values:
                found[known] = values
    return _split_features(found)


def _values(value: object) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(str(item).strip()[:MOST_VALUE_CHARS] for item in value[:20] if isinstance(item, str | int | float))
    if isinstance(value, str | int | float) and str(value).strip():
        return (str(value).strip()[:MOST_VALUE_CHARS],)
    return ()


def _from_lines(text: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name, value in _LINE.findall(text):
        known = _FIELD.get(name.strip().lower())
        if known:
            found[known] = (value.strip()[:MOST_VALUE_CHARS],)
    return _split_features(found)


def _split_features(found: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    features = found.get("features", ())
    if len(features) == 1:
        parts = (part.strip(" []\"'") for part in re.split(r"[,;，；、|]", features[0]))
        found["features"] = tuple(part for part in parts if part)
    return found
