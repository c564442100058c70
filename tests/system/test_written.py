"""Answers that come piece by piece: against the stub, and through a kill in their midst."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from callstream.agents.inference.fakes import a_call
from callstream.agents.inference.options import InferenceOptions
from callstream.agents.inference.stack import ModelStack, build_model
from callstream.agents.telling import telling
from callstream.streams.event import Json
from callstream.streams.fakes import MemoryCell
from callstream.stub.process import RunningStub, running_stub
from tests.support.running import Settings, System, Worker, running_system, until

CHAIN = f"{Path(__file__).parents[1] / 'support' / 'written.py'}:written"
SAID = " ".join(f"Sentence {number} of a long answer." for number in range(1, 101))
GOES_ON = {"continue_final_message": True, "add_generation_prompt": False}


def endpoint(stub: RunningStub, **more: Any) -> Json:
    return {"name": "stub", "base_url": stub.url, "model": "stub-writer", **more}


@asynccontextmanager
async def stack(only: Json, **more: Any) -> AsyncIterator[ModelStack]:
    retry = {"attempts": 3, "first_pause_seconds": 0.01}
    told = {"pools": {"copywriter": {"endpoints": [only]}}, "retry": retry, "part_seconds": 0.1, **more}
    built = build_model(InferenceOptions.model_validate(told))
    try:
        yield built
    finally:
        await built.close()


def asked(*directives: str, **changes: Any) -> Any:
    text = "\n".join((*directives, f"stub-say: {SAID}"))
    request = {"messages": [{"role": "user", "content": text}]}
    return a_call(request=request, cell=MemoryCell(), **{"stream": True, **changes})


async def test_a_streamed_answer_is_the_one_that_comes_at_once_with_its_usage() -> None:
    async with running_stub(sigma=0, median_ms=300) as stub, stack(endpoint(stub)) as model:
        at_once = await model(asked(id="a", task="a", stream=False))
        told: list[tuple[int, str]] = []

        async def tell(number: int, text: str) -> None:
            told.append((number, text))

        with telling(tell):
            streamed = await model(asked(id="b", task="b", shown=True))
        calls = (await stub.calls())["calls"]

    assert streamed.text == at_once.text == SAID
    assert streamed.usage == at_once.usage
    assert calls[0]["tokens"] == calls[1]["tokens"]
    assert told, "nothing was told while it was written"
    assert [number for number, _ in told] == list(range(1, len(told) + 1))
    assert all(SAID.startswith(text) for _, text in told)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"continue_with": GOES_ON}, "went on from"),
        ({}, "asked anew: "),
    ],
)
async def test_an_answer_that_breaks_off_is_gone_on_with_where_the_endpoint_can(more: Json, said: str) -> None:
    async with running_stub(sigma=0, median_ms=0) as stub, stack(endpoint(stub, **more)) as model:
        reply = await model(asked("stub-fail: reset*1"))
        calls = (await stub.calls())["calls"]

    assert reply.text == SAID
    assert reply.notes[0].startswith(said)
    keys = [call["call_id"] for call in calls]
    assert (len(set(keys)) == 2) is bool(more)
    if more:
        assert keys[1].startswith(f"{keys[0]}/from-")
        # The half that was there is a part of the question now, and not of the answer.
        assert reply.usage.tokens_out < calls[0]["tokens"] / 2


@pytest.mark.parametrize("fault", ["garbage", "drip", "no-usage", "hang"])
async def test_faults_end_as_they_do_for_an_answer_that_comes_at_once(fault: str) -> None:
    only = {"continue_with": GOES_ON, "timeout_seconds": 2}
    async with running_stub(sigma=0, median_ms=0, drip_seconds=1) as stub, stack(endpoint(stub, **only)) as model:
        reply = await model(asked(f"stub-fail: {fault}*1"))

    assert reply.text == SAID
    assert reply.usage.calls == (2 if fault in ("garbage", "hang") else 1)


async def test_an_endpoint_that_knows_no_streams_is_taken_at_its_word() -> None:
    async with running_stub(sigma=0, median_ms=0) as stub, stack(endpoint(stub)) as model:
        reply = await model(a_call(api="embeddings", request={"input": ["a mug"]}, stream=True))

    assert json.loads(reply.text)["embeddings"]


@pytest.mark.timeout(240)
async def test_a_kill_in_the_midst_of_an_answer_loses_none_of_what_was_shown(tmp_path: Path) -> None:
    settings: Settings = {("inference", "part_seconds"): 0.2, ("engine", "session_timeout_seconds"): 6}
    async with running_system(tmp_path, (CHAIN,), settings, sigma=0, median_ms=12_000) as system:
        only = endpoint(system.stub, continue_with=GOES_ON)
        system.settings["inference", "pools"] = {"copywriter": {"endpoints": [only]}}
        worker = await system.start()
        # given a task whose answer grows before the eyes of who follows it
        await worker.submit("written", {"say": SAID}, id="long")
        parts = await followed(worker, "long", characters=len(SAID) // 3)
        assert len(parts) > 1
        assert all(SAID.startswith(part["text"]) for part in parts)
        assert [part["characters"] for part in parts] == sorted({part["characters"] for part in parts})
        code, shown, _ = await worker.command("status", "long")
        assert (code, "copy has written" in shown) == (0, True), shown
        # when its worker is killed
        await worker.kill()
        # then the next one shows what there was, and has the endpoint go on from it
        later = await system.start(after=worker)
        row = await until(lambda: partial(later, "long"), "what was written is still there")
        assert row["partial"]["characters"] >= parts[-1]["characters"]
        row = await later.reaches("long", "finished")
        assert row["result"]["copy"]["text"] == SAID, row
        assert "partial" not in row
        step = row["steps"][-1]
        assert step["repeated"] == 1
        [note] = [note for note in step["notes"] if note.startswith("went on from")]
        assert int(note.split()[3].replace(",", "")) >= parts[-1]["characters"]
        await asked_for_the_rest(system, "long")


async def partial(worker: Worker, task: str) -> Json | None:
    row = await worker.row(task)
    return row if row is not None and "partial" in row else None


async def followed(worker: Worker, task: str, characters: int) -> list[Json]:
    """What those who follow a task are told of its answer, until it has so many characters."""
    parts: list[Json] = []
    timeout = aiohttp.ClientTimeout(total=60)
    async with worker.http.get(f"/v1/tasks/{task}/events", timeout=timeout) as events:
        async for line in events.content:
            if not line.startswith(b"data:"):
                continue
            part = json.loads(line[5:])["row"].get("partial")
            if part is not None and (not parts or part != parts[-1]):
                parts.append(part)
                if part["characters"] >= characters:
                    return parts
    raise AssertionError(f"the task ended before: {parts[-1:]}")


async def asked_for_the_rest(system: System, task: str) -> None:
    """The endpoint has answered once, and only what was missing."""

    async def calls() -> list[Json]:
        return [call for call in (await system.stub.calls())["calls"] if call["task"] == task]

    ended = await until(calls, "the stub has seen the call")
    await asyncio.sleep(0)
    answered = [call for call in ended if call["status"] == 200 and not call.get("abandoned")]
    assert len(answered) == 1, ended
    assert "/from-" in answered[0]["call_id"]
