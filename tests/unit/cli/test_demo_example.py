"""Which example a demo runs, and what is wrong with one that it cannot."""

from pathlib import Path

import pytest

from callstream.cli.demo.example import DEFAULT, find
from callstream.cli.demo.parts import pools_of_stub
from callstream.cli.errors import CliError
from callstream.cli.orders import read_orders
from callstream.settings import load
from callstream.streams.loading import load_chains

GOOD = 'chain = "a.py"\ntasks = "t.jsonl"\npools = ["small", "large"]\n'


def example(folder: Path, text: str) -> None:
    (folder / "examples" / "mine").mkdir(parents=True)
    (folder / "examples" / "mine" / "demo.toml").write_text(text)


@pytest.mark.parametrize("name", [DEFAULT, "support-reply", "translate-catalogue"])
def test_every_task_of_an_example_is_one_of_its_chains(name: str) -> None:
    found = find(name)
    chains = load_chains([found.chains])
    for order in read_orders(found.tasks):
        assert chains.current(order.line.chain) is not None


def test_an_example_in_the_folder_here_is_found_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example(tmp_path, GOOD)
    monkeypatch.chdir(tmp_path)
    found = find("mine")
    assert found.chains == f"{tmp_path}/examples/mine/a.py:chain"
    assert found.tasks == tmp_path / "examples" / "mine" / "t.jsonl"


def test_an_unknown_one_is_told_with_those_that_there_are() -> None:
    with pytest.raises(CliError, match="no example 'x'; there are: product-copy, support-reply, translate-catalogue"):
        find("x")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("chain = ", r"demo\.toml: no TOML"),
        ('chain = "a.py"\ntasks = "t.jsonl"\npools = []\n', r"demo\.toml: .*pools"),
        (GOOD.replace("a.py", "../a.py"), r"demo\.toml: .*chain"),
        (GOOD + "more = 1\n", r"demo\.toml: .*more"),
    ],
)
def test_a_file_that_is_wrong_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, told: str) -> None:
    example(tmp_path, text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CliError, match=told):
        find("mine")


def test_the_stub_stands_in_for_all_pools_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example(tmp_path, GOOD)
    monkeypatch.chdir(tmp_path)
    assert pools_of_stub(load(), find("mine")) == ["small", "large"]
    endpoint = '[{"name": "a", "base_url": "http://127.0.0.1:9000/v1", "model": "m"}]'
    monkeypatch.setenv("CALLSTREAM_INFERENCE__POOLS__SMALL__ENDPOINTS", endpoint)
    with pytest.raises(CliError, match="the pools large are not set"):
        pools_of_stub(load(), find("mine"))
    monkeypatch.setenv("CALLSTREAM_INFERENCE__POOLS__LARGE__ENDPOINTS", endpoint.replace('"a"', '"b"'))
    assert pools_of_stub(load(), find("mine")) == []
