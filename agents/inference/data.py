"""Answers that are data and no text: embeddings and moderations, checked and brought into one form. Pure."""

import math
from typing import Any

from callstream.agents.inference.failures import Kind, failed
from callstream.streams import strict_json

MOST_INPUTS = 2048
MOST_DIMENSIONS = 16_384
MOST_CATEGORIES = 200
MOST_NAME = 100


def embeddings_of(body: dict[str, Any]) -> str:
    """`{"embeddings": [[…], …]}` as JSON, in the order of the inputs. Raises CallFailed."""
    data = body.get("data")
    if not isinstance(data, list) or not 0 < len(data) <= MOST_INPUTS or not all(isinstance(one, dict) for one in data):
        raise failed(Kind.BROKEN_REPLY, "the answer has no data")
    if sorted(_index(one) for one in data) != list(range(len(data))):
        raise failed(Kind.BROKEN_REPLY, "the answer's data are not one for each input")
    vectors = [one.get("embedding") for one in sorted(data, key=_index)]
    if not all(_is_vector(vector) for vector in vectors) or len({len(vector) for vector in vectors}) != 1:
        raise failed(Kind.BROKEN_REPLY, "the answer has an embedding that is no list of numbers, or of another length")
    return strict_json.dumps({"embeddings": vectors}).decode()


def results_of(body: dict[str, Any]) -> str:
    """`{"results": [{"flagged", "categories", "scores"}, …]}` as JSON, in the order of inputs. Raises CallFailed."""
    results = body.get("results")
    if not isinstance(results, list) or not 0 < len(results) <= MOST_INPUTS:
        raise failed(Kind.BROKEN_REPLY, "the answer has no results")
    return strict_json.dumps({"results": [_result(one) for one in results]}).decode()


def _result(given: Any) -> dict[str, Any]:
    if not isinstance(given, dict) or not isinstance(given.get("flagged"), bool):
        raise failed(Kind.BROKEN_REPLY, "the answer has a result that does not say whether it is flagged")
    categories, scores = given.get("categories"), given.get("category_scores")
    named = {name for name, found in _members(categories) if found is True}
    return {
        "flagged": given["flagged"],
        "categories": sorted(named),
        "scores": {name: float(score) for name, score in _members(scores) if _is_number(score)},
    }


def _members(given: Any) -> list[tuple[str, Any]]:
    members = given.items() if isinstance(given, dict) else ()
    return [(name, value) for name, value in members if len(name) <= MOST_NAME][:MOST_CATEGORIES]


def _index(one: dict[str, Any]) -> int:
    index = one.get("index")
    return index if isinstance(index, int) and not isinstance(index, bool) else -1


def _is_vector(vector: Any) -> bool:
    return isinstance(vector, list) and 0 < len(vector) <= MOST_DIMENSIONS and all(map(_is_number, vector))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
