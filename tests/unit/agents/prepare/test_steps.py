import importlib.util
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.machinery import ModuleSpec
from io import BytesIO
from threading import Event as Gate
from typing import Any

import pytest
from PIL import Image

from callstream.agents.prepare import Lexicon, Limit, MissingExtra, Normalise, PhotoOptions, Profile, Recognise
from callstream.agents.prepare.attributes import Attributes
from callstream.agents.tools import Tools
from callstream.streams.chain import Cell
from callstream.streams.event import Event
from callstream.streams.outcome import Bury, Forward, Retry

LEXICON = Lexicon.of({"brands": {"LUMA": []}, "categories": {"mug": []}, "colours": {"red": ["rot"]}})


def photo(colour: str = "#c81e1e", size: tuple[int, int] = (64, 64)) -> bytes:
    data = BytesIO()
    Image.new("RGB", size, colour).save(data, "PNG")
    return data.getvalue()


async def test_normalise_makes_texts_plain(event: Callable[..., Event], state: Cell, tools: Tools) -> None:
    # given a title in full width and a description with hidden characters
    step = Normalise()
    await step.open(tools)
    # when they are made plain
    outcome = await step.act(event(title="Ｒｅｄ\nmug", description="A\u200b  nice cup for coffee"), state)
    # then the output has both, language and words, and the trail says what was changed
    assert isinstance(outcome, Forward)
    assert outcome.output == {
        "title": "Red mug",
        "description": "A nice cup for coffee",
        "language": "en",
        "detected": "en",
        "words": ["red", "mug", "a", "nice", "cup", "for", "coffee"],
    }
    assert outcome.notes == (
        "title: width or compatibility forms folded",
        "title: white space collapsed",
        "description: 1 invisible or control characters removed (U+200B ×1)",
        "description: white space collapsed",
    )


async def test_the_language_asked_for_wins(event: Callable[..., Event], state: Cell, tools: Tools) -> None:
    step = Normalise()
    await step.open(tools)
    outcome = await step.act(event(title="A nice red mug for your coffee", language="de"), state)
    assert isinstance(outcome, Forward)
    assert (outcome.output["language"], outcome.output["detected"]) == ("de", "en")
    assert outcome.notes == ("language: de as asked, though the text looks like en",)


async def test_a_title_that_nobody_can_see_is_buried(event: Callable[..., Event], state: Cell, tools: Tools) -> None:
    step = Normalise()
    await step.open(tools)
    outcome = await step.act(event(title="\u200b\u2060"), state)
    assert isinstance(outcome, Bury)
    assert outcome.failure.kind == "empty-text"
    assert "title holds no visible text (title: 2 invisible" in outcome.failure.message


async def test_a_text_too_long_is_buried_where_that_is_asked(
    event: Callable[..., Event], state: Cell, tools: Tools
) -> None:
    step = Normalise(fields={"title": 200, "description": Limit(tokens=10, longer="bury")})
    await step.open(tools)
    outcome = await step.act(event(title="A mug", description="It keeps coffee warm for hours. " * 9), state)
    assert isinstance(outcome, Bury)
    assert outcome.failure.kind == "text-too-long"
    taken = "description is too long: at most 10 tokens are taken, and it would be cut"
    assert outcome.failure.message == f"{taken} from about 74 to 8 tokens after a sentence"


@pytest.mark.parametrize(
    ("chinese", "title", "expected"),
    [("simplified", "輕便跑鞋與頭髮", "轻便跑鞋与头发"), ("traditional", "轻便跑鞋和头发", "輕便跑鞋和頭髮")],
)
async def test_chinese_is_written_in_one_variant(
    event: Callable[..., Event], state: Cell, tools: Tools, chinese: Any, title: str, expected: str
) -> None:
    step = Normalise(chinese=chinese)
    await step.open(tools)
    outcome = await step.act(event(title=title, description="A red mug"), state)
    assert isinstance(outcome, Forward)
    assert (outcome.output["title"], outcome.output["description"]) == (expected, "A red mug")
    changed = sum(one != other for one, other in zip(title, expected, strict=True))
    assert outcome.notes == (f"title: Chinese written as {chinese}, {changed} characters changed",)


def test_a_variant_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="chinese is 'both'; 'simplified' and 'traditional' are known"):
        Normalise(chinese="both")  # type: ignore[arg-type]


async def test_faked_latin_letters_are_told(event: Callable[..., Event], state: Cell, tools: Tools) -> None:
    step = Normalise()
    await step.open(tools)
    outcome = await step.act(event(title="LUM\u0410 mug"), state)
    assert isinstance(outcome, Forward)
    assert outcome.output["title"] == "LUMA mug"
    assert outcome.notes == ("title: 1 letter of other scripts in Latin words made Latin (U+0410 ×1)",)


async def test_normalise_is_refused_before_it_is_opened(event: Callable[..., Event], state: Cell) -> None:
    for step in (Normalise(), Profile(), Recognise(LEXICON)):
        with pytest.raises(RuntimeError, match="before it was opened"):
            await step.act(event(title="x", user="lena", photo="blob:" + "0" * 64), state)


@pytest.mark.parametrize(
    ("user", "profile", "notes"),
    [("lena", {"language": "de", "tone": "warm"}, ()), ("nobody", {}, ("no profile",)), (None, {}, ("no user",))],
)
async def test_a_profile_is_joined(
    event: Callable[..., Event],
    state: Cell,
    tools: Tools,
    user: str | None,
    profile: dict[str, str],
    notes: tuple[str, ...],
) -> None:
    step = Profile()
    await step.open(tools)
    assert await step.act(event(user=user), state) == Forward({"user": user, "profile": profile}, notes=notes)


async def opened(tools: Tools, options: PhotoOptions | None = None) -> Recognise:
    step = Recognise(LEXICON, options=options)
    await step.open(tools)
    return step


async def test_without_a_photo_the_text_tells(event: Callable[..., Event], state: Cell, tools: Tools) -> None:
    step = await opened(tools)
    texts = {"title": "LUMA mug, red", "description": ""}
    outcome = await step.act(event({"normalise": texts}, photo=None), state)
    assert isinstance(outcome, Forward)
    attributes = Attributes.model_validate(outcome.output)
    assert attributes.brand is not None
    assert attributes.brand.value == "LUMA"
    assert attributes.picture is None
    assert outcome.notes == ("no photo: attributes are from the text alone",)


@pytest.mark.parametrize("unit", ["mug ", "x", "最", ",", ", x", "9", "1.", "1 x ", "-*", "\u200b", "\u202e"])
async def test_a_megabyte_of_one_thing_is_looked_at_in_part(
    event: Callable[..., Event], state: Cell, tools: Tools, unit: str
) -> None:
    # given a task that nobody has made plain
    step = await opened(tools)
    flood = unit * (1_000_000 // len(unit))
    # when its attributes are told, then that is done soon, and what comes out is short
    outcome = await step.act(event(title=flood, description=f"{flood}."), state)
    assert isinstance(outcome, Forward)
    assert len(str(outcome.output)) < 2_000


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"%PDF-1.7 x", "the photo is a PDF document; send JPEG, PNG or WEBP"),
        (photo(size=(8, 8)), "the photo has 8 × 8 pixels; at least 32 × 32 are needed"),
        (b"x" * 5000, "the photo has 5,000 bytes; at most 4,096 are opened"),
    ],
)
async def test_what_is_no_photo_is_buried(
    event: Callable[..., Event], state: Cell, tools: Tools, data: bytes, message: str
) -> None:
    step = await opened(tools, PhotoOptions(max_bytes=4096))
    outcome = await step.act(event(title="x", photo=await tools.blobs.put(data)), state)
    assert isinstance(outcome, Bury)
    assert (outcome.failure.kind, outcome.failure.message) == ("bad-image", message)


async def test_a_photo_that_is_gone_is_buried(event: Callable[..., Event], state: Cell, tools: Tools) -> None:
    step = await opened(tools)
    outcome = await step.act(event(title="x", photo="blob:" + "0" * 64), state)
    assert isinstance(outcome, Bury)
    assert outcome.failure.kind == "photo-missing"


async def test_a_photo_that_takes_too_long_is_tried_again(
    event: Callable[..., Event], state: Cell, tools: Tools
) -> None:
    # given a pool whose only worker is busy
    gate = Gate()
    busy = ThreadPoolExecutor(1)
    busy.submit(gate.wait, 30)
    step = await opened(replace(tools, workers=busy), PhotoOptions(timeout_seconds=0.05))
    # when a photo is to be looked at
    outcome = await step.act(event(title="x", photo=await tools.blobs.put(photo())), state)
    gate.set()
    # then the task will be tried again
    assert isinstance(outcome, Retry)
    assert outcome.failure.kind == "recognition-timeout"


async def test_what_was_loaded_before_is_not_loaded_at_open(
    event: Callable[..., Event], state: Cell, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given steps that were loaded before an event loop ran
    normalise, recognise = Normalise(), Recognise(LEXICON)
    normalise.load()
    recognise.load()
    # when they are opened, then nothing is asked of the libraries again
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    await normalise.open(tools)
    await recognise.open(tools)
    assert isinstance(await normalise.act(event(title="A mug"), state), Forward)


async def test_the_missing_extra_is_named_at_open(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    # given an installation without rapidocr
    find = importlib.util.find_spec

    def find_spec(name: str) -> ModuleSpec | None:
        return None if name == "rapidocr" else find(name)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    # when the step is opened
    with pytest.raises(MissingExtra, match=r"rapidocr not installed; run: pip install 'callstream\[vision\]'"):
        await Recognise(LEXICON).open(tools)
