"""How fast one core prepares and judges texts.

    python -m benchmarks.content

Word matching is measured as the requirement has it, 100,000 words over folded text, and again with the folding and all
other rules; the steps as a task meets them, on short texts. Sizes are of the text in UTF-8.
"""

import asyncio
import json
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

from callstream.agents.moderation import Matcher, Moderate, ModerationRules, default_rules, simplified
from callstream.agents.moderation.measure import load_labelled
from callstream.agents.moderation.normalise import view
from callstream.agents.moderation.rulesfile import judge_of
from callstream.agents.prepare import ChoosePrompt, Normalise, PhotoOptions
from callstream.agents.prepare.vision import look
from callstream.agents.tools import Tools
from callstream.streams.event import Body, Event, Submission
from callstream.streams.fakes import MemoryCell

WORDS = 100_000
SECONDS = 3.0
EXAMPLE = Path(__file__).parents[1] / "examples" / "product-copy"
TEXTS = load_labelled(Path(__file__).parent / "data/moderation.toml").texts


def body(text: str) -> Body:
    """A task of which that is the title."""
    return Body(submission=Submission(chain="shop", input={"title": text}), digest="0" * 64)


def a_rate(work: Callable[[], object]) -> float:
    """How often a second of processor time `work` is done."""
    work()
    times, began = 0, time.process_time()
    while (passed := time.process_time() - began) < SECONDS:
        work()
        times += 1
    return times / passed


def words(count: int, seed: int = 7) -> tuple[str, ...]:
    """As many different words, half Latin ones of 4 to 10 letters, half of 2 to 4 Chinese characters."""
    random_ = random.Random(seed)
    found: set[str] = set()
    while len(found) < count:
        if len(found) % 2:
            found.add("".join(random_.choices("abcdefghijklmnopqrstuvwxyz", k=random_.randint(4, 10))))
        else:
            found.add("".join(chr(random_.randrange(0x4E00, 0x9FA5)) for _ in range(random_.randint(2, 4))))
    return tuple(sorted(found))


def matching() -> None:
    """100,000 words over long texts."""
    listed = {"id": "w", "category": "c", "action": "hold", "words": words(WORDS)}
    rules = ModerationRules.model_validate({"words": [listed], "length": {"most_characters": 200_000}})
    began = time.process_time()
    matcher = Matcher(rules, simplified())
    print(f"{WORDS:,} words made ready in {time.process_time() - began:.1f} s")
    by_language = {name: " ".join(one.text for one in TEXTS if one.language == name) * 4 for name in ("zh", "en")}
    for name, text in {**by_language, "mixed": " ".join(one.text for one in TEXTS) * 2}.items():
        size, folded = len(text.encode()), view(text, simplified())
        folded_size = len(folded.text.encode())
        matching_alone = folded_size * a_rate(partial(matcher.word_hits, folded))
        whole = size * a_rate(partial(matcher.found, text))
        print(f"{name:6} {matching_alone / 1e6:6.1f} MB/s of folded text, {whole / 1e6:6.1f} MB/s with the folding")


def judging() -> None:
    """The rules that ship, over short texts."""
    by_rules = judge_of(default_rules())
    size = sum(len(one.text.encode()) for one in TEXTS)

    def judge() -> None:
        for one in TEXTS:
            by_rules.judge({"": one.text})

    rate = len(TEXTS) * a_rate(judge)
    print(f"rules that ship: {rate:,.0f} texts/s, {rate * size / len(TEXTS) / 1e6:.1f} MB/s")


async def steps() -> None:
    """The steps as a task meets them."""
    tools, cell = cast(Tools, None), MemoryCell()
    events = [Event("acme", f"t-{number}", "shop", 1, 1, body(one.text)) for number, one in enumerate(TEXTS)]
    for step in (Normalise(), ChoosePrompt(EXAMPLE / "prompts"), Moderate()):
        await step.open(tools)
        for event in events:
            await step.act(event, cell)
        done, began = 0, time.process_time()
        while (passed := time.process_time() - began) < SECONDS:
            for event in events:
                await step.act(event, cell)
            done += len(events)
        print(f"step {step.name}: {done / passed:,.0f} texts/s")


def photos() -> None:
    """The photos of the example: opened, turned, read by OCR on one thread, colours and sharpness judged."""
    lines = (EXAMPLE / "products.jsonl").read_text("utf-8").splitlines()
    paths = sorted({EXAMPLE / path for line in lines if (path := json.loads(line)["input"].get("photo"))})
    pictures = [path.read_bytes() for path in paths]
    options = PhotoOptions()

    def look_at_all() -> None:
        for data in pictures:
            look(data, options)

    rate = len(pictures) * a_rate(look_at_all)
    print(f"photos of the example ({len(pictures)}): {rate:.1f} photos/s")


if __name__ == "__main__":
    photos()
    matching()
    judging()
    asyncio.run(steps())
