import asyncio

import pytest

from callstream.agents.inference.call import Call, CallFailed, Model, Reply
from callstream.agents.inference.fakes import ScriptedModel, a_call
from callstream.agents.inference.receipt import FROM_RECEIPT, Receipts
from callstream.agents.inference.receipts_state import CALLS
from callstream.streams.event import Json, Usage
from callstream.streams.fakes import MemoryCell
from callstream.streams.ownership import LostOwnership

REPLY = Reply("A mug.", "stop", Usage(model="writer", calls=1, tokens_in=12, tokens_out=3))


def receipted(innermost: Model) -> Model:
    receipts = Receipts(lambda: 10.0)
    return receipts.remember(receipts.announce(innermost))


async def test_the_start_is_on_the_log_before_the_request_and_the_answer_after() -> None:
    cell = MemoryCell()
    seen: list[object] = []

    async def model(call: Call) -> Reply:
        seen.append(cell.saves[-1][CALLS][call.id]["state"])
        return REPLY

    reply = await receipted(model)(a_call(cell=cell, flight="run-a.1"))

    assert reply == REPLY
    assert seen == ["started"]
    assert [row[CALLS][a_call().id]["state"] for row in cell.saves] == ["started", "answered"]


async def test_an_answered_call_is_answered_from_its_receipt() -> None:
    cell = MemoryCell()
    await receipted(ScriptedModel([REPLY]))(a_call(cell=cell, flight="run-a.1"))
    never = ScriptedModel([AssertionError("called")])

    reply = await receipted(never)(a_call(cell=MemoryCell(cell.value), flight="run-b.1"))

    assert never.calls == []
    assert (reply.text, reply.usage, reply.notes) == (REPLY.text, REPLY.usage, (FROM_RECEIPT,))


async def test_a_call_that_was_started_and_never_answered_is_counted_as_repeated() -> None:
    cell = MemoryCell()
    with pytest.raises(KeyboardInterrupt):
        await receipted(ScriptedModel([KeyboardInterrupt()]))(a_call(cell=cell, flight="run-a.1"))

    reply = await receipted(ScriptedModel([REPLY]))(a_call(cell=cell, flight="run-b.1"))
    again = await receipted(ScriptedModel([REPLY]))(a_call(cell=cell, flight="run-c.1"))

    assert (reply.usage.repeated, reply.usage.calls) == (1, 2)
    assert "repeated once" in reply.notes[0]
    assert again.usage == reply.usage


async def test_a_failed_call_that_is_tried_again_is_not_repeated() -> None:
    cell = MemoryCell()
    model = receipted(ScriptedModel([CallFailed("overloaded", "later"), REPLY]))
    with pytest.raises(CallFailed):
        await model(a_call(cell=cell, flight="run-a.1"))

    assert (await model(a_call(cell=cell, flight="run-a.2"))).usage.repeated == 0


async def test_a_flight_announces_itself_once() -> None:
    cell = MemoryCell()
    model = Receipts(lambda: 10.0).announce(ScriptedModel([REPLY]))

    await model(a_call(cell=cell, flight="run-a.1", attempt=1))
    await model(a_call(cell=cell, flight="run-a.1", attempt=2))

    assert len(cell.saves) == 1


async def test_a_worker_that_lost_the_row_does_not_pay() -> None:
    cell, model = MemoryCell(), ScriptedModel([REPLY])
    cell.lose()

    with pytest.raises(LostOwnership):
        await receipted(model)(a_call(cell=cell))

    assert model.calls == []


async def test_calls_of_one_task_keep_their_own_receipts() -> None:
    cell = MemoryCell({"mine": 1})
    model = receipted(ScriptedModel([REPLY]))

    await model(a_call(cell=cell, id="one"))
    await model(a_call(cell=cell, id="two"))

    assert cell.value is not None
    assert list(cell.value[CALLS]) == ["one", "two"]
    assert cell.value["mine"] == 1


class SlowCell(MemoryCell):
    """Shows a row only when the log has it."""

    async def save(self, value: Json) -> None:
        await asyncio.sleep(0)
        await super().save(value)


async def test_calls_of_one_task_side_by_side_lose_no_receipt() -> None:
    cell = SlowCell()
    model = receipted(ScriptedModel([REPLY]))

    await asyncio.gather(*(model(a_call(cell=cell, id=str(number))) for number in range(5)))

    assert cell.value is not None
    assert sorted(cell.value[CALLS]) == ["0", "1", "2", "3", "4"]
    assert all(receipt["state"] == "answered" for receipt in cell.value[CALLS].values())
