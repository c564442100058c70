"""Two workers killed at random under load, the broker restarted: nothing is lost, written twice, or paid twice."""

import json
from pathlib import Path

import pytest

from tests.faults.scenario import Plan, scenario
from tests.support.judge import judge
from tests.support.postgres import Postgres

SHORT = Plan(30, 3, rate=15, seed=1, wipes=frozenset({"worker-b"}), broker_faults={1: "restart"}, gap=(9.0, 11.0))
LONG = Plan(180, 8, rate=25, seed=2, broker_faults={4: "restart", 8: "crash"})
WIPED = Plan(180, 8, rate=25, seed=3, wipes=frozenset(LONG.workers), broker_faults={3: "crash", 7: "restart"})


async def run(plan: Plan, folder: Path, database_url: str) -> None:
    """Run a plan, say what came of it, and fail for whatever is not as it must be."""
    async with scenario(plan, folder, database_url) as one:
        evidence = await one.run()
    verdict = judge(evidence)
    (folder / "figures.json").write_text(json.dumps({**verdict.figures, "faults": verdict.faults}, indent=2))
    print(f"\n{verdict.table()}\nwritten to {folder / 'figures.json'}")
    assert not verdict.faults, "\n".join(verdict.faults)


@pytest.mark.timeout(420)
async def test_two_kills_and_a_restart_of_the_broker(tmp_path: Path) -> None:
    await run(SHORT, tmp_path, f"sqlite:///{tmp_path}/catalogue.db")


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_three_minutes_of_kills_with_tables_kept(tmp_path: Path) -> None:
    await run(LONG, tmp_path, f"sqlite:///{tmp_path}/catalogue.db")


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_three_minutes_of_kills_with_tables_lost(tmp_path: Path, postgres: Postgres) -> None:
    await run(WIPED, tmp_path, postgres.create("faults"))
