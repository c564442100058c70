import asyncio
from collections.abc import Awaitable, Callable

import pytest

from callstream.agents.inference.call import Call, CallFailed, Draft, Model, Reply
from callstream.agents.inference.draft import Drafts
from callstream.agents.inference.fakes import a_call
from callstream.agents.inference.receipt import Receipts
from callstream.agents.inference.receipts_state import CALLS
from callstream.agents.telling import telling
from callstream.streams.event import Json
from callstream.streams.fakes import MemoryCell
from callstream.streams.ownership import LostOwnership

CALL = a_call().id


class Ticks:
    """A sleep that ends when it is told."""

    def __init__(self) -> None:
        self._asleep: list[asyncio.Future[None]] = []

    async def sleep(self, seconds: float) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._asleep.append(waiter)
        await waiter

    async def tick(self) -> None:
        """One second is over, and what follows from it has happened."""
        await settled()
        asleep, self._asleep = self._asleep, []
        for waiter in asleep:
            if not waiter.done():
                waiter.set_result(None)
        await settled()


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def drafted(ticks: Ticks, innermost: Model) -> Model:
    receipts = Receipts(lambda: 10.0)
    return receipts.remember(Drafts(receipts, 1.0, ticks.sleep)(receipts.announce(innermost)))


def kept(cell: MemoryCell) -> list[tuple[str, int]]:
    """The drafts of all rows, with their numbers, one after another."""
    found = [(row[CALLS][CALL].get("draft", ""), row[CALLS][CALL].get("parts", 0)) for row in cell.saves]
    return [one for at, one in enumerate(found) if at == 0 or one != found[at - 1]]


def writing(ticks: Ticks, *texts: str) -> Callable[[Call], Awaitable[Reply]]:
    """A model that writes so much in each second."""

    async def model(call: Call) -> Reply:
        begun = call.draft.begin(goes_on=True)
        for text in texts:
            if text:
                call.draft.add(text)
            await ticks.tick()
        return Reply(begun + "".join(texts))

    return model


async def test_what_has_come_is_kept_in_every_interval_and_gone_with_the_answer() -> None:
    ticks, cell = Ticks(), MemoryCell()

    reply = await drafted(ticks, writing(ticks, "A ", "", "blue mug."))(a_call(cell=cell, flight="a.1", stream=True))

    assert reply.text == "A blue mug."
    assert kept(cell) == [("", 0), ("A ", 1), ("A blue mug.", 2), ("", 2)]


async def test_a_call_that_asks_for_no_pieces_keeps_none() -> None:
    ticks, cell = Ticks(), MemoryCell()

    await drafted(ticks, writing(ticks, "A mug."))(a_call(cell=cell, flight="a.1"))

    assert kept(cell) == [("", 0)]


async def test_a_request_that_breaks_off_leaves_all_that_came() -> None:
    ticks, cell = Ticks(), MemoryCell()

    async def model(call: Call) -> Reply:
        call.draft.add("A blue")
        raise CallFailed("broken-reply", "reset")

    with pytest.raises(CallFailed):
        await drafted(ticks, model)(a_call(cell=cell, flight="a.1", stream=True))
    reply = await drafted(ticks, writing(ticks, " mug."))(a_call(cell=cell, flight="a.2", stream=True))

    assert reply.text == "A blue mug."
    assert kept(cell) == [("", 0), ("A blue", 1), ("A blue mug.", 2), ("", 2)]


async def test_what_came_for_another_request_is_not_gone_on_with() -> None:
    ticks, cell = Ticks(), MemoryCell()

    async def model(call: Call) -> Reply:
        call.draft.add("A blue")
        raise CallFailed("broken-reply", "reset")

    with pytest.raises(CallFailed):
        await drafted(ticks, model)(a_call(cell=cell, flight="a.1", stream=True))
    # a letter is taken up from the step before, which writes another prompt
    other = a_call(cell=cell, flight="a.2", stream=True, request={"messages": [{"role": "user", "content": "A jug"}]})

    assert (await drafted(ticks, writing(ticks, "A jug."))(other)).text == "A jug."
    assert kept(cell)[-2:] == [("A jug.", 2), ("", 2)]


async def test_a_crash_loses_no_more_than_one_interval() -> None:
    ticks, cell = Ticks(), MemoryCell()

    async def model(call: Call) -> Reply:
        call.draft.add("A blue")
        await ticks.tick()
        call.draft.add(" mug")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await drafted(ticks, model)(a_call(cell=cell, flight="a.1", stream=True))

    assert kept(cell)[-1] == ("A blue", 1)
    reply = await drafted(ticks, writing(ticks, " jug."))(
        a_call(cell=MemoryCell(cell.value), flight="b.1", stream=True)
    )
    assert (reply.text, reply.usage.repeated) == ("A blue jug.", 1)


async def test_those_who_follow_the_task_are_told_in_order_and_of_nothing_that_is_not_kept() -> None:
    ticks, cell = Ticks(), MemoryCell()
    told: list[tuple[int, str]] = []

    async def tell(number: int, text: str) -> None:
        on_the_log = cell.saves[-1][CALLS].values()
        assert (text, number) in [(one.get("draft"), one.get("parts")) for one in on_the_log]
        told.append((number, text))

    model = drafted(ticks, writing(ticks, "A ", "mug."))
    with telling(tell):
        await model(a_call(cell=cell, flight="a.1", stream=True, shown=True))
        await drafted(ticks, writing(ticks, "More."))(
            a_call(cell=cell, flight="a.2", stream=True, shown=True, id="another")
        )
        await drafted(ticks, writing(ticks, "Not told."))(a_call(cell=cell, flight="a.3", stream=True, id="a third"))

    assert told == [(1, "A "), (2, "A mug."), (3, "More.")]


async def test_a_worker_that_has_lost_the_task_goes_on_with_the_call_and_keeps_no_more() -> None:
    ticks, cell = Ticks(), MemoryCell()
    seen: list[str] = []

    async def model(call: Call) -> Reply:
        cell.lose()
        for text in ("A ", "mug."):
            call.draft.add(text)
            await ticks.tick()
        seen.append(call.draft.text)
        return Reply(call.draft.text)

    with pytest.raises(LostOwnership):
        await drafted(ticks, model)(a_call(cell=cell, flight="a.1", stream=True))

    assert seen == ["A mug."]


async def test_the_start_of_another_flight_makes_late_parts_of_this_one_none() -> None:
    ticks, cell = Ticks(), MemoryCell()

    async def model(call: Call) -> Reply:
        row = cell.value or {}
        other = {**row[CALLS][CALL], "flight": "b.1"}
        await cell.save({**row, CALLS: {CALL: other}})
        call.draft.add("late")
        await ticks.tick()
        assert kept(cell)[-1] == ("", 0)
        return Reply("late")

    await drafted(ticks, model)(a_call(cell=cell, flight="a.1", stream=True))


async def test_what_goes_wrong_with_telling_is_said_and_costs_the_call_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ticks, cell = Ticks(), MemoryCell()

    async def tell(number: int, text: str) -> None:
        raise ValueError("no such topic")

    with telling(tell):
        reply = await drafted(ticks, writing(ticks, "A mug."))(a_call(cell=cell, flight="a.1", stream=True, shown=True))

    assert reply.text == "A mug."
    assert "not kept while it is written: ValueError" in caplog.text


async def test_two_calls_of_a_task_at_once_tell_parts_of_numbers_of_their_own() -> None:
    ticks, cell = Ticks(), SlowCell()
    told: list[int] = []

    async def tell(number: int, text: str) -> None:
        told.append(number)

    model = drafted(ticks, writing(ticks, "A ", "mug."))
    with telling(tell):
        await asyncio.gather(
            *(model(a_call(cell=cell, flight=f"a.{n}", id=f"call-{n}", stream=True, shown=True)) for n in (1, 2))
        )

    assert told
    assert sorted(told) == list(range(1, len(told) + 1))


async def test_nobody_is_told_of_what_is_not_kept() -> None:
    ticks, cell = Ticks(), MemoryCell()
    told: list[str] = []

    async def tell(number: int, text: str) -> None:
        told.append(text)

    async def model(call: Call) -> Reply:
        row = cell.value or {}
        await cell.save({**row, CALLS: {CALL: {**row[CALLS][CALL], "flight": "b.1"}}})
        call.draft.add("late")
        await ticks.tick()
        return Reply("late")

    with telling(tell):
        await drafted(ticks, model)(a_call(cell=cell, flight="a.1", stream=True, shown=True))

    assert told == []


class SlowCell(MemoryCell):
    """Others run while it saves."""

    async def save(self, value: Json) -> None:
        await asyncio.sleep(0)
        await super().save(value)


def test_what_there_was_is_kept_until_another_answer_takes_its_place() -> None:
    draft = Draft("A blue")

    assert (draft.begin(goes_on=False), draft.begun, draft.answer) == ("", 0, "")
    assert (draft.text, draft.version, draft.dropped) == ("A blue", 0, 0)
    assert (draft.begin(goes_on=True), draft.begun) == ("A blue", 6)
    draft.begin(goes_on=False)
    draft.add("Red")
    draft.add(".")
    assert (draft.text, draft.answer, draft.version, draft.dropped) == ("Red.", "Red.", 3, 6)
