"""What calls cost, on real parts: sums that the model server agrees with, and a ceiling that outlives a kill."""

from pathlib import Path

import pytest

from callstream.streams.event import Json
from tests.support.running import QUICK, TENANT, Settings, System, Worker, running_system, until

CEILING = 1_200
"""Little more than a first call is reckoned with, so that few go, one after another, and the rest wait."""
TASKS = 20
STILL_LOOKS = 20
"""After so many looks without another call none is under way."""
ENDPOINT = ("inference", "pools", "copywriter", "endpoints", "0")
PRICED: Settings = {
    # Each token costs one.
    (*ENDPOINT, "price_in_per_million"): "1000000",
    (*ENDPOINT, "price_out_per_million"): "1000000",
    ("inference", "currency"): "EUR",
    ("inference", "budgets"): {"tenants": {TENANT: {"month": {"warn_at": "100", "ceiling": str(CEILING)}}}},
}


async def usage(worker: Worker, query: str = "by=tenant,chain,kind") -> Json:
    """What the gateway says."""
    async with worker.http.get(f"/v1/usage?{query}") as said:
        told = await said.json(content_type=None)
        assert said.status in (200, 503), told
        return dict(told) if said.status == 200 else {"usage": [], "budgets": []}


async def stopped(system: System, worker: Worker) -> Json:
    """The usage once calls wait for the budget and what was paid is counted."""

    last: list[object] = []

    async def look() -> Json | None:
        told = await usage(worker)
        paid = (await system.stub.report())["paid_tokens"]
        waits = any(one["state"] == "stopped" and one["waiting"] for one in told["budgets"])
        last.append(paid)
        still = len(last) > STILL_LOOKS and len(set(last[-STILL_LOOKS:])) == 1
        return told if waits and still and sum(int(one["cost"]) for one in told["usage"]) == paid else None

    return dict(await until(look, "calls wait for the budget"))


@pytest.mark.timeout(180)
async def test_a_ceiling_holds_through_a_kill_and_the_sums_are_what_was_paid(tmp_path: Path) -> None:
    async with running_system(tmp_path, (QUICK,), PRICED) as system:
        # given more tasks than the budget pays for
        worker = await system.start()
        for number in range(TASKS):
            mug = {"product_id": f"mug-{number}", "title": "A blue mug"}
            await worker.submit("quick", mug, id=f"mug-{number}")
        told = await stopped(system, worker)
        # then what was paid is within it, and counted to the last token
        report = await system.stub.report()
        [row] = told["usage"]
        assert 0 < report["paid_tokens"] <= CEILING
        assert (row["tenant"], row["chain"], row["kind"], row["currency"]) == (TENANT, "quick", "answer", "EUR")
        assert (int(row["cost"]), row["calls"]) == (report["paid_tokens"], report["paid"])
        assert row["tokens_in"] + row["tokens_out"] == report["paid_tokens"]
        # and a task that waits says for what, one that is done what it cost
        rows = [await worker.row(f"mug-{number}") for number in range(TASKS)]
        states = [row for row in rows if row is not None]
        reasons = {row["waiting"]["reason"] for row in states if row.get("waiting")}
        assert "budget" in reasons
        costs = [int(row["cost"]["EUR"]) for row in states if row["state"] == "finished"]
        assert (len(costs), sum(costs)) == (report["paid"], report["paid_tokens"])
        # when the worker is killed, and another one takes its place
        await worker.kill()
        worker = await system.start(after=worker)
        assert (await stopped(system, worker))["usage"] == told["usage"]
        assert (await system.stub.report())["paid_tokens"] == report["paid_tokens"]
        # then a table for a spreadsheet has the same sums
        async with worker.http.get("/v1/usage?by=tenant", headers={"Accept": "text/csv"}) as said:
            assert (await said.text()).splitlines()[1].startswith(f"{TENANT},EUR,{report['paid']},")
