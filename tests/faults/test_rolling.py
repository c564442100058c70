"""Three workers replaced one after the other under load: nothing is lost, no call that was settled is made again."""

import asyncio
import json
import time
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import aiohttp
import pytest
from pydantic import SecretStr
from sqlalchemy import func, select

from callstream.agents.delivery import DeliveryOptions, make_engine
from callstream.agents.delivery.schema import inference_log
from callstream.streams.broker import BrokerOptions, EmbeddedKafka
from callstream.streams.topics import topic_of
from callstream.stub import running_stub
from tests.faults.scenario import Fault, Plan, Scenario
from tests.support import kafka
from tests.support.judge import Evidence, judge
from tests.support.workers import READY_SECONDS, until_ready

BETWEEN_SECONDS = 4.0
ROLLING = Plan(0, 3, rate=10, seed=5, workers=("worker-a", "worker-b", "worker-c"))


class Rolling(Scenario):
    """Stops each worker in turn, orderly, and goes on to the next once it is back."""

    async def _break(self) -> None:
        self.codes: list[int | None] = []
        async with aiohttp.ClientSession() as http:
            await asyncio.sleep(BETWEEN_SECONDS)
            for name, worker in self.workers.items():
                self.made.append(Fault(BETWEEN_SECONDS, "stop", name))
                self.moments.append(time.time())
                self.codes.append(await worker.stop())
                await worker.start()
                await until_ready([worker], http, READY_SECONDS)
                await asyncio.sleep(BETWEEN_SECONDS)

    async def left_open(self) -> int:
        """Calls that were begun anew because nothing told of their end: what was settled is never among them."""
        engine = make_engine(DeliveryOptions(database_url=SecretStr(self.database_url)))
        try:
            async with engine.connect() as connection:
                return int(await connection.scalar(select(func.sum(inference_log.c.repeated))) or 0)
        finally:
            await engine.dispose()

    async def stalls(self) -> dict[str, float]:
        """For each service the longest time, in seconds, that a task waited for it after the step before.

        That is how long a partition of it stood still at most: while workers change, or for want of processors.
        """
        waits: dict[str, float] = defaultdict(float)
        for record in await kafka.read_all(self.broker.bootstrap, topic_of("finished"), timeout=60):
            for before, after in pairwise(json.loads(record.value or b"{}")["trail"]):
                waits[after["service"]] = max(waits[after["service"]], after["started"] - before["ended"])
        return {service: round(seconds, 1) for service, seconds in waits.items()}


def _slowest(evidence: Evidence) -> float:
    """Seconds from when a task was accepted to when its row was written, at most."""
    accepted = {order.task: order.accepted for order in evidence.orders}
    return max(row.written - moment for row in evidence.catalogue if (moment := accepted.get(row.task)) is not None)


@pytest.mark.long
@pytest.mark.timeout(400)
async def test_a_rolling_restart_of_three_loses_and_repeats_nothing(tmp_path: Path) -> None:
    async with (
        EmbeddedKafka(BrokerOptions(folder=tmp_path / "kafka")) as broker,
        running_stub(seed=ROLLING.seed, median_ms=400, sigma=0.5, concurrency=64) as stub,
    ):
        one = Rolling(ROLLING, tmp_path, f"sqlite:///{tmp_path}/catalogue.db", broker, stub)
        evidence = await one.run()
        stalls, left_open = await one.stalls(), await one.left_open()
    # What a rebalance cuts after its time may be paid again, and says so; nothing else may.
    verdict = judge(replace(evidence, paid_again=max(0, evidence.paid_again - left_open)))
    figures = {**verdict.figures, "longest stalls": stalls, "slowest task": _slowest(evidence), "left open": left_open}
    (tmp_path / "figures.json").write_text(json.dumps({**figures, "faults": verdict.faults}, indent=2))
    print(f"\n{verdict.table()}")
    print("longest wait for a service: " + ", ".join(f"{name} {seconds:g} s" for name, seconds in stalls.items()))
    print(f"slowest task {_slowest(evidence):.1f} s; calls cut and made again: {left_open} of {evidence.calls}")
    assert one.codes == [0, 0, 0]
    assert not verdict.faults, "\n".join(verdict.faults)
