"""Answers that are embeddings or moderations."""

import json
from typing import Any

import pytest

from callstream.agents.inference.admission.tokens import Estimator
from callstream.agents.inference.answer import Bounds, reply_of
from callstream.agents.inference.call import Api, CallFailed

BOUNDS = Bounds(1_000_000, 10_000)


def read(body: Any, api: Api) -> tuple[Any, Any, tuple[str, ...]]:
    reply = reply_of(json.dumps(body).encode(), "m", "e", BOUNDS, api)
    return json.loads(reply.text), reply.usage, reply.notes


def test_embeddings_are_in_the_order_of_their_inputs() -> None:
    data = [{"index": 1, "embedding": [3, 4.5]}, {"index": 0, "embedding": [1, -2]}]
    found, usage, notes = read({"data": data, "model": "m", "usage": {"prompt_tokens": 7}}, "embeddings")
    assert found == {"embeddings": [[1, -2], [3, 4.5]]}
    assert (usage.tokens_in, usage.tokens_out, usage.calls, notes) == (7, 0, 1, ())


def test_moderations_have_one_form() -> None:
    result = {"flagged": True, "categories": {"hate": True, "violence": False}, "category_scores": {"hate": 0.9}}
    found, usage, notes = read({"results": [result, {"flagged": False}], "model": "m"}, "moderations")
    assert found["results"] == [
        {"flagged": True, "categories": ["hate"], "scores": {"hate": 0.9}},
        {"flagged": False, "categories": [], "scores": {}},
    ]
    assert (usage.tokens_in, usage.calls, notes) == (0, 1, ())


@pytest.mark.parametrize(
    ("body", "api"),
    [
        ({}, "embeddings"),
        ({"data": []}, "embeddings"),
        ({"data": [{"index": 1, "embedding": [1]}]}, "embeddings"),
        ({"data": [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [1]}]}, "embeddings"),
        ({"data": [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [1, 2]}]}, "embeddings"),
        ({"data": [{"index": 0, "embedding": ["1"]}]}, "embeddings"),
        ({"data": [{"index": 0, "embedding": [True]}]}, "embeddings"),
        ({"data": [{"index": 0, "embedding": "AAAA"}]}, "embeddings"),
        ({"data": [7]}, "embeddings"),
        ({}, "moderations"),
        ({"results": []}, "moderations"),
        ({"results": [{"flagged": "yes"}]}, "moderations"),
        ({"results": [7]}, "moderations"),
        ({"choices": [{"message": {"content": "hi"}}]}, "moderations"),
    ],
)
def test_what_is_none_is_a_broken_reply(body: Any, api: Api) -> None:
    with pytest.raises(CallFailed) as failed:
        read(body, api)
    assert failed.value.kind == "broken-reply"


def test_an_answer_larger_than_receipts_hold_is_refused() -> None:
    with pytest.raises(CallFailed) as failed:
        read({"data": [{"index": 0, "embedding": [0.123456789] * 2000}]}, "embeddings")
    assert failed.value.kind == "reply-too-long"


def test_inputs_are_reckoned_with_and_no_answer() -> None:
    estimator = Estimator()
    short, long = ({"input": ["a mug" * count]} for count in (1, 1000))
    assert estimator.reserve("m", short).tokens_out == 0
    assert estimator.reserve("m", long).tokens_in > 10 * estimator.reserve("m", short).tokens_in
