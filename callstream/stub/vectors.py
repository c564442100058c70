"""`POST /v1/embeddings`: vectors in which texts that share words lie near each other. Pure.

They are the same whatever the seed is, as those of a model are: an index that was made of them can be kept.
"""

import base64
import math
import re
from array import array
from functools import lru_cache

from callstream.stub import tokens
from callstream.stub.chance import digest
from callstream.stub.errors import bad_request
from callstream.stub.work import Json, Work

DEFAULT_DIMENSIONS = 256
MOST_DIMENSIONS = 3072
MOST_INPUTS = 2048
DEFAULT_MODEL = "stub-embedding"
SEED = 7
_WORD = re.compile(r"[\u4e00-\u9fff]|\w+")


def embedding_work(body: Json) -> Work:
    """One vector an input, of unit length. Raises ApiError 400."""
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    if (
        not isinstance(texts, list)
        or not 0 < len(texts) <= MOST_INPUTS
        or not all(isinstance(t, str) and t for t in texts)
    ):
        raise bad_request(f"input must be a text or a list of 1 to {MOST_INPUTS} texts, none of them empty")
    dimensions = body.get("dimensions", DEFAULT_DIMENSIONS)
    if isinstance(dimensions, bool) or not isinstance(dimensions, int) or not 1 <= dimensions <= MOST_DIMENSIONS:
        raise bad_request(f"dimensions must be a whole number from 1 to {MOST_DIMENSIONS}")
    form = body.get("encoding_format", "float")
    if form not in ("float", "base64"):
        raise bad_request("encoding_format must be float or base64")
    model = body.get("model", DEFAULT_MODEL)
    if not isinstance(model, str):
        raise bad_request("model must be a text")
    vectors = [embed(text, dimensions) for text in texts]
    total = sum(map(tokens.count, texts))
    data = [
        {"object": "embedding", "index": index, "embedding": _base64(vector) if form == "base64" else vector}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": total, "total_tokens": total}
    answer: Json = {"object": "list", "data": data, "model": model, "usage": usage}
    return Work(f"embedding-{digest(SEED, model, *texts).hex()[:24]}", model, answer, total)


def embed(text: str, dimensions: int) -> list[float]:
    """The sum of its words' directions, scaled to length 1."""
    total = [0.0] * dimensions
    for word in _WORD.findall(text.lower()) or [text]:
        for place, value in enumerate(_direction(word, dimensions)):
            total[place] += value
    length = math.sqrt(sum(value * value for value in total)) or 1.0
    return [value / length for value in total]


@lru_cache(maxsize=1024)
def _direction(word: str, dimensions: int) -> tuple[float, ...]:
    raw = b"".join(digest(SEED, word, block) for block in range(-(-dimensions // 32)))
    return tuple(byte - 127.5 for byte in raw[:dimensions])


def _base64(vector: list[float]) -> str:
    return base64.b64encode(array("f", vector).tobytes()).decode()
