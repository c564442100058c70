"""A rules file that changes while the worker runs."""

import logging
from pathlib import Path

import pytest

from callstream.agents.moderation import BadRules
from callstream.agents.moderation.rulesfile import LOOK_SECONDS, RulesInForce

RULES = 'version = {}\n[[words]]\nid = "w"\ncategory = "c"\naction = "hold"\nwords = ["{}"]\n'


class Bench:
    """Rules in force from a file, with a clock of their own."""

    def __init__(self, file: Path) -> None:
        self.file, self.now = file, 0.0
        self.rules = RulesInForce(file, lambda: self.now)

    def write(self, text: str) -> None:
        # As an editor does: another file takes its place.
        beside = self.file.with_suffix(".new")
        beside.write_text(text)
        beside.replace(self.file)

    async def version(self) -> int:
        return (await self.rules.judge()).rules.version


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    found = Bench(tmp_path / "rules.toml")
    found.write(RULES.format(1, "mug"))
    return found


async def test_a_changed_file_takes_effect_within_seconds(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await bench.rules.open()
    bench.write(RULES.format(2, "cup"))
    bench.now = LOOK_SECONDS - 0.01
    assert await bench.version() == 1
    bench.now = LOOK_SECONDS
    assert await bench.version() == 2
    assert (await bench.rules.judge()).judge({"a": "a cup"}).found == 1
    assert "version 2 is in force" in caplog.text


async def test_a_broken_or_missing_file_changes_nothing_and_is_logged_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.rules.open()
    bench.write("version = ")
    for _ in range(3):
        bench.now += LOOK_SECONDS
        assert await bench.version() == 1
    assert caplog.text.count("stay at version 1") == 1
    bench.file.unlink()
    for _ in range(3):
        bench.now += LOOK_SECONDS
        assert await bench.version() == 1
    assert caplog.text.count("No such file") == 1
    bench.write(RULES.format(3, "cup"))
    bench.now += LOOK_SECONDS
    assert await bench.version() == 3


async def test_a_change_without_another_version_is_told(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await bench.rules.open()
    bench.write(RULES.format(1, "cups"))
    bench.now += LOOK_SECONDS
    await bench.rules.judge()
    assert "give it another" in caplog.text


async def test_without_a_file_at_the_start_there_are_no_rules(tmp_path: Path) -> None:
    rules = RulesInForce(tmp_path / "none.toml")
    with pytest.raises(BadRules, match="No such file"):
        await rules.open()
    with pytest.raises(RuntimeError, match="not opened"):
        await rules.judge()
