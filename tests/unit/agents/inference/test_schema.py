"""Shapes of answers that are written down as JSON schemas."""

import pytest

from callstream.agents.inference.schema import BadSchema, Schema
from callstream.streams.event import Json

COPY: Json = {
    "type": "object",
    "additionalProperties": False,
    "required": ["text"],
    "properties": {"text": {"type": "string", "maxLength": 5}, "stars": {"minimum": 1}},
}


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        ({"text": "ok"}, ""),
        ({}, '"text" is a required property'),
        ({"text": 1}, 'text: 1 is not of type "string"'),
        ({"text": "ok", "stars": 0}, "stars: 0 is less than the minimum of 1"),
        ({"text": "ok", "more": 1}, "Additional properties are not allowed ('more' was unexpected)"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(found: Json, wrong: str) -> None:
    assert Schema(COPY).wrong(found) == wrong


def test_what_is_told_is_bounded() -> None:
    many = Schema({"type": "object", "additionalProperties": {"type": "integer"}})
    assert len(many.wrong({f"member-{number}": "x" * 1000 for number in range(1000)})) <= 1100


def test_a_pattern_runs_in_linear_time() -> None:
    evil = Schema({"type": "object", "properties": {"a": {"pattern": "^(a+)+$"}}})
    assert evil.wrong({"a": "a" * 100_000 + "b"}).startswith("a: ")


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({}, "the schema is of an object"),
        ({"type": "object", "properties": {"a": {"type": "strin"}}}, "cannot be used"),
        ({"type": "object", "properties": {"a": {"pattern": "(?=x)"}}}, 'is not a "regex"'),
        ({"type": "object", "$ref": "http://127.0.0.1:1/x"}, r'has "\$ref": write what it refers to in its place'),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}}, r'has "\$ref"'),
        ({"type": "object", "$schema": "http://127.0.0.1:1/x"}, "cannot be used"),
        ({"type": "object", "description": "x" * 40_000}, "40,0.. bytes; at most 32,768"),
        ({"type": "object", "maximum": float("inf")}, "the schema is"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(given: Json, wrong: str) -> None:
    with pytest.raises(BadSchema, match=wrong):
        Schema(given)


def test_whether_it_is_closed() -> None:
    assert Schema(COPY).closed
    assert not Schema({"type": "object"}).closed
