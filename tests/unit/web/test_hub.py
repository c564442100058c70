"""Updates reach who asked for them, in bounds, and those who come back are told what they missed."""

from typing import Any

import pytest

from callstream.web.hub import Bounds, Closed, Filter, Hub, Lagged, Update

ROOMY = Bounds(100, 1_000_000)


def update(task: str = "mug", chain: str = "copy", tenant: str = "acme", **row: Any) -> Update:
    return Update(tenant, task, chain, "running", 1, {"id": task} | row)


async def test_a_filter_takes_its_own_updates_only() -> None:
    hub = Hub("e")
    by_task, by_chain, by_everyone = (hub.listener(ROOMY) for _ in range(3))
    by_task.follow(Filter("acme", task="mug"))
    by_chain.follow(Filter("acme", chain="copy"))
    by_everyone.follow(Filter(None, chain="copy"))

    for each in (update(), update("cup"), update(tenant="other"), update(chain="else")):
        hub.publish(each)

    assert [by_task.waiting, by_chain.waiting, by_everyone.waiting] == [2, 2, 3]


async def test_an_update_that_two_filters_take_comes_once() -> None:
    hub = Hub("e")
    listener = hub.listener(ROOMY)
    listener.follow(Filter("acme", task="mug"))
    listener.follow(Filter("acme", chain="copy"))

    hub.publish(update())

    assert listener.waiting == 1


@pytest.mark.parametrize("bounds", [Bounds(2, 1_000_000), Bounds(100, 200)])
async def test_who_does_not_read_is_told_and_costs_no_memory(bounds: Bounds) -> None:
    hub = Hub("e")
    listener = hub.listener(bounds)
    listener.follow(Filter("acme", task="mug"))

    for _ in range(3):
        hub.publish(update())

    assert listener.waiting == 0
    with pytest.raises(Lagged):
        await listener.next(1)


async def test_a_single_update_larger_than_the_bound_still_passes() -> None:
    hub = Hub("e")
    listener = hub.listener(Bounds(10, 10))
    listener.follow(Filter("acme", task="mug"))

    hub.publish(update())

    assert await listener.next(1) is not None


async def test_a_cursor_gives_what_came_since() -> None:
    hub = Hub("e")
    hub.publish(update(n=1))
    cursor = hub.position
    hub.publish(update(n=2))
    hub.publish(update("cup"))
    listener = hub.listener(ROOMY)

    resumed = listener.follow(Filter("acme", task="mug"), after=cursor)
    message = await listener.next(1)

    assert resumed
    assert message is not None
    assert message.update.row["n"] == 2
    assert listener.waiting == 0


@pytest.mark.parametrize("cursor", ["e-0", "f-3", "e-99", "e-", "-", "", "e--1", "e-²", "e-" + "9" * 40])
async def test_a_cursor_too_old_or_not_ours_cannot_be_resumed(cursor: str) -> None:
    hub = Hub("e", Bounds(2, 1_000_000))
    for _ in range(4):
        hub.publish(update())

    assert not hub.listener(ROOMY).follow(Filter("acme", task="mug"), after=cursor)


async def test_the_recent_updates_are_bounded_in_bytes_too() -> None:
    hub = Hub("e", Bounds(100, 1000))
    for _ in range(20):
        hub.publish(update(text="x" * 300))

    assert len(hub.since("e-18") or ()) == 2
    assert hub.since("e-15") is None


async def test_a_closed_listener_leaves_nothing_behind() -> None:
    hub = Hub("e")
    with hub.listener(ROOMY) as listener:
        listener.follow(Filter("acme", task="mug"))
        listener.follow(Filter("acme", chain="copy"))
        listener.leave(Filter("acme", task="never followed"))

    hub.publish(update())

    assert listener.waiting == 0
    assert hub.followed == 0


async def test_a_stopped_listener_gives_what_is_queued_and_then_ends() -> None:
    hub = Hub("e")
    listener = hub.listener(ROOMY)
    listener.follow(Filter("acme", task="mug"))
    hub.publish(update())
    listener.stop()

    assert await listener.next(1) is not None
    with pytest.raises(Closed):
        await listener.next(1)


async def test_silence_is_none() -> None:
    assert await Hub("e").listener(ROOMY).next(0.001) is None


async def test_more_than_a_queue_takes_is_not_told_in_full() -> None:
    hub = Hub("e")
    for n in range(50):
        hub.publish(update(n=n))
    listener = hub.listener(Bounds(10, 1_000_000))

    resumed = listener.follow(Filter("acme", task="mug"), after="e-0")
    message = await listener.next(1)

    assert not resumed
    assert message is not None
    assert (message.update.row["n"], listener.waiting) == (45, 4)


async def test_what_is_remembered_can_be_asked_for() -> None:
    hub = Hub("e")
    for n in range(3):
        hub.publish(update(n=n))
    listener = hub.listener(ROOMY)

    assert not listener.follow(Filter("acme", chain="copy"), after="recent")
    assert listener.waiting == 3
