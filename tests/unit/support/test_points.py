"""The points at which a worker is killed: each names something that there is, and the trap does as it says."""

import inspect
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

from tests.faults import trap
from tests.faults.loads import LOADS
from tests.faults.points import POINTS, Moment, Point, any_call


@pytest.mark.parametrize("target", sorted({point.target for point in POINTS}))
def test_a_point_names_a_function_of_the_code(target: str) -> None:
    _, _, function = trap.found(target)
    assert inspect.isfunction(function)


@pytest.mark.parametrize("target", ["callstream.agents.actor:Actor.no_such", "callstream.agents.actor:Actor"])
def test_what_was_renamed_is_told(target: str) -> None:
    with pytest.raises((AttributeError, TypeError)):
        trap.found(target)


def test_there_are_enough_points_each_under_a_load_that_there_is() -> None:
    assert len(POINTS) >= 40
    assert len({point.name for point in POINTS}) == len(POINTS)
    assert {point.load for point in POINTS} == set(LOADS)
    assert 3 <= sum(point.short for point in POINTS) <= 4


def test_a_hit_is_drawn_from_the_seed_and_in_reach() -> None:
    for point in POINTS:
        hits = {point.hit(seed) for seed in range(40)}
        assert hits <= set(range(1, point.most + 1))
        assert point.hit(1) == point.hit(1)
        assert len(hits) > 1 or point.most == 1


class Shop:
    """What the traps are set in."""

    def __init__(self) -> None:
        self.sold: list[str] = []

    async def sell(self, what: str) -> str:
        self.sold.append(what)
        return what

    def count(self) -> int:
        return len(self.sold)


class Dead(Exception):
    """In place of SIGKILL."""


class Softer(trap.Trap):
    def die(self) -> None:
        raise Dead


def shop(folder: Path, monkeypatch: pytest.MonkeyPatch, *points: Point) -> Shop:
    """A shop whose class has traps at these points, until the test is over."""
    for name in ("sell", "count"):
        monkeypatch.setattr(Shop, name, getattr(Shop, name))
    monkeypatch.setitem(sys.modules, "shop", cast(ModuleType, SimpleNamespace(Shop=Shop)))
    trap.set_traps(points, Softer(folder))
    return Shop()


def at(moment: Moment, name: str = "sale", method: str = "sell", of: Any = any_call) -> Point:
    return Point(name, f"shop:Shop.{method}", moment, "plain", 3, of)


@pytest.mark.parametrize(("moment", "sold"), [(Moment.BEFORE, ["a"]), (Moment.AFTER, ["a", "b"])])
async def test_it_dies_at_that_hit_and_not_before(
    moment: Moment, sold: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = shop(tmp_path, monkeypatch, at(moment))
    trap.arm(tmp_path, "sale", 2)
    assert await here.sell("a") == "a"
    with pytest.raises(Dead):
        await here.sell("b")
    assert here.sold == sold


async def test_only_the_point_that_is_meant_counts_and_only_when_armed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = at(Moment.BEFORE, of=lambda arguments: arguments["what"] == "b"), at(Moment.BEFORE, "tally", "count")
    here = shop(tmp_path, monkeypatch, *points)
    await here.sell("b")
    trap.arm(tmp_path, "sale", 1)
    assert here.count() == 1
    await here.sell("a")
    with pytest.raises(Dead):
        await here.sell("b")
    trap.arm(tmp_path, "tally", 1)
    with pytest.raises(Dead):
        here.count()
    trap.disarm(tmp_path)
    assert here.count() == 2


def test_a_trap_that_was_armed_anew_counts_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = shop(tmp_path, monkeypatch, at(Moment.BEFORE, "tally", "count"))
    trap.arm(tmp_path, "tally", 2)
    here.count()
    trap.arm(tmp_path, "tally", 2)
    here.count()
    with pytest.raises(Dead):
        here.count()


def test_nothing_was_killed_where_nothing_is_written_down(tmp_path: Path) -> None:
    assert trap.killed(tmp_path) is None
