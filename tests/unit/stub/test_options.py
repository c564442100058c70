"""What the stub can be told, and how it says no."""

import pytest
from pydantic import ValidationError
from typer import Typer
from typer.testing import CliRunner

from callstream.stub.command import stub
from callstream.stub.faults import FaultKind
from callstream.stub.options import Behaviour, StubOptions
from callstream.stub.server import explain


def app() -> Typer:
    made = Typer()
    made.command()(stub)
    return made


def test_a_change_keeps_what_it_does_not_name() -> None:
    before = Behaviour(rpm=10, fail={FaultKind.HANG: 0.5})

    after = before.changed({"tpm": 100, "rpm": None})

    assert (after.rpm, after.tpm, after.fail) == (None, 100, {FaultKind.HANG: 0.5})


def test_a_wrong_change_is_explained() -> None:
    with pytest.raises(ValidationError) as caught:
        Behaviour().changed({"rpm": 0, "fail": {"504": 0.1}, "speed": 3})

    told = explain(caught.value)
    assert "rpm = 0: Input should be greater than or equal to 1" in told
    assert "fail.504" in told
    assert "speed = 3: Extra inputs are not permitted" in told


def test_probabilities_add_up_to_at_most_one() -> None:
    with pytest.raises(ValidationError, match=r"add up to 1\.2"):
        Behaviour(fail={FaultKind.HANG: 0.6, FaultKind.RESET: 0.6})


def test_the_behaviour_is_the_part_that_can_change() -> None:
    options = StubOptions(seed=7, rpm=10)

    assert options.behaviour == Behaviour(rpm=10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rpm", "0"], "rpm"),
        (["--fail", "504=0.1"], "fail.504"),
        (["--fail", "503"], "fail.503"),
        (["--retry-after-style", "weeks"], "retry_after_style"),
        (["--port", "70000"], "port"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app(), arguments)

    assert result.exit_code == 2
    assert message in result.output


def test_probabilities_that_do_not_fit_are_told_in_full_and_nothing_else_is() -> None:
    arguments = ["--key", "sk-hush", "--fail", "503=0.6", "--fail", "hang=0.6"]
    result = CliRunner().invoke(app(), arguments, env={"COLUMNS": "200", "NO_COLOR": "1"})

    assert "Invalid value: the probabilities in fail (503=0.6, hang=0.6) add up to 1.2; at most 1" in result.output
    assert "hush" not in result.output


def test_help_tells_every_option() -> None:
    result = CliRunner().invoke(app(), ["--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})

    assert result.exit_code == 0
    for name in StubOptions.model_fields:
        assert f"--{name.replace('_', '-')}" in result.output
