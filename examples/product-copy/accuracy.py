"""Prints how often the example's products are recognised, and how much of their labels is read; lists every miss.

    python examples/product-copy/accuracy.py

Needs the extras `text` and `vision`, and neither a broker nor a model. `labels.json` has what is printed on each photo.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from callstream.agents.prepare.attributes import Attributes, Line, PhotoOptions, Seen
from callstream.agents.prepare.facts import Texts, attributes_of, brand, size
from callstream.agents.prepare.lexicon import Lexicon
from callstream.agents.prepare.terms import squeeze
from callstream.agents.prepare.text import plain
from callstream.agents.prepare.vision import look
from callstream.streams.event import Json

HERE = Path(__file__).parent
FIELDS = ("brand", "category", "colour")
READ = ("label line", "label brand", "label size")
"""Told of the photo alone: each line that is printed on it, and the brand and size among these."""


@dataclass(frozen=True)
class Judged:
    """One field of one product: what it is, what was recognised."""

    product: str
    field: str
    expected: str | None
    found: str | None
    confidence: float

    @property
    def right(self) -> bool:
        """Whether the two are the same; nothing expected means nothing found."""
        return self.expected == self.found


def look_at(record: Json, pool: Executor) -> Seen:
    """What is seen on a record's photo."""
    return pool.submit(look, (HERE / record["input"]["photo"]).read_bytes(), PhotoOptions()).result(timeout=60)


def recognise(record: Json, seen: Seen, lexicon: Lexicon, written: bool) -> Attributes:
    """The attributes of one record; without its text if `written` is False."""
    given = record["input"]
    title = plain(given["title"], 200, one_line=True).text if written else ""
    description = plain(given["description"], 4000).text if written else ""
    return attributes_of(Texts(title, description, seen.lines), seen, lexicon)


def judge(record: Json, attributes: Attributes) -> Iterator[Judged]:
    """Each field of a record that says what to expect of it."""
    for field in FIELDS:
        if field in record["expect"]:
            fact = getattr(attributes, field)
            found, confidence = (fact.value, fact.confidence) if fact else (None, 0.0)
            yield Judged(record["id"], field, record["expect"][field], found, confidence)


def judge_label(product: str, printed: list[str], seen: Seen, lexicon: Lexicon) -> Iterator[Judged]:
    """Each line that is printed on a photo, and what brand and size they say, beside what was read."""
    read = squeeze("".join(line.text for line in seen.lines))
    for line in printed:
        yield Judged(product, "label line", line, line if squeeze(line) in read else None, 0.0)
    true = Texts("", "", tuple(Line(text=line, confidence=1.0, height=0.05) for line in printed))
    shown = Texts("", "", seen.lines)
    for field, tell in (("label brand", lambda texts: brand(texts, lexicon.brands)), ("label size", size)):
        expected, found = tell(true), tell(shown)
        if expected is not None:
            value, confidence = (found.value, found.confidence) if found else (None, 0.0)
            yield Judged(product, field, expected.value, value, confidence)


def show(judged: list[Judged], console: Console) -> None:
    """A table of the fields, and one of the misses."""
    table = Table("field", "right", "of", "accuracy", title="Recognised attributes")
    for field in (*FIELDS, *READ):
        of_field = [each for each in judged if each.field == field]
        right = sum(each.right for each in of_field)
        table.add_row(field, str(right), str(len(of_field)), f"{right / max(1, len(of_field)):.0%}")
    console.print(table)
    missed = Table("product", "field", "expected", "found", "confidence", title="Missed")
    for each in judged:
        if not each.right:
            missed.add_row(each.product, each.field, str(each.expected), str(each.found), f"{each.confidence:.2f}")
    if missed.row_count:
        console.print(missed)


def main() -> int:
    """Exit code 0 unless a field is right for less than the asked share of the products."""
    parser = argparse.ArgumentParser(description="How well the example's attributes are recognised.")
    parser.add_argument("--photo-only", action="store_true", help="without title and description")
    parser.add_argument(
        "--least", type=float, default=0.0, help="accuracy of brand, category, colour below which this fails"
    )
    chosen = parser.parse_args()
    console = Console()
    lines = (HERE / "products.jsonl").read_text("utf-8").splitlines()
    records = [json.loads(line) for line in lines if line.strip()]
    lexicon = Lexicon.load(HERE / "lexicon.toml")
    labels = json.loads((HERE / "labels.json").read_text("utf-8"))
    judged: list[Judged] = []
    began = time.perf_counter()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for record in track(records, "Recognising", console=console):
            seen = look_at(record, pool)
            judged += judge(record, recognise(record, seen, lexicon, not chosen.photo_only))
            judged += judge_label(record["id"], labels[record["id"]], seen, lexicon)
    show(judged, console)
    console.print(f"{len(records)} products in {time.perf_counter() - began:.1f} s")
    shares = [[each.right for each in judged if each.field == field] for field in FIELDS]
    return 0 if all(sum(share) >= chosen.least * len(share) for share in shares) else 1


if __name__ == "__main__":
    sys.exit(main())
