"""What a built wheel and source archive hold: built from a copy, so that no build meets another's leftovers."""

import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {"callstream": "callstream", "streams": "callstream/streams"}
FOLDERS |= {name: f"callstream/{name}" for name in ("agents", "tables")}
LEFT_OUT = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build", "dist", "node_modules", "data")
BUILD = "import sys; from setuptools import build_meta as b; o = sys.argv[1]; b.build_wheel(o); b.build_sdist(o)"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree, out = tmp_path_factory.mktemp("build") / "tree", tmp_path_factory.mktemp("out")
    shutil.copytree(ROOT, tree, symlinks=True, ignore=LEFT_OUT)
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(out)], cwd=tree, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> list[str]:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        return archive.namelist()


def expected() -> set[str]:
    """Every file of the four folders, code and data, under the path it has once installed."""
    links = {ROOT / "callstream" / name for name in FOLDERS}
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if not links & {path, *path.parents}]
    kept = [path for path in paths if path.is_file() and not {"__pycache__"} & set(path.parts)]
    return {
        path.as_posix()
        for folder, installed in FOLDERS.items()
        for path in (Path(installed) / p.relative_to(ROOT / folder) for p in kept if p.is_relative_to(ROOT / folder))
    }


def test_the_wheel_holds_each_module_template_and_data_file_once(wheel: list[str]) -> None:
    # Given the four folders as they stand, when a wheel is built, then each of their files is in it, once, and no test.
    assert expected() - set(wheel) == set()
    assert len(wheel) == len(set(wheel))
    assert {name.split("/")[0] for name in wheel if ".dist-info/" not in name} == {"callstream"}


def test_the_wheel_names_its_command_its_types_and_its_licence(wheel: list[str]) -> None:
    assert "callstream/py.typed" in wheel
    assert any(name.endswith(".dist-info/entry_points.txt") for name in wheel)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel)


def test_the_source_archive_can_be_tested_and_put_into_a_container(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= {"Makefile", "constraints.txt", "setup.py", "tests/unit/test_packaging.py", "docker/Dockerfile"}
    assert names >= {f"{folder}/{path.name}" for folder in FOLDERS for path in (ROOT / folder).glob("*.py")}


def test_each_dependency_has_bounds_and_an_exact_pin() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lists = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    wanted = [line for text in lists for line in text.split("\n") if line and not line.startswith("callstream[")]
    pins = [line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    names = {line: line.partition(";")[0].partition(">=")[0].partition("[")[0] for line in wanted}
    assert [line for line in wanted if ">=" not in line or ",<" not in line] == []
    assert {plain(name) for name in names.values()} - {plain(name) for name in pins} == set()


def plain(name: str) -> str:
    return name.strip().lower().replace("_", "-")


def test_bare_imports_of_the_real_folders_are_banned() -> None:
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert set(ruff["flake8-tidy-imports"]["banned-api"]) == {"streams", "agents", "tables"}
    assert [(ROOT / "callstream" / name).readlink() for name in ("streams", "agents", "tables")] == [
        Path("../streams"),
        Path("../agents"),
        Path("../tables"),
    ]
