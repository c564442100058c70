"""The example `support-reply`: ten messages, two pools, a profile that comes and goes, a reply over a WebSocket."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from callstream.streams.event import Json
from tests.support.running import System, running_system, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

EXAMPLE = Path(__file__).parents[2] / "examples/support-reply"
MESSAGES: list[dict[str, Any]] = [json.loads(line) for line in (EXAMPLE / "messages.jsonl").read_text().splitlines()]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    async with running_system(tmp_path_factory.mktemp("reply"), (f"{EXAMPLE / 'reply.py'}:chain",)) as made:
        made.ask_stub("large", "small")
        await made.start()
        yield made


async def test_every_message_is_replied_to_or_shown_to_a_person(system: System) -> None:
    for one in MESSAGES:
        told = await system.worker.submit("support-reply", one["input"], id=one["id"])
        assert told["id"] == one["id"]
    for one in MESSAGES:
        row = await system.worker.reaches(one["id"], "finished", "held")
        steps = {step["step"]: step for step in row["steps"]}
        assert row["deadline"] - row["created"] == pytest.approx(20.0, abs=1.0)
        if "intent" in one["expect"]:
            # A rule told, and no model was asked for it.
            assert not steps["intent"].get("calls")
        else:
            assert steps["intent"]["model"] == "small"
        # The small one where time is short, as it may be on a busy machine.
        assert steps["reply"]["model"] in ("large", "small")
        if row["state"] == "finished":
            assert row["result"]["reply"]
            if "intent" in one["expect"]:
                assert row["result"]["intent"] == one["expect"]["intent"]


async def test_what_is_known_of_a_customer_is_used_until_it_is_erased(system: System) -> None:
    hello = {"message": "Where is my parcel?", "user": "mei"}

    async def asked(method: str, body: Json | None = None) -> int:
        async with system.worker.http.request(method, "/v1/profiles/mei", json=body) as said:
            return said.status

    async def language(task: str) -> str:
        await system.worker.submit("support-reply", hello, id=task)
        row = await system.worker.reaches(task, "finished", "held")
        outputs = row["outputs"] if row["state"] == "held" else None
        return str(outputs["prompt"]["language"] if outputs else row["result"]["language"])

    assert await asked("PUT", {"name": "Mei", "language": "zh"}) == 202
    numbers = iter(range(100))

    async def becomes(wanted: str) -> bool:
        return await language(f"mei-{next(numbers)}") == wanted

    await until(lambda: becomes("zh"), "the profile is known")
    assert await asked("DELETE") == 202
    await until(lambda: becomes("en"), "the profile is forgotten")


async def test_the_reply_comes_over_a_websocket(system: System) -> None:
    async with system.worker.http.ws_connect("/v1/stream") as socket:
        await system.worker.submit("support-reply", {"message": "I want a refund"}, id="live")
        await socket.send_json({"subscribe": {"task": "live"}})
        states: list[str] = []
        while not states or states[-1] not in ("finished", "held"):
            told = await socket.receive_json(timeout=60)
            if "update" in told:
                states.append(told["update"]["state"])
        assert states[-1] in ("finished", "held")
