"""Settings read again: what concerns models changes at once or not at all, all else is named."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from callstream.agents.inference.options import InferenceOptions
from callstream.settings import SettingsError, load
from callstream.settings.reload import Reloaded, Reloader, differing

POOL = """
[[inference.pools.writer.endpoints]]
name = "a"
base_url = "http://127.0.0.1:1/v1"
model = "m"
"""

Write = Callable[[str], object]
"""Makes that text the file of settings."""


@pytest.fixture(autouse=True)
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("CALLSTREAM_"):
            monkeypatch.delenv(name)
    written = tmp_path / "callstream.toml"
    written.write_text(POOL)
    return written.write_text


class Told:
    """Whoever is told of new options."""

    def __init__(self, refusal: Exception | None = None) -> None:
        self.options: list[InferenceOptions] = []
        self.refusal = refusal

    def __call__(self, options: InferenceOptions) -> None:
        self.options.append(options)
        if self.refusal is not None:
            raise self.refusal


async def test_what_concerns_models_changes_and_who_registered_is_told(write: Write) -> None:
    # given a worker with one endpoint, and someone who uses it
    reloader, told = Reloader(load()), Told()
    reloader.on_change.append(told)
    # when the file has another limit, another endpoint, and another lane's share
    lanes = "[inference.lanes]\nhigh = 9\nnormal = 4\nlow = 1\n"
    write(POOL + "limits.requests_per_minute = 60\n" + POOL.replace('"a"', '"b"') + lanes)
    outcome = await reloader.reload()
    # then each is named and in force
    assert outcome == Reloaded(
        changed=(
            "inference.pools.writer.endpoints.0.limits.requests_per_minute",
            "inference.pools.writer.endpoints.1",
            "inference.lanes.high",
        )
    )
    assert told.options == [load().inference] == [reloader.settings.inference]
    assert str(outcome).startswith("changed: inference.pools.writer.endpoints.0.limits.requests_per_minute, ")


async def test_what_else_differs_needs_a_restart_and_is_named_until_then(write: Write) -> None:
    reloader, told = Reloader(load()), Told()
    reloader.on_change.append(told)
    write("partitions = 3\n[engine]\ndrain_seconds = 1\n" + POOL + "weight = 2\n")
    first = await reloader.reload()
    again = await reloader.reload()
    assert first.needs_restart == again.needs_restart == ("partitions", "engine.drain_seconds")
    assert (first.changed, again.changed) == (("inference.pools.writer.endpoints.0.weight",), ())
    assert str(again) == "nothing was changed; needs a restart: partitions, engine.drain_seconds"
    # and it is not in force
    assert reloader.settings.partitions == 8
    assert len(told.options) == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[inference", "callstream.toml: not TOML"),
        (POOL.replace("model", "modle"), "did you mean inference.pools.writer.endpoints.0.model?"),
        (POOL + "limits.tokens_per_minute = nan\n", "tokens_per_minute = nan (callstream.toml:7)"),
        (POOL + "weight = 0\n", "weights of the endpoints sum to 0"),
        (POOL + POOL, "used more than once: a"),
        (POOL + "account = 'acme'\n", "account 'acme', which is not declared"),
        (POOL + "api_key = 'sk-hush'\n", "a key is never kept with the settings"),
        (POOL + "api_key_file = 'gone'\n", "endpoint a: api_key_file gone cannot be read: No such file or directory"),
        (POOL + "headers.X-A = 'naïve'\n", "endpoint a: header X-A must be printable ASCII"),
    ],
)
async def test_settings_with_an_error_leave_the_old_ones_in_force(write: Write, text: str, problem: str) -> None:
    reloader, told = Reloader(load()), Told()
    reloader.on_change.append(told)
    before = reloader.settings
    write("partitions = 3\n" + text)
    outcome = await reloader.reload()
    assert any(problem in found for found in outcome.problems), outcome
    assert (outcome.changed, outcome.needs_restart) == ((), ())
    assert str(outcome).startswith("nothing was changed: ")
    assert "\n" not in str(outcome)
    assert reloader.settings is before
    assert told.options == []
    # and the next that is right is taken
    write(POOL + "weight = 2\n")
    assert (await reloader.reload()).changed == ("inference.pools.writer.endpoints.0.weight",)


async def test_whoever_cannot_take_it_has_the_others_go_back() -> None:
    # given three who are told, of whom the second refuses
    former = load()
    first, second, third = Told(), Told(ValueError("no more than one pool")), Told()
    changed = former.model_copy(update={"inference": InferenceOptions(window_margin_seconds=3)})
    reloader = Reloader(former, [first, second, third], lambda: changed)
    # when the settings are read again
    outcome = await reloader.reload()
    # then the first was given the former options again, and the former are in force
    assert outcome == Reloaded(problems=("no more than one pool",))
    assert first.options == [changed.inference, former.inference]
    assert third.options == []
    assert reloader.settings == former


async def test_another_key_in_the_same_file_is_a_change(write: Write, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-one")
    write(POOL + "api_key_file = 'key'\n")
    reloader, told = Reloader(load()), Told()
    reloader.on_change.append(told)
    assert await reloader.reload() == Reloaded()
    (tmp_path / "key").write_text("sk-two")
    outcome = await reloader.reload()
    assert outcome.changed == ("inference.pools.writer.endpoints.0.api_key_file",)
    assert len(told.options) == 1
    assert await reloader.reload() == Reloaded()


async def test_an_error_that_nobody_foresaw_is_an_outcome_too() -> None:
    def broken() -> Any:
        raise RuntimeError("what is this")

    assert await Reloader(load(), read=broken).reload() == Reloaded(problems=("RuntimeError: what is this",))


async def test_what_is_told_has_its_bounds() -> None:
    def many() -> Any:
        raise SettingsError("x" * 9000 for _ in range(900))

    outcome = await Reloader(load(), read=many).reload()
    assert (len(outcome.problems), len(outcome.problems[0])) == (50, 2000)
    assert str(Reloaded(changed=tuple(map(str, range(60))))).endswith("48, 49 and 10 more")


def test_the_names_of_what_differs_hold_no_values(write: Write) -> None:
    one = load()
    write(POOL + "headers.X-A = 'hush-hush'\n[inference.tenants]\nacme = 2\n")
    assert list(differing(one, load())) == [
        ("inference", "pools", "writer", "endpoints", 0, "headers", "X-A"),
        ("inference", "tenants", "acme"),
    ]
    assert list(differing(one, one)) == []
