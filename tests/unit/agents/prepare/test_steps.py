import importlib.util
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.machinery import ModuleSpec
from io import BytesIO
from threading import Event as Gate

import pytest
from PIL import Image

from callstream.agents.prepare import Lexicon, MissingExtra, Normalise, PhotoOptions, Profile, Recognise
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


async def test_the_missing_extra_is_named_at_open(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    # given an installation without rapidocr
    find = importlib.util.find_spec

    def find_spec(name: str) -> ModuleSpec | None:
        return None if name == "rapidocr" else find(name)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    # when the step is opened
    with pytest.raises(MissingExtra, match=r"rapidocr not installed; run: pip install 'callstream\[vision\]'"):
        await Recognise(LEXICON).open(tools)
