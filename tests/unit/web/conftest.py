"""A gateway over the port in memory, and a client for it."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, ClassVar

import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request
from pydantic import BaseModel, ConfigDict, Field

from callstream.streams.chain import Chain, Chains, Step
from callstream.web.app import build_web
from callstream.web.fake import FakePort
from callstream.web.options import WebOptions

Client = TestClient[Request, Application]
Start = Callable[..., Awaitable[Client]]


class Product(BaseModel):
    """What the chain of these tests takes."""

    model_config = ConfigDict(extra="forbid")

    title: str = Field(max_length=100)
    price: float = Field(default=1.0, gt=0)


class Prepare(Step):
    """A step that is only looked at."""

    name = "prepare"
    service: ClassVar[str] = "prepare"


class Write(Step):
    """Another one."""

    name = "write"
    service: ClassVar[str] = "infer"


@pytest.fixture
def chains() -> Chains:
    """One chain of two steps."""
    return Chains([Chain("product-copy", Product, (Prepare(), Write()))])


@pytest.fixture
def port(chains: Chains) -> FakePort:
    """The engine in memory."""
    return FakePort(chains, time.time)


@pytest.fixture
async def start(port: FakePort, chains: Chains) -> AsyncIterator[Start]:
    """Start a gateway over a port (by default `port`) with some options; gives a client of it."""
    async with AsyncExitStack() as stack:

        async def begin(over: FakePort = port, **options: Any) -> Client:
            app = build_web(over, WebOptions(**options), chains)
            return await stack.enter_async_context(TestClient(TestServer(app)))

        yield begin


@pytest.fixture
async def client(start: Start) -> Client:
    """A client of a gateway with default options."""
    return await start()


def submission(**members: Any) -> dict[str, Any]:
    """The body of a good POST /v1/tasks, some members replaced."""
    return {"chain": "product-copy", "input": {"title": "Mug"}} | members
