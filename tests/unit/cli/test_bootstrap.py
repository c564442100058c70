"""Where the broker is that commands talk to."""

from pathlib import Path

import pytest

from callstream.cli.bootstrap import bootstrap_of
from callstream.cli.errors import CliError
from callstream.settings import Settings
from callstream.streams.broker import BrokerOptions, control


class Running:
    """A broker that runs."""

    bootstrap = "127.0.0.1:4711"


def settings(folder: Path, **more: str) -> Settings:
    return Settings.model_validate({"data_folder": folder, **more})


def test_what_is_named_goes_before_what_is_set(tmp_path: Path) -> None:
    assert bootstrap_of(settings(tmp_path, broker="b:1"), "a:1") == "a:1"
    assert bootstrap_of(settings(tmp_path, broker="b:1"), None) == "b:1"


def test_without_a_broker_it_says_how_to_have_one(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="start `callstream worker` or `callstream kafka up`, or name one with --broker"):
        bootstrap_of(settings(tmp_path), None)


def test_where_only_a_demo_runs_it_says_how_to_name_its_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def status(options: BrokerOptions) -> Running | None:
        return Running() if options.folder == tmp_path / "demo" / "kafka" else None

    monkeypatch.setattr(control, "status", status)

    with pytest.raises(CliError, match=r"that of the demo does: name it with --broker 127\.0\.0\.1:4711"):
        bootstrap_of(settings(tmp_path), None)
