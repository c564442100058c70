"""What does not fit is told as people see it: places of their document, and no regular expression."""

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StringConstraints, TypeAdapter, ValidationError

from callstream.streams.event import Submission
from callstream.streams.findings import describe, findings_of, in_words
from callstream.streams.keys import GivenId, Tenant


class Part(BaseModel):
    """What may stand in a list."""

    size: StrictInt


class Given(BaseModel):
    """A document of every kind of place."""

    model_config = ConfigDict(extra="forbid")

    x: StrictInt | Annotated[str, StringConstraints(strict=True, max_length=3)] | None = None
    parts: list[Part | Annotated[str, StringConstraints(strict=True)]] = []
    named: dict[Annotated[str, StringConstraints(max_length=3)], StrictInt] = {}
    few: Annotated[tuple[str, ...], Field(min_length=1, max_length=2)] = ("a",)
    some: Annotated[dict[str, int], Field(min_length=1)] = {"a": 1}
    id: GivenId = "a"
    step: str = Field("a", alias="from")


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"x": 1.5}, {"x": "Input should be a valid integer or a valid string"}),
        ({"x": "long"}, {"x": "Input should be a valid integer; or: String should have at most 3 characters"}),
        ({"parts": ["a", 7]}, {"parts.1": "Input should be an object or a valid string"}),
        ({"parts": [{}]}, {"parts.0.size": "Field required", "parts.0": "Input should be a valid string"}),
        ({"parts": {}}, {"parts": "Input should be a list"}),
        ({"named": {"a": "b"}}, {"named.a": "Input should be a valid integer"}),
        ({"named": {"long": 1}}, {"named.long": "String should have at most 3 characters"}),
        ({"int": 1}, {"int": "Extra inputs are not permitted"}),
        ({"from": 1}, {"from": "Input should be a valid string"}),
        ({"id": "a/b"}, {"id": "must be 1 to 128 letters, digits, '.', '_' or '-', a letter or digit first"}),
        ({"id": "a~1.1"}, {"id": "must not contain '~': ids with it are of sub-tasks, replays and shadow copies only"}),
        ([], {"": "Input should be an object"}),
        ({"few": []}, {"few": "List should have at least 1 item, not 0"}),
        ({"few": ["a", "b", "c"]}, {"few": "List should have at most 2 items, not 3"}),
        ({"some": {}}, {"some": "Object should have at least 1 item, not 0"}),
    ],
)
def test_a_place_is_one_of_the_document_and_told_once(document: Any, told: dict[str, str]) -> None:
    with pytest.raises(ValidationError) as refused:
        Given.model_validate(document)
    found = {".".join(map(str, one.path)): one.detail for one in findings_of(refused.value, document)}
    assert found == told
    assert all(detail in describe(refused.value, document) for detail in told.values())


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$", "must be 1 to 64 letters, digits, '_' or '-', a letter or digit first"),
        (r"^[0-9a-f]{64}$", "must be 64 digits or letters from a to f"),
        (r"^[a-z]{2}$", "must be 2 small letters"),
        (r"^[a-z0-9-]{1,40}$", "must be 1 to 40 small letters, digits or '-'"),
        (r"^https?://[^\s]+$", "must be a URL that begins with http:// or https:// and has no spaces"),
        (r"^[^a]{2}$", r"must match the regular expression ^[^a]{2}$"),
        (r"^[\d]{2}$", r"must match the regular expression ^[\d]{2}$"),
        (r"^4\.\d$", r"must match the regular expression ^4\.\d$"),
    ],
)
def test_the_usual_patterns_have_words(pattern: str, words: str) -> None:
    assert in_words(pattern) == words


@pytest.mark.parametrize(("model", "given"), [(Tenant, "a b"), (GivenId, "a b")])
def test_no_name_of_callstreams_own_is_told_of_by_its_pattern(model: Any, given: str) -> None:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(model).validate_python(given)
    assert "regular expression" not in describe(refused.value)


def test_a_callback_says_what_it_takes() -> None:
    with pytest.raises(ValidationError) as refused:
        Submission(chain="shop", input={}, callback="ftp://x")
    assert "callback: must be a URL that begins with http:// or https://" in describe(refused.value)
