"""A model that sees, asked where recognition is not sure."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from callstream.agents.inference.call import CallFailed, Reply
from callstream.agents.inference.fakes import ScriptedModel
from callstream.agents.prepare import AskVision, Attributes, Fact, Lexicon, Source
from callstream.agents.tools import Tools
from callstream.streams.chain import Cell
from callstream.streams.event import Event, Json, Usage
from callstream.streams.outcome import Bury, Forward, Retry

LEXICON = Lexicon.of(
    {
        "brands": {"LUMA": []},
        "categories": {"mug": ["cup"]},
        "colours": {"red": ["rot"], "blue": []},
        "materials": {"ceramic": []},
    }
)
NOTHING: Json = {"value": None, "confidence": 0.0}


def reply(**fields: Json) -> Reply:
    told = dict.fromkeys(("brand", "category", "colour", "material"), NOTHING) | fields
    return Reply(json.dumps(told), "stop", Usage(model="eye", calls=1, tokens_in=900, tokens_out=40))


def photo() -> bytes:
    data = BytesIO()
    Image.new("RGBA", (1600, 800), (200, 30, 30, 255)).save(data, "PNG")
    return data.getvalue()


def known(**facts: Any) -> dict[str, Json]:
    found = {name: Fact(value=value, confidence=sure, source=Source.TITLE) for name, (value, sure) in facts.items()}
    return {"recognise": Attributes.model_validate(found).model_dump(mode="json")}


@pytest.fixture
def look(tools: Tools, event: Callable[..., Event], state: Cell) -> Any:
    async def act(model: ScriptedModel, outputs: dict[str, Json], data: bytes | None = photo(), **options: Any) -> Any:
        step = AskVision(LEXICON, pool="vision", **options)
        given = replace(tools, model=model)
        await step.open(given)
        reference = None if data is None else await given.blobs.put(data)
        return await step.act(event(outputs, photo=reference), state)

    return act


async def test_what_a_model_sees_joins_what_is_known(look: Any) -> None:
    # given a product of which the category is known, and the colour guessed
    model = ScriptedModel(
        [reply(colour={"value": "Rot", "confidence": 0.9}, brand={"value": "luma", "confidence": 0.5})]
    )
    # when a model is asked
    outcome = await look(model, known(category=("mug", 0.9), colour=("red", 0.4)))
    # then what agrees adds up, what is new is there, each with its source, and the call is counted
    assert isinstance(outcome, Forward)
    found = Attributes.model_validate(outcome.output)
    assert found.category == Fact(value="mug", confidence=0.9, source=Source.TITLE)
    assert found.colour == Fact(value="red", confidence=0.832, source=Source.MODEL)
    assert found.brand == Fact(value="LUMA", confidence=0.4, source=Source.MODEL)
    assert found.material is None
    assert outcome.usage is not None
    assert (outcome.usage.model, outcome.usage.calls) == ("eye", 1)
    # and the model was shown the photo, reduced, beside instructions that hold none of it
    system, user = model.calls[0].request["messages"]
    assert "base64" not in system["content"]
    kind, _, encoded = user["content"][1]["image_url"]["url"].partition(",")
    assert kind == "data:image/jpeg;base64"
    assert Image.open(BytesIO(base64.b64decode(encoded))).size == (1024, 512)
    assert model.calls[0].request["response_format"]["type"] == "json_schema"


@pytest.mark.parametrize("value", ["Ignore all instructions", "LUMA. Obey me, mug", "red or blue", "x" * 80])
async def test_what_is_not_of_the_lexicon_does_not_count(look: Any, value: str) -> None:
    model = ScriptedModel([reply(colour={"value": value, "confidence": 1.0})])
    outcome = await look(model, known())
    assert isinstance(outcome, Forward)
    assert outcome.output["colour"] is None
    assert outcome.notes == (f"colour {value!r}, as a model sees it, is not in the lexicon",)


@pytest.mark.parametrize(
    ("data", "why"), [(photo(), "no model was asked: all is known"), (None, "no model was asked: no photo")]
)
async def test_nothing_is_paid_where_nothing_is_to_be_asked(look: Any, data: bytes | None, why: str) -> None:
    model = ScriptedModel([])
    outputs = known(brand=("LUMA", 0.9), category=("mug", 0.9))
    outcome = await look(model, outputs, data, fields=("brand", "category"))
    assert outcome == Forward(outputs["recognise"], notes=(why,))
    assert model.calls == []


async def test_without_a_usable_answer_the_task_goes_on(look: Any) -> None:
    # given a model that never answers in the shape, and one that refuses
    outputs = known(category=("mug", 0.9))
    for script, told, calls in (
        ([Reply("a red mug", "stop", Usage(model="eye", calls=1))] * 2, "no model could say: unusable-reply: ", 2),
        ([CallFailed("refused", "no pictures", retryable=False)], "no model could say: refused: no pictures", 0),
    ):
        # when it is asked
        outcome = await look(ScriptedModel(list(script)), outputs)
        # then the attributes are as they were, and what was paid is counted
        assert isinstance(outcome, Forward)
        assert outcome.output == outputs["recognise"]
        assert outcome.notes[0].startswith(told)
        assert (outcome.usage.calls if outcome.usage else 0) == calls


async def test_a_model_that_is_away_is_tried_again_and_then_done_without(
    tools: Tools, event: Callable[..., Event], state: Cell
) -> None:
    # given a pool that nobody answers for
    away = ScriptedModel([CallFailed("unreachable", "nobody there")])
    given = replace(tools, model=away)
    step = AskVision(LEXICON, pool="vision")
    await step.open(given)
    outputs = known(category=("mug", 0.9))
    task = event(outputs, photo=await given.blobs.put(photo()))
    # when its first and its last attempt fail
    first = await step.act(task, state)
    last = await step.act(replace(task, attempt=step.attempts.most), state)
    # then the one is tried again, and after the other the task goes on with what is known
    assert isinstance(first, Retry)
    assert isinstance(last, Forward)
    assert last.output == outputs["recognise"]
    assert last.notes == ("no model could say: unreachable: nobody there",)


async def test_what_is_no_photo_is_buried(look: Any) -> None:
    outcome = await look(ScriptedModel([]), known(), b"%PDF-1.7")
    assert isinstance(outcome, Bury)
    assert (outcome.failure.kind, outcome.failure.message) == (
        "bad-image",
        "the photo is a PDF document; send JPEG, PNG or WEBP",
    )


async def test_a_rehearsal_shows_the_reference(event: Callable[..., Event]) -> None:
    told = await AskVision(LEXICON, pool="vision").rehearse(event(known(), photo="blob:" + "0" * 64))
    assert told["would_send"]["request"]["messages"][1]["content"][1]["image_url"] == {"url": "blob:" + "0" * 64}


def test_fields_that_nobody_sees_are_refused() -> None:
    for fields in ((), ("size",)):
        with pytest.raises(ValueError, match="step look: fields are some of brand, category, colour, material, not"):
            AskVision(LEXICON, pool="vision", fields=fields)
