"""The program as it meets its user: help, errors in one line, exit codes."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from callstream import __version__
from callstream.alarming import BadAlarmRule
from callstream.app import run_worker
from callstream.cli import main
from callstream.cli.commands import COMMANDS, app
from callstream.services import UnknownBudget, UnknownService, load_steps
from callstream.settings import load
from callstream.streams.foreseen import Foreseen
from callstream.streams.loading import load_chains


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["callstream", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CALLSTREAM_DEBUG", raising=False)


def test_help_names_every_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--help") == 0
    shown = capsys.readouterr().out
    for command in (
        "demo",
        "worker",
        "reload",
        "produce",
        "status",
        "tail",
        "lag",
        "settings",
        "stub",
        "kafka",
        "schedule",
    ):
        assert f"\n  {command} " in shown


def test_the_version_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"callstream {__version__}\n"


def test_a_foreseen_error_is_one_line_and_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CALLSTREAM_PARTITIONS", "none")
    assert run(monkeypatch, "settings") == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: settings: partitions = 'none' (env CALLSTREAM_PARTITIONS): ")
    assert "Traceback" not in shown.err


def test_debug_shows_where(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CALLSTREAM_DEBUG", "")
    assert run(monkeypatch, "--debug", "produce") == 1
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.endswith("error: name a FILE of tasks, or a chain with --chain\n")


@pytest.mark.parametrize(("given", "said"), [("3000-01-01T00:00:00Z", "within a year"), ("soon", "not RFC 3339")])
def test_a_start_that_no_task_can_have_is_refused_before_any_is_sent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, given: str, said: str
) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_text('{"chain": "copy", "input": {}}\n')
    assert run(monkeypatch, "produce", str(file), "--run-at", given) == 1
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: --run-at {given}: ")
    assert said in shown


def test_no_broker_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "lag") == 1
    assert "callstream kafka up" in capsys.readouterr().err


def test_settings_as_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CALLSTREAM_PARTITIONS", "3")
    assert run(monkeypatch, "settings", "--changed", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [
        {"key": "partitions", "value": "3", "origin": "env CALLSTREAM_PARTITIONS", "variable": "CALLSTREAM_PARTITIONS"}
    ]


def test_the_broker_that_is_not_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "kafka", "status") == 3
    assert capsys.readouterr().out.startswith("not running: ")


SHOP = (
    "from callstream.streams.chain import Chain, Step\n"
    "from pydantic import BaseModel\n"
    "class Copy(Step):\n"
    "    name, service = 'copy', 'infer'\n"
    "CHAIN = Chain('shop', BaseModel, (Copy(),))\n"
)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"chain": "shpo"}, "alarms.rules: 'mine' names chain 'shpo'; there are: shop"),
        ({"step": "coyp"}, "alarms.rules: 'mine' names step 'coyp'; there are: copy, intake, notify"),
        ({"chain": "shop", "step": "x"}, "names step 'x'; there are of chain shop: copy, intake, notify"),
        ({"service": "infre"}, "names service 'infre'; there are: gateway, intake, infer"),
    ],
)
def test_a_rule_that_names_what_is_not_there_is_refused_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: dict[str, str], said: str
) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    monkeypatch.setenv("CALLSTREAM_CHAINS", '["shop.py:CHAIN"]')
    rule = {"name": "mine", "kind": "dead_letters", "threshold": 1, **names}
    monkeypatch.setenv("CALLSTREAM_ALARMS__RULES", json.dumps([rule]))
    with pytest.raises(BadAlarmRule, match=re.escape(said)):
        run_worker(load())
    assert not (tmp_path / ".callstream").exists()


def test_a_budget_of_a_chain_that_is_not_there_is_refused_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    monkeypatch.setenv("CALLSTREAM_CHAINS", '["shop.py:CHAIN"]')
    monkeypatch.setenv("CALLSTREAM_INFERENCE__BUDGETS__CHAINS", '{"shpo": {"day": {"ceiling": "1"}}}')
    with pytest.raises(UnknownBudget, match="names 'shpo'; there are: shop"):
        run_worker(load())
    assert not (tmp_path / ".callstream").exists()


def test_a_service_that_there_is_not_is_refused_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    monkeypatch.setenv("CALLSTREAM_CHAINS", '["shop.py:CHAIN"]')
    with pytest.raises(UnknownService, match="no service is called 'infre'; there are: gateway, intake, infer"):
        run_worker(load(), ["infre"])
    assert not (tmp_path / ".callstream").exists()


LOADING = """
from callstream.agents.inference.step import Infer
from callstream.streams.chain import Chain, Step
from callstream.streams.foreseen import Foreseen
from pydantic import BaseModel


class Input(BaseModel):
    text: str


class Heavy(Step):
    name, service = "heavy", "heavy"

    def load(self):
        raise Foreseen("heavy is not there")


CHAIN = Chain("shop", input=Input, steps=(Infer(name="copy", pool="writer"), Heavy()))
"""


def test_what_takes_long_is_read_before_anything_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a step that cannot read what it needs
    (tmp_path / "loading.py").write_text(LOADING)
    monkeypatch.setenv("CALLSTREAM_CHAINS", '["loading.py:CHAIN"]')
    # when a worker with its service starts, then it ends at once and says why
    with pytest.raises(Foreseen, match="heavy is not there"):
        run_worker(load())
    with pytest.raises(Foreseen, match="heavy is not there"):
        run_worker(load(), ["heavy"])
    assert not (tmp_path / ".callstream").exists()
    # and one without it does not read it
    load_steps(load_chains(["loading.py:CHAIN"]), ["infer"])


def test_the_list_says_of_each_command_what_its_help_says() -> None:
    program: Any = typer.main.get_command(app)
    for name, listed in COMMANDS.items():
        command = program.get_command(None, name)
        assert command.name == name
        assert command.get_short_help_str(200) == listed.about, name


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("callstream.cli", ("faust", "sqlalchemy", "aiohttp", "cel", "callstream.settings")),
        ("callstream.cli.status", ("alembic", "cel", "faust", "jaeger_client")),
        ("callstream.cli.dead", ("alembic", "cel", "faust", "jaeger_client")),
    ],
)
def test_a_command_reads_nothing_that_it_does_not_need(module: str, absent: tuple[str, ...]) -> None:
    read = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True, check=True).stdout.split()
    assert module in loaded
    assert not set(absent) & set(loaded)
