"""A gateway in the middle of its day, in memory: tasks in every state, tables, latency windows; seeded."""

import math
import random
from typing import Any, ClassVar

from pydantic import BaseModel, Field

from callstream.streams.chain import Chain, Chains, Step
from callstream.streams.event import Submission
from callstream.streams.keys import task_key
from callstream.streams.submission import Order, new_event
from callstream.web.fake import FakePort
from callstream.web.port import LatencyWindow
from tests.support.clock import Clock

EVIL = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title='taken'\">"


class Product(BaseModel):
    """Input of the chain."""

    title: str = Field(description="What the seller calls it")
    photo: str | None = Field(default=None, description="A picture, as POST /v1/blobs names it")
    language: str = Field(default="en", description="Language of the copy")


def step(named: str, on: str) -> Step:
    """A step that is only looked at."""

    class Shown(Step):
        name = named
        service: ClassVar[str] = on

    return Shown()


STEPS = (
    ("prepare", "prepare"),
    ("write", "infer"),
    ("moderate", "moderate"),
    ("translate", "translate"),
    ("deliver", "deliver"),
)
CHAINS = Chains(
    [
        Chain("product-copy", Product, tuple(step(*each) for each in STEPS), version=3),
        Chain("photo-tags", Product, (step("recognise", "prepare"), step("tag", "infer"), step("deliver", "deliver"))),
    ]
)
THINGS = (
    "stoneware-mug",
    "linen-shirt",
    "desk-lamp",
    "walnut-tray",
    "trail-shoe",
    "tea-tin",
    "wool-scarf",
    "steel-bottle",
)


async def day(now: float, tasks: int = 60) -> FakePort:
    """A port with that many tasks, the latest at `now` (epoch seconds)."""
    chance, clock = random.Random(7), Clock(now)
    port = FakePort(CHAINS, clock)
    for number in range(tasks):
        clock.now = now - (tasks - number) * 7.3
        await _task(port, clock, chance, number)
    clock.now = now
    _other_tables(port, chance, now)
    port.windows = {
        "1m": _windows(chance, now, 60, 45),
        "10m": _windows(chance, now, 600, 36),
        "1h": _windows(chance, now, 3600, 30),
    }
    return port


async def _task(port: FakePort, clock: Clock, chance: random.Random, number: int) -> None:
    chain = CHAINS.current("product-copy" if number % 4 else "photo-tags")
    name = f"{chance.choice(THINGS)}-{number:03d}"
    given = Submission(
        chain=chain.name, input={"title": name.replace("-", " "), "language": chance.choice(["en", "de", "zh"])}
    )
    await port.submit(new_event(given, Order("default", name), clock()))
    left = 59 - number
    for at in range(len(chain.steps) if left > 4 else max(0, 4 - left)):
        infer = chain.steps[at].service == "infer"
        clock.now += chance.lognormvariate(0.6, 0.5) if infer else chance.uniform(0.01, 0.2)
        tokens: dict[str, Any] = (
            {"model": "glm-4-flash", "tokens_in": 412, "tokens_out": chance.randint(60, 220)} if infer else {}
        )
        attempts = 2 if chance.random() < 0.1 else 1
        port.advance("default", name, attempts=attempts, notes=["retried after 429"] if attempts > 1 else [], **tokens)
        if at == 2 and number % 11 == 5:
            port.hold("default", name, "claims that it heals: “cures back pain”")
            return
    if left > 4:
        _end(port, name, number)


def _end(port: FakePort, name: str, number: int) -> None:
    if number % 13 == 6:
        failure = {"kind": "bad-image", "step": "prepare", "message": "the photo is a PDF document, not a picture"}
        port.end("default", name, "failed", failure=failure)
    elif number % 17 == 8:
        port.end(
            "default",
            name,
            "rejected",
            failure={"kind": "forbidden-words", "step": "moderate", "message": "two words on the list"},
        )
    else:
        copy = {
            "headline": name.split("-")[0].title(),
            "text": f"A {name.replace('-', ' ')} for every day.",
            "html": EVIL,
        }
        port.end(
            "default", name, result={"copy": copy, "attributes": {"colours": ["#7a4b2a", "#e9e4d8"], "size": "350 ml"}}
        )


def _other_tables(port: FakePort, chance: random.Random, now: float) -> None:
    port.services |= {
        "receipts": "infer",
        "seen": "intake",
        "profiles": "prepare",
        "reviews": "review",
        EVIL: "gateway",
    }
    receipts = {}
    for number in range(230):
        key = task_key("default", f"{chance.choice(THINGS)}-{number:03d}")
        receipts[key] = {
            "state": "answered",
            "started": now - number * 9.0,
            "answered": now - number * 9.0 + 1.8,
            "seconds": 1.8,
            "model": "glm-4-flash",
            "answer": f"Answer {number} {EVIL}",
            "usage": {"tokens_in": 412, "tokens_out": 120, "repeated": False, "endpoint": None},
        }
    port.tables_by_name |= {
        "receipts": receipts,
        "seen": {key: {"digest": "0" * 64, "created": now} for key in receipts},
        "profiles": {b"4:acme:ada": {"language": "en", "tone": "warm"}},
        "reviews": {},
        EVIL: {EVIL.encode(): {EVIL: EVIL}, b"\xff\x00": {"bytes": True}},
    }


def _windows(chance: random.Random, now: float, size: float, count: int) -> list[LatencyWindow]:
    kinds = (
        ("write", "glm-4-flash", 1.9),
        ("tag", "glm-4v", 0.9),
        ("prepare", "", 0.12),
        ("moderate", "", 0.004),
        ("deliver", "", 0.02),
    )
    windows = []
    for step_name, model, usual in kinds:
        for number in range(count):
            if step_name == "tag" and 12 <= number < 18:
                continue
            start = now - now % size - (count - 1 - number) * size
            busy = 1 + 0.5 * math.sin(number / 5) + chance.uniform(-0.1, 0.1)
            calls = max(1, int(40 * busy * size / 60))
            p50 = usual * busy**0.4 * chance.uniform(0.92, 1.08)
            p95 = p50 * chance.uniform(1.9, 2.4)
            errors = chance.choice([0, 0, 0, 1, 2]) if model and number % 9 in (3, 4) else 0
            windows.append(
                LatencyWindow(
                    step_name, model, start, size, calls, errors, p50, p95, p95 * chance.uniform(1.2, 1.9), calls / size
                )
            )
    chance.shuffle(windows)
    return windows
