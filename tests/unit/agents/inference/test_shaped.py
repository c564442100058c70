"""Answers of a shape: asked for, checked, asked for again."""

from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from callstream.agents.inference.call import Reply
from callstream.agents.inference.fakes import ScriptedModel
from callstream.agents.inference.schema import Schema
from callstream.agents.inference.shaped import UnusableReply, corrected, response_format, shaped
from callstream.agents.inference.step import Infer
from callstream.streams.event import Json, Usage
from callstream.streams.outcome import Bury, Forward
from tests.unit.agents.inference.test_step import MESSAGES, act, event


class Intent(BaseModel):
    model_config = ConfigDict(extra="forbid")

    label: Literal["refund", "delivery"]
    confidence: Annotated[float, Field(ge=0, le=1)]


GOOD = '{"label": "refund", "confidence": 0.9}'


def reply(text: str) -> Reply:
    return Reply(text, "stop", Usage(model="m", calls=1, tokens_in=10, tokens_out=2))


def intent(**more: object) -> Infer:
    return Infer(name="intent", pool="classifier", answer=Intent, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", [GOOD, f" {GOOD}\n", f"```json\n{GOOD}\n```", f"```\n{GOOD}\n```\n"])
def test_an_answer_of_that_shape_is_taken_with_a_fence_or_without(text: str) -> None:
    assert shaped(text, Intent) == {"label": "refund", "confidence": 0.9}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("refund", "no JSON"),
        ("", "no JSON"),
        ("[1]", "of type list"),
        ('{"label": "other", "confidence": 0.9}', "label"),
        ('{"label": "refund", "confidence": NaN}', "no JSON"),
        ('{"label": "refund", "confidence": 0.9, "why": "x"}', "why"),
        ('{"label": "refund"}', "confidence"),
        ("[" * 100_000, "no JSON"),
        ('{"label": "' + "x" * 300_000 + '"}', "no JSON"),
    ],
)
def test_another_one_is_refused_with_the_reason(text: str, told: str) -> None:
    with pytest.raises(UnusableReply, match=told):
        shaped(text, Intent)


@given(st.text(max_size=200))
def test_no_text_does_more_than_be_refused(text: str) -> None:
    with pytest.raises(UnusableReply) as refused:
        shaped(text, Intent)
    assert len(str(refused.value)) <= 1000


def test_the_schema_goes_with_the_request() -> None:
    wanted = response_format(Intent)
    assert wanted["type"] == "json_schema"
    assert wanted["json_schema"]["schema"]["properties"]["label"]["enum"] == ["refund", "delivery"]


async def test_an_answer_that_fits_is_the_output() -> None:
    model = ScriptedModel([reply(GOOD)])
    outcome = await act(intent(), model)
    assert isinstance(outcome, Forward)
    assert outcome.output == {"label": "refund", "confidence": 0.9}
    assert model.calls[0].request["response_format"] == response_format(Intent)


async def test_one_that_does_not_is_asked_for_again_with_what_was_wrong() -> None:
    model = ScriptedModel([reply("It is a refund."), reply(GOOD)])
    outcome = await act(intent(), model)
    assert isinstance(outcome, Forward)
    assert outcome.output["label"] == "refund"
    assert (outcome.usage or Usage()).calls == 2
    assert [note for note in outcome.notes if note.startswith("asked again: the answer is no JSON")]
    first, second = model.calls
    assert first.id != second.id
    assert second.request["messages"][: len(MESSAGES) + 1] == [
        *MESSAGES,
        {"role": "assistant", "content": "It is a refund."},
    ]
    assert "no JSON" in second.request["messages"][-1]["content"]


async def test_after_that_the_task_is_buried() -> None:
    outcome = await act(intent(), ScriptedModel([reply("no"), reply("no")]))
    assert isinstance(outcome, Bury)
    assert (outcome.failure.kind, (outcome.usage or Usage()).calls) == ("unusable-reply", 2)


async def test_how_often_is_for_the_step_to_say() -> None:
    assert isinstance(await act(intent(asks=1), ScriptedModel([reply("no")])), Bury)
    three = ScriptedModel([reply("no"), reply("no"), reply(GOOD)])
    assert isinstance(await act(intent(asks=3), three), Forward)


async def test_what_the_step_or_its_request_sets_wins() -> None:
    model = ScriptedModel([reply(GOOD)])
    await act(intent(params={"response_format": {"type": "json_object"}}), model)
    assert model.calls[0].request["response_format"] == {"type": "json_object"}


def test_either_a_shape_or_a_parse() -> None:
    with pytest.raises(ValueError, match="either answer or parse"):
        intent(parse=lambda text, _: {"text": text})


def test_a_request_without_messages_is_sent_as_it_is() -> None:
    request: Json = {"input": "x"}
    assert corrected(request, "a", "b") == request


COPY: Json = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "maxLength": 9}}}


def templated(answer: object = None) -> dict[str, Json]:
    return {"prompt": {"messages": MESSAGES, **({} if answer is None else {"answer": answer})}}


async def test_the_schema_of_a_template_is_the_shape_of_the_answer() -> None:
    # given a prompt whose template has a schema, and a model that heeds it the second time
    model = ScriptedModel([reply('{"text": "A very fine mug."}'), reply('{"text": "A mug."}')])
    step = Infer(name="copy", pool="copywriter", answer="prompt")
    # when it is asked
    outcome = await act(step, model, event(templated({"name": "wear zh", "schema": COPY})))
    # then the output is the object, and the model was told what was wrong
    assert isinstance(outcome, Forward)
    assert outcome.output == {"text": "A mug."}
    assert outcome.usage is not None
    assert outcome.usage.calls == 2
    first, second = (call.request for call in model.calls)
    told = {"name": "wear-zh", "schema": COPY, "strict": False}
    assert first["response_format"] == second["response_format"] == {"type": "json_schema", "json_schema": told}
    assert "text: " in second["messages"][-1]["content"]
    assert "9 characters" in second["messages"][-1]["content"]


async def test_a_template_without_a_schema_has_a_text() -> None:
    model = ScriptedModel([reply("A mug.")])
    outcome = await act(Infer(name="copy", pool="copywriter", answer="prompt"), model, event(templated()))
    assert isinstance(outcome, Forward)
    assert outcome.output == {"text": "A mug.", "finish_reason": "stop"}
    assert "response_format" not in model.calls[0].request


@pytest.mark.parametrize("answer", ["text", {"schema": []}, {"schema": {"type": "strin"}}])
async def test_a_schema_that_cannot_be_used_buries_the_task(answer: object) -> None:
    model = ScriptedModel([reply("A mug.")])
    outcome = await act(Infer(name="copy", pool="copywriter", answer="prompt"), model, event(templated(answer)))
    assert isinstance(outcome, Bury)
    assert outcome.failure.kind == "no-prompt"
    assert outcome.failure.message.startswith("the shape of the answer, in the output of step 'prompt': ")
    assert model.calls == []


def test_a_closed_schema_is_one_to_be_enforced() -> None:
    assert response_format(Schema({**COPY, "additionalProperties": False}))["json_schema"]["strict"] is True
