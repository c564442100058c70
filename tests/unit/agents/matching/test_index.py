"""The index: what is nearest, what is refused, and a file that comes back as it was."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.agents.matching import BadIndex, build, read, write
from callstream.agents.matching.index import Index

ITEMS = [{"text": "mug"}, {"text": "cup"}, {"text": "shoe"}]


def an_index() -> Index:
    return build(ITEMS, [[1.0, 0.0], [0.9, 0.1], [0.0, 2.0]], "m")


def test_the_nearest_come_first_and_none_below_the_least() -> None:
    found = an_index().nearest([2.0, 0.0], most=3, least=0.5)
    assert [place for place, _ in found] == [0, 1]
    assert found[0][1] == 1.0
    assert [place for place, _ in an_index().nearest([1.0, 1.0], most=1)] == [1]


def test_of_equals_the_earlier_comes_first() -> None:
    same = build(ITEMS, [[1.0, 0.0]] * 3, "m")
    assert [place for place, _ in same.nearest([1.0, 0.5], most=2)] == [0, 1]


numbers = st.floats(-1e3, 1e3, allow_nan=False, width=32)
vectors = st.lists(st.lists(numbers, min_size=3, max_size=3).filter(any), min_size=1, max_size=30)


@given(vectors)
def test_each_item_is_nearest_to_its_own_vector(rows: list[list[float]]) -> None:
    try:
        index = build([{"n": n} for n in range(len(rows))], rows, "m")
    except BadIndex:
        # so short that its length is nothing in 32 bits
        return
    for row in rows:
        if np.linalg.norm(np.asarray(row, dtype=np.float32)) > 1e-6:
            [(_, score)] = index.nearest(row, most=1, least=-1)
            assert score == pytest.approx(1.0, abs=1e-4)


def test_a_file_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "items.npz"
    write(an_index(), path)
    again = read(path)
    assert (again.items, again.model) == (tuple(ITEMS), "m")
    assert np.array_equal(again.vectors, an_index().vectors)
    assert [file.name for file in tmp_path.iterdir()] == ["items.npz"]


@pytest.mark.parametrize(
    ("items", "rows", "told"),
    [
        ([], [], "0 items"),
        (ITEMS, [[1.0]], "3 items and 1 vectors"),
        (ITEMS, [[1.0], [1.0], [1.0, 2.0]], "different lengths"),
        (ITEMS, [[1.0], [0.0], [1.0]], "no length"),
        (ITEMS, [[1.0], [float("inf")], [1.0]], "no length"),
        ([{"text": "x" * 20_000}], [[1.0]], "item 1 is larger"),
    ],
)
def test_what_makes_no_index_is_refused(items: list[dict[str, str]], rows: list[list[float]], told: str) -> None:
    with pytest.raises(BadIndex, match=told):
        build(items, rows, "m")


def test_a_vector_of_another_length_is_refused() -> None:
    with pytest.raises(BadIndex, match="has 3 numbers, those of the index 2"):
        an_index().nearest([1.0, 0.0, 0.0])


def test_a_file_that_is_no_index_is_named(tmp_path: Path) -> None:
    path = tmp_path / "items.npz"
    with pytest.raises(BadIndex, match=r"items\.npz: cannot be read"):
        read(path)
    path.write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(BadIndex, match=r"items\.npz: no index"):
        read(path)
    path.write_bytes(b"")
    with pytest.raises(BadIndex, match=r"items\.npz: no index"):
        read(path)
    np.savez(path, vectors=np.zeros((2, 2), dtype=np.float32), items=np.frombuffer(b"[{}]", np.uint8), model="m")
    with pytest.raises(BadIndex, match="not one for each vector"):
        read(path)
    np.savez(path, vectors=np.asarray([{}], dtype=object), items=np.frombuffer(b"[{}]", np.uint8), model="m")
    with pytest.raises(BadIndex, match=r"items\.npz: no index"):
        read(path)
