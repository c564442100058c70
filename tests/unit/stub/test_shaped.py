"""Answers that the stub makes by a schema fit it."""

from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from callstream.agents.inference.shaped import response_format
from callstream.agents.inference.shaped import shaped as read
from callstream.stub.chat import chat_work
from callstream.stub.errors import ApiError
from callstream.stub.shaped import schema_of, shaped


class Part(BaseModel):
    name: Annotated[str, Field(max_length=20)]
    count: Annotated[int, Field(ge=1, le=9)]


class Told(BaseModel):
    label: Literal["refund", "late delivery", "other"]
    confidence: Annotated[float, Field(ge=0, le=1)]
    urgent: bool
    note: str | None
    kind: Literal["x"]
    parts: Annotated[list[Part], Field(min_length=2)]


SCHEMA = Told.model_json_schema()


@given(st.text(max_size=300), st.integers(min_value=0, max_value=2**31))
def test_every_answer_fits_its_schema_and_is_the_same_again(text: str, seed: int) -> None:
    found = shaped(SCHEMA, text, seed)
    Told.model_validate(found)
    assert shaped(SCHEMA, text, seed) == found


def test_a_value_whose_words_the_text_has_is_taken() -> None:
    for seed in range(20):
        assert Told.model_validate(shaped(SCHEMA, "Where is my delivery?", seed)).label == "late delivery"


def test_a_chat_request_with_a_schema_is_answered_by_it() -> None:
    body: dict[str, object] = {
        "messages": [{"role": "user", "content": "A refund, please."}],
        "response_format": response_format(Told),
    }
    text = chat_work(body, 1, 0).text or ""
    assert read(text, Told)["label"] == "refund"


@pytest.mark.parametrize("asked", [None, {"type": "json_object"}, {"type": "text"}, "json"])
def test_without_a_schema_there_is_none(asked: object) -> None:
    assert schema_of(asked) is None


@pytest.mark.parametrize("schema", [{}, {"type": "thing"}, {"$ref": "#/$defs/none"}, {"$ref": "#"}])
def test_a_schema_that_is_not_understood_is_refused(schema: dict[str, object]) -> None:
    with pytest.raises(ApiError, match="not understood"):
        shaped(schema, "x", 1)


def test_a_schema_that_contains_itself_is_refused() -> None:
    with pytest.raises(ApiError, match="not understood"):
        shaped({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "x", 1)


@pytest.mark.parametrize("asked", [{"type": "json_schema"}, {"type": "json_schema", "json_schema": {"schema": 1}}])
def test_a_schema_has_to_be_given(asked: object) -> None:
    with pytest.raises(ApiError, match="must be an object"):
        schema_of(asked)


class Translation(BaseModel):
    title: str
    description: Annotated[str, Field(max_length=60)]


def test_a_translation_with_a_schema_is_of_each_line_with_the_terms_that_are_demanded() -> None:
    body: dict[str, object] = {
        "messages": [
            {"role": "system", "content": "Translate the user's text into Italian. Use these:\n- stoneware = gres"},
            {"role": "user", "content": "Title: Blue stoneware mug\nDescription: Made of Stoneware."},
        ],
        "response_format": response_format(Translation),
    }
    told = read(chat_work(body, 1, 0).text or "", Translation)
    assert told == {"title": "[it] Blue gres mug", "description": "[it] Made of gres."}
