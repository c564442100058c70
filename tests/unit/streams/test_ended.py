"""A fetcher of aiokafka that ends while a request waits for its next try."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.subscription_state import SubscriptionState

from callstream.streams.transport import ended

pytestmark = pytest.mark.timeout(10)


async def fetcher_in_need(rounds: int) -> Any:
    """A fetcher with a request that waits, as with a broker that is away; of no `rounds` it finds that itself."""
    client = SimpleNamespace(_loop=asyncio.get_running_loop(), _metadata_max_age_ms=1000)
    fetcher = Fetcher(client, SubscriptionState())
    for _ in range(rounds):
        await asyncio.sleep(0)
    fetcher._pending_tasks.add(asyncio.create_task(asyncio.sleep(60)))
    await asyncio.sleep(0)
    return fetcher


@pytest.mark.parametrize("rounds", [0, 5])
async def test_it_ends_without_a_cancellation_coming_out(rounds: int) -> None:
    fetcher = await fetcher_in_need(rounds)

    await ended(fetcher, fetcher.close)

    assert fetcher._fetch_task.done()
    assert not fetcher._pending_tasks


async def test_aiokafka_alone_lets_one_out() -> None:
    # The day this fails `ended` is needed no more.
    fetcher = await fetcher_in_need(5)

    with pytest.raises(asyncio.CancelledError):
        await fetcher.close()
