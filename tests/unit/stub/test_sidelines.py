"""Embeddings and moderation."""

import base64
import math
from array import array
from typing import Any

import pytest

from callstream.stub.errors import ApiError
from callstream.stub.moderation import judge, moderation_work
from callstream.stub.vectors import embed, embedding_work


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_vectors_are_of_unit_length_and_near_for_shared_words() -> None:
    mug, cup, boot = (embed(text, 256) for text in ("a red mug of clay", "a blue mug of clay", "hiking boots"))

    assert math.isclose(cosine(mug, mug), 1.0)
    assert cosine(mug, cup) > cosine(mug, boot) + 0.2
    assert mug == embed("a red mug of clay", 256)


def test_embeddings_come_as_numbers_or_base64() -> None:
    plain: Any = embedding_work({"input": ["one", "两"], "dimensions": 8}).answer
    packed: Any = embedding_work({"input": "one", "dimensions": 8, "encoding_format": "base64"}).answer

    assert [item["index"] for item in plain["data"]] == [0, 1]
    assert plain["usage"] == {"prompt_tokens": 2, "total_tokens": 2}
    unpacked = array("f", base64.b64decode(packed["data"][0]["embedding"]))
    assert list(unpacked) == pytest.approx(plain["data"][0]["embedding"], abs=1e-6)


@pytest.mark.parametrize(
    "body", [{}, {"input": []}, {"input": [""]}, {"input": "x", "dimensions": 0}, {"input": "x", "model": 1}]
)
def test_wrong_embedding_requests_are_refused(body: dict[str, object]) -> None:
    with pytest.raises(ApiError):
        embedding_work(body)


def test_listed_words_are_flagged_in_their_category() -> None:
    verdict: Any = judge("Cheap COCAINE here")

    assert verdict["flagged"]
    assert [name for name, found in verdict["categories"].items() if found] == ["illicit"]
    assert not judge("A bombastic mug")["flagged"]
    assert judge("这里有毒品")["flagged"]


def test_moderation_judges_each_input() -> None:
    answer: Any = moderation_work({"input": ["fine", {"type": "text", "text": "murder"}]}, 7).answer

    assert [result["flagged"] for result in answer["results"]] == [False, True]
    with pytest.raises(ApiError):
        moderation_work({"input": 5}, 7)
