"""An index: items with their vectors, and which of them lie nearest to another vector.

Compared with every item (cosine): 100,000 items of 1,536 numbers are 600 MB and some 20 ms a text; for more, ask a
database made for it.
"""

import os
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from callstream.streams import strict_json
from callstream.streams.event import Json
from callstream.streams.strict_json import BadJson

MOST_ITEMS = 200_000
MOST_ITEM_BYTES = 16 * 1024
MOST_BYTES = 4 * 1024**3
Matrix = npt.NDArray[np.float32]


class BadIndex(ValueError):
    """An index that cannot be made, read, or asked; the message says what to do."""


@dataclass(frozen=True, eq=False)
class Index:
    """Items and their vectors of unit length, row by row, made by `model`."""

    items: tuple[Json, ...]
    vectors: Matrix
    model: str

    def nearest(self, vector: Sequence[float], most: int = 5, least: float = 0.0) -> list[tuple[int, float]]:
        """The places of at most `most` items whose cosine is at least `least`, the nearest first. Raises BadIndex."""
        if len(vector) != self.vectors.shape[1]:
            raise BadIndex(f"the text's vector has {len(vector)} numbers, those of the index {self.vectors.shape[1]}")
        scores = self.vectors @ _unit(np.asarray([vector], dtype=np.float32))[0]
        # Of equal scores the earlier item, so that the same text always has the same answer.
        order = np.argsort(-scores, kind="stable")[:most]
        return [(int(place), round(float(scores[place]), 6)) for place in order if scores[place] >= least]


def build(items: Sequence[Json], vectors: Sequence[Sequence[float]], model: str) -> Index:
    """The index of items. Raises BadIndex."""
    if not 0 < len(items) <= MOST_ITEMS:
        raise BadIndex(f"{len(items)} items; an index has 1 to {MOST_ITEMS:,}")
    if len(items) != len(vectors):
        raise BadIndex(f"{len(items)} items and {len(vectors)} vectors")
    for number, item in enumerate(items, start=1):
        if len(strict_json.dumps(item)) > MOST_ITEM_BYTES:
            raise BadIndex(f"item {number} is larger than {MOST_ITEM_BYTES:,} bytes")
    if len({len(vector) for vector in vectors}) != 1:
        raise BadIndex("the vectors are of different lengths")
    return Index(tuple(items), _unit(np.asarray(vectors, dtype=np.float32)), model)


def write(index: Index, path: Path) -> None:
    """Put the index in place of what is there, whole or not at all."""
    raw = np.frombuffer(strict_json.dumps(list(index.items)), dtype=np.uint8)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        np.savez(file, vectors=index.vectors, items=raw, model=np.asarray(index.model))
    try:
        os.chmod(file.name, 0o644)
        os.replace(file.name, path)
    except OSError:
        os.unlink(file.name)
        raise


def read(path: Path) -> Index:
    """The index of a file. Raises BadIndex naming the file."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise BadIndex(f"{path}: larger than {MOST_BYTES:,} bytes")
        with np.load(path, allow_pickle=False) as found:
            vectors, raw, model = found["vectors"], found["items"], str(found["model"])
    except OSError as error:
        raise BadIndex(
            f"{path}: cannot be read: {error.strerror or error}; `callstream match index` makes it"
        ) from None
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BadIndex(f"{path}: no index: {error}; `callstream match index` makes one") from None
    return Index(_items(path, raw, vectors), vectors, model)


def _items(path: Path, raw: npt.NDArray[Any], vectors: npt.NDArray[Any]) -> tuple[Json, ...]:
    if vectors.ndim != 2 or vectors.dtype != np.float32 or raw.dtype != np.uint8:
        raise BadIndex(f"{path}: no index: its arrays are of other types")
    try:
        items = strict_json.loads(raw.tobytes(), MOST_ITEMS * MOST_ITEM_BYTES)
    except BadJson as error:
        raise BadIndex(f"{path}: its items are no JSON: {error}") from None
    if not isinstance(items, list) or len(items) != len(vectors) or not all(isinstance(item, dict) for item in items):
        raise BadIndex(f"{path}: its items are not one for each vector")
    return tuple(items)


def _unit(vectors: Matrix) -> Matrix:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or (lengths == 0).any():
        raise BadIndex("a vector is of no length, or has a number that is none")
    unit: Matrix = vectors / lengths
    return unit
