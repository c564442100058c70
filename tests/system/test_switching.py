"""Rules that are changed while workers run: on a composed model against the stub, and through the log."""

import asyncio
from pathlib import Path

import pytest

from callstream.agents.inference.choice import Rule
from callstream.agents.inference.fakes import a_call
from callstream.agents.inference.options import InferenceOptions
from callstream.agents.inference.stack import build_model
from callstream.streams.event import Json
from callstream.streams.fakes import MemoryCell
from callstream.stub.process import running_stub
from tests.support.running import Worker, running_system


async def test_rules_switch_endpoints_while_calls_wait() -> None:
    async with running_stub(sigma=0, median_ms=100) as stub:
        ends = [
            {"name": name, "base_url": stub.url, "model": f"model-{name}", "concurrency": 1} for name in ("e1", "e2")
        ]
        model = build_model(InferenceOptions.model_validate({"pools": {"copywriter": {"endpoints": ends}}}))
        try:
            model.switch({"copywriter": [("only-e2", Rule(endpoints=("e2",), only=True))]})
            calls = [a_call(id=f"c{n}", task=f"t{n}", cell=MemoryCell()) for n in range(8)]
            first = [asyncio.create_task(model(call)) for call in calls]
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            model.switch({"copywriter": [("only-e1", Rule(endpoints=("e1",), only=True))]})
            replies = await asyncio.gather(*first)
            model.switch({})
            again = await model(calls[-1])
        finally:
            await model.close()
        seen = (await stub.calls())["calls"]
    by = [reply.usage.endpoint for reply in replies]
    assert by[0] == "e2"
    assert by[-1] == "e1"
    assert len(seen) == 8
    assert all(f"{reply.usage.endpoint} (model-" in reply.notes[-1] for reply in replies)
    assert again.usage == replies[-1].usage


@pytest.mark.timeout(240)
async def test_a_rule_holds_at_once_and_through_a_kill_and_is_in_the_trail(tmp_path: Path) -> None:
    async with running_system(tmp_path) as system:
        ends = [{"name": name, "base_url": system.stub.url, "model": f"model-{name}"} for name in ("e1", "e2")]
        system.settings["inference", "pools"] = {"copywriter": {"endpoints": [{**ends[0], "weight": 0}, ends[1]]}}
        worker = await system.start()
        assert (await copied(worker, "before"))["model"] == "model-e2"
        rule = {"endpoints": ["e1"], "when": "tenant != 'x' && input.title.contains('mug')", "by": "ada"}
        async with worker.http.put("/v1/pools/copywriter/rules/mugs", json=rule) as said:
            assert said.status == 202, await said.text()
        switched = await copied(worker, "after")
        assert switched["model"] == "model-e1"
        assert switched["notes"][-1].startswith("choice: rule 'mugs' of pool 'copywriter': to e1 when tenant")
        await worker.kill()
        later = await system.start(after=worker)
        assert (await copied(later, "killed"))["model"] == "model-e1"
        async with later.http.get("/v1/pools/rules") as shown:
            assert [(one["name"], one["by"]) for one in (await shown.json())["rules"]] == [("mugs", "ada")]
        async with later.http.delete("/v1/pools/copywriter/rules/mugs") as said:
            assert said.status == 202
        assert (await copied(later, "unset"))["model"] == "model-e2"


async def copied(worker: Worker, task: str) -> Json:
    """The step that called the model, of a task that has ended."""
    await worker.submit("quick", {"product_id": task, "title": "A blue mug"}, id=task)
    row = await worker.reaches(task, "finished")
    return dict(next(step for step in row["steps"] if step["step"] == "copy"))
