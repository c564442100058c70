import pickle
import sys
from pathlib import Path

import pytest

from callstream.streams.loading import BadReference, load_chains, module_name

GOOD = """
from pydantic import BaseModel
from callstream.streams.chain import Chain, Step

class Input(BaseModel):
    title: str

class Echo(Step):
    service = "echo"
    name = "echo"

chain = Chain("{name}", input=Input, steps=(Echo(),))
both = (chain, Chain("{name}", input=Input, steps=(Echo(),), version=2))
number = 7
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [*sys.path])
    path = tmp_path / "chain.py"
    path.write_text(GOOD.replace("{name}", "echo"), "utf-8")
    return path


def test_a_chain_is_loaded_from_a_file(file: Path) -> None:
    chains = load_chains([f"{file}:chain"])
    assert [chain.name for chain in chains] == ["echo"]


def test_several_chains_in_one_attribute(file: Path) -> None:
    assert load_chains([f"{file}:both"]).current("echo").version == 2


def test_a_file_is_loaded_once_and_what_it_defines_can_be_pickled(file: Path) -> None:
    one = load_chains([f"{file}:chain"]).current("echo")
    other = load_chains([f"{file}:chain"]).current("echo")
    assert one is other
    assert one.input.__module__ == module_name(file)
    assert pickle.loads(pickle.dumps(one.input)) is one.input


def test_files_of_one_name_do_not_collide(tmp_path: Path, file: Path) -> None:
    other = tmp_path / "other" / "chain.py"
    other.parent.mkdir()
    other.write_text(GOOD.replace("{name}", "other"), "utf-8")
    assert {chain.name for chain in load_chains([f"{file}:chain", f"{other}:chain"])} == {"echo", "other"}


def test_a_chain_is_loaded_from_a_module(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file.parent / "shop_chains.py").write_text(GOOD.replace("{name}", "shop"), "utf-8")
    monkeypatch.syspath_prepend(str(file.parent))
    assert load_chains(["shop_chains:chain"]).current("shop").steps[0].service == "echo"


@pytest.mark.parametrize("reference", ["", "chain.py", ":chain", "a.py:", "a.py:b c", "module"])
def test_what_names_no_chain_is_refused(reference: str) -> None:
    with pytest.raises(BadReference, match=r"names no chain; write path/to/file\.py:attribute"):
        load_chains([reference])


def test_what_is_not_there_is_named(file: Path) -> None:
    with pytest.raises(BadReference, match=r"there is no file .*none\.py"):
        load_chains([f"{file.parent}/none.py:chain"])
    with pytest.raises(BadReference, match="there is no module 'no_such_shop'"):
        load_chains(["no_such_shop.chains:chain"])
    with pytest.raises(BadReference, match="has no 'chian'; chains in it: chain"):
        load_chains([f"{file}:chian"])
    with pytest.raises(BadReference, match="number is int, not a Chain"):
        load_chains([f"{file}:number"])


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("x = 1\ny = 1 / 0\n", r"chain\.py, line 2: ZeroDivisionError: division by zero"),
        ("def f(:\n", r"chain\.py, line 1: "),
        ("import json\njson.loads('{')\n", r"chain\.py, line 2: JSONDecodeError"),
        ("\n\nimport no_such_library\n", r"chain\.py, line 3: ModuleNotFoundError: No module named 'no_such_library'"),
    ],
)
def test_an_error_in_the_file_is_told_with_its_line(file: Path, text: str, wrong: str) -> None:
    file.write_text(text, "utf-8")
    with pytest.raises(BadReference, match=wrong):
        load_chains([f"{file}:chain"])
    # and the file can be mended and loaded
    file.write_text(GOOD.replace("{name}", "mended"), "utf-8")
    assert load_chains([f"{file}:chain"]).current("mended")


def test_one_chain_twice_is_refused(file: Path) -> None:
    with pytest.raises(BadReference, match="chain echo version 1 is declared twice"):
        load_chains([f"{file}:chain", f"{file}:both"])
