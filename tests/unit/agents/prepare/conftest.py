from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from callstream.agents.inference.call import Call, Reply
from callstream.agents.tools import Tools
from callstream.streams.blobs import BlobOptions, BlobStore
from callstream.streams.event import Body, Event, Json, Submission
from callstream.streams.fakes import MemoryCell


async def echo(call: Call) -> Reply:
    return Reply(text="copy")


@pytest.fixture
def state() -> MemoryCell:
    return MemoryCell()


@pytest.fixture
def tools() -> Tools:
    """Everything in memory; a thread stands in for the process pool, so that what runs there is seen by coverage."""
    profiles: dict[tuple[str, str], Json] = {("acme", "lena"): {"language": "de", "tone": "warm"}}
    return Tools(
        model=echo,
        blobs=BlobStore(BlobOptions(url="memory:///")),
        database=create_async_engine("sqlite+aiosqlite://"),
        workers=ThreadPoolExecutor(1),
        profile=lambda tenant, user: profiles.get((tenant, user)),
    )


@pytest.fixture
def event() -> Callable[..., Event]:
    def make(outputs: dict[str, Json] | None = None, **given: Any) -> Event:
        body = Body(submission=Submission(chain="copy", input=given), digest="0" * 64, outputs=outputs or {})
        return Event("acme", "mug-1", "copy", 1, 1, body)

    return make
