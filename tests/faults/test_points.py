"""A worker killed at each point of its code, one run a point: nothing is lost, each effect is there once."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from tests.faults.loads import LOADS
from tests.faults.points import POINTS, Point
from tests.faults.report import KILL, Row, seed
from tests.faults.rig import Rig, running_rig
from tests.faults.verdict import judge

Record = Callable[[str, object], None]
pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Rigs:
    """The parts that the runs share, built anew after a run that went wrong: what it left is no matter of the next."""

    folder: Path
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    built: int = 0
    runs: int = 0
    _rig: Rig | None = None

    async def get(self) -> Rig:
        """Those that stand, or new ones."""
        if self._rig is None:
            self.built += 1
            folder = self.folder / f"rig-{self.built}"
            folder.mkdir()
            self._rig = await self.stack.enter_async_context(running_rig(folder))
        self.runs += 1
        return self._rig

    async def give_up(self) -> None:
        """End them."""
        self._rig = None
        await self.stack.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rigs(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rigs]:
    rigs = Rigs(tmp_path_factory.mktemp("points"))
    yield rigs
    await rigs.give_up()


async def run(point: Point, rigs: Rigs, record: Record) -> None:
    """Kill the worker at a point under its load, and judge what came of it."""
    hit = point.hit(seed())
    row = Row(point.name, point.load, hit)
    try:
        rig = await rigs.get()
        rig.begin(f"p{rigs.runs:03d}", point, hit)
        wants, products = await LOADS[point.load](rig)
        evidence = await rig.evidence(wants, products, await rig.settled(wants))
        verdict = judge(evidence)
        row.ended(verdict, evidence, rig.armed_at)
        assert not verdict.faults, "\n".join((f"hit {hit} of {point.name}", *verdict.faults, rig.worker.said()))
    except BaseException:
        await rigs.give_up()
        raise
    finally:
        record(KILL, asdict(row))


def id_of(point: Point) -> str:
    return point.name


@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", [point for point in POINTS if point.short], ids=id_of)
async def test_a_kill_at_a_dangerous_point(point: Point, rigs: Rigs, record_property: Record) -> None:
    await run(point, rigs, record_property)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", POINTS, ids=id_of)
async def test_a_kill_at(point: Point, rigs: Rigs, record_property: Record) -> None:
    await run(point, rigs, record_property)
