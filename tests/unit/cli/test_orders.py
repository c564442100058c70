"""Files of tasks: checked whole, before anything is sent."""

import json
from pathlib import Path
from typing import Any

import pytest

from callstream.cli.errors import CliError
from callstream.cli.orders import find_file, media_type, multiplied, named, of_chain, read_orders


def write(folder: Path, *lines: Any) -> Path:
    file = folder / "tasks.jsonl"
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return file


def test_each_line_is_a_task_and_pictures_lie_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    file = write(
        tmp_path,
        {"id": "one", "chain": "c", "input": {"photo": "a.jpg"}, "expect": {"end": "held"}, "priority": "high"},
        "",
        {"chain": "c", "input": {"photo": "blob:" + "0" * 64}},
    )
    first, second = read_orders(file)
    assert (first.picture, first.expected, first.number) == (tmp_path / "a.jpg", "held", 1)
    assert first.body("blob:1") == {"id": "one", "chain": "c", "input": {"photo": "blob:1"}, "priority": "high"}
    assert (second.picture, second.expected, second.number) == (None, "finished", 3)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("{", r"tasks.jsonl:2: not JSON"),
        ('{"chain": "c", "input": {"x": NaN}}', "NaN"),
        ('{"chain": "c"}', "input: Field required"),
        ('{"chain": "c", "input": {}, "inptu": 1}', "inptu"),
        ('{"id": "mug-9~1.1", "chain": "c", "input": {}}', "must not contain '~'"),
        ('{"chain": "C!", "input": {}}', "chain"),
        ('{"chain": "c", "input": {"photo": "gone.jpg"}}', "gone.jpg does not exist"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, wanted: str) -> None:
    file = write(tmp_path, {"chain": "c", "input": {}}, line)
    with pytest.raises(CliError, match=r"tasks\.jsonl:2: ") as caught:
        read_orders(file)
    assert wanted.removeprefix("tasks.jsonl:2: ") in str(caught.value)


def test_no_file_and_no_tasks_are_said(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="No such file"):
        read_orders(tmp_path / "gone.jsonl")
    with pytest.raises(CliError, match="no tasks"):
        read_orders(write(tmp_path, ""))


def test_many_are_made_of_few_and_none_is_a_repeat(tmp_path: Path) -> None:
    orders = read_orders(write(tmp_path, {"id": "a", "chain": "c", "input": {}}, {"chain": "c", "input": {}}))
    made = list(multiplied(orders, 5, "run"))
    assert [order.line.id for order in made] == ["a-run-1", "c-run-2", "a-run-3", "c-run-4", "a-run-5"]
    kept = list(named(orders, "run"))
    assert [(order.line.id, order.idempotency_key) for order in kept] == [("a", None), (None, "run-2")]


def test_a_long_id_stays_a_task_id(tmp_path: Path) -> None:
    orders = read_orders(write(tmp_path, {"id": "a" * 128, "chain": "c", "input": {}}))
    (made,) = multiplied(orders, 1, "12345678")
    assert made.line.id is not None
    assert len(made.line.id) <= 128


def test_the_file_that_ships_with_a_chain_is_found(tmp_path: Path) -> None:
    file = write(tmp_path, {"chain": "c", "input": {}})
    references = [f"{tmp_path}/chain.py:chain", "some.module:chain"]
    assert find_file(references, "c") == file
    with pytest.raises(CliError, match="name a FILE"):
        find_file(references, "other")
    with pytest.raises(CliError, match=r"chains in it: c"):
        of_chain(read_orders(file), "other")


def test_the_media_type_follows_the_name() -> None:
    assert media_type(Path("x.JPG")) == "image/jpeg"
    assert media_type(Path("x")) == "application/octet-stream"


def test_the_example_is_such_a_file() -> None:
    file = Path(__file__).parents[3] / "examples" / "product-copy" / "products.jsonl"
    orders = read_orders(file)
    assert len(orders) >= 24
    assert {order.expected for order in orders} == {"finished", "held", "rejected"}
    assert all(order.picture for order in orders)
