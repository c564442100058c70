"""Which language a text is in, and its words. Needs the extra `text` (lingua, jieba).

Both libraries are asked for at most `MOST_CHARACTERS` of a text: more changes no answer and would hold up the loop.
"""

import functools
import importlib
import importlib.util
import re
from collections.abc import Callable, Iterable
from typing import Any, Literal

from callstream.agents.prepare.dictionary import NO_WORDS, Dictionary
from callstream.streams.foreseen import Foreseen

MOST_CHARACTERS = 1000
MOST_WORDS = 200
LANGUAGES = ("en", "zh", "de", "fr", "es", "ja")
LANGUAGE_PATTERN = r"^[a-z]{2}$"

_WORD = re.compile(r"[^\W_]+(?:['’.-][^\W_]+)*")
_HAN = re.compile("[\u3400-\u9fff\U00020000-\U0003ffff]")
_KANA = re.compile("[\u3040-\u30ff]")

Detect = Callable[[str], str | None]
Segment = Callable[[str], Iterable[str]]
Convert = Callable[[str], str]
Variant = Literal["simplified", "traditional"]


class MissingExtra(Foreseen, RuntimeError):
    """A library that only an extra installs is not there; the message says how to get it."""


def demand(extra: str, *modules: str) -> None:
    """Check that the modules of an extra can be imported. Raises MissingExtra."""
    if missing := [module for module in modules if importlib.util.find_spec(module) is None]:
        raise MissingExtra(f"{', '.join(missing)} not installed; run: pip install 'callstream[{extra}]'")


@functools.lru_cache(maxsize=8)
def load_detector(languages: tuple[str, ...] = LANGUAGES) -> Detect:
    """A function from a text to its language (ISO 639-1), or None where nothing can be told.

    Lingua in its low-accuracy mode, which takes 15 MB, told only of these languages. Raises MissingExtra, and
    ValueError for a code that lingua does not have.
    """
    demand("text", "lingua")
    # Imported here by name: the extra may be absent, and then only this step must fail.
    lingua: Any = importlib.import_module("lingua")
    codes = {language.iso_code_639_1.name.lower(): language for language in lingua.Language.all()}
    if unknown := set(languages) - set(codes):
        raise ValueError(f"no such language: {', '.join(sorted(unknown))}; known: {', '.join(sorted(codes))}")
    if len(set(languages)) < 2:
        raise ValueError("at least two languages are needed to tell one from another")
    builder = lingua.LanguageDetectorBuilder.from_languages(*(codes[code] for code in languages))
    detector = builder.with_low_accuracy_mode().build()

    def detect(text: str) -> str | None:
        found = detector.detect_language_of(text[:MOST_CHARACTERS])
        return None if found is None else str(found.iso_code_639_1.name).lower()

    return detect


@functools.lru_cache(maxsize=8)
def load_segmenter(own: Dictionary = NO_WORDS) -> Segment:
    """Jieba's segmentation of Chinese, with its dictionary (85 MB) and a chain's own words. Takes a second, once.

    Raises MissingExtra.
    """
    frequencies, total = _frequencies()
    tokenizer = _tokenizer(dict(frequencies) if own.words else frequencies, total)
    for word, frequency in own.words:
        tokenizer.add_word(word, frequency)

    def segment(text: str) -> Iterable[str]:
        return (str(word) for word in tokenizer.cut(text))

    return segment


@functools.lru_cache(maxsize=1)
def _frequencies() -> tuple[dict[str, int], int]:
    """The words of jieba's dictionary, and how many times they were counted together."""
    demand("text", "jieba")
    jieba: Any = importlib.import_module("jieba")
    tokenizer = jieba.Tokenizer()
    # Read by hand: initialize() would read a marshal file from the shared temporary folder, which anyone may write.
    frequencies, total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    return frequencies, total


def _tokenizer(frequencies: dict[str, int], total: int) -> Any:
    jieba: Any = importlib.import_module("jieba")
    tokenizer = jieba.Tokenizer()
    tokenizer.FREQ, tokenizer.total, tokenizer.initialized = frequencies, total, True
    return tokenizer


@functools.lru_cache(maxsize=2)
def load_converter(variant: Variant) -> Convert:
    """OpenCC's conversion of Chinese to that variant, phrase by phrase (头发 is 頭髮). Raises MissingExtra."""
    demand("text", "opencc")
    opencc: Any = importlib.import_module("opencc")
    converter = opencc.OpenCC({"simplified": "t2s", "traditional": "s2t"}[variant])
    converter.convert("头发")

    def convert(text: str) -> str:
        return str(converter.convert(text))

    return convert


def words_of(text: str, segment: Segment) -> list[str]:
    """The text's words in lower case, each once, in order, at most `MOST_WORDS`; Chinese ones by `segment`.

    >>> words_of("Red shoes, red soles", str.split)
    ['red', 'shoes', 'soles']
    """
    text = text[:MOST_CHARACTERS].lower()
    pieces = segment(text) if is_chinese(text) else (text,)
    found = dict.fromkeys(word for piece in pieces for word in _WORD.findall(piece))
    return list(found)[:MOST_WORDS]


def is_chinese(text: str) -> bool:
    """Whether a text holds Chinese characters and no Japanese syllables."""
    return bool(_HAN.search(text)) and not _KANA.search(text)
