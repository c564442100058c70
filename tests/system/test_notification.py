"""Callbacks to real HTTP servers on this machine, and to addresses that must not be called."""

import asyncio
import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.test_utils import TestServer
from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError

from callstream.agents.notification import Notifier, NotifyOptions
from callstream.streams.event import Body, End, Event, Json, Submission
from callstream.streams.outcome import Announce, Bury, Outcome, Retry

SECRET = "whsec_" + b64encode(b"k" * 32).decode()
OPTIONS = NotifyOptions(secret=SecretStr(SECRET), attempts=3, timeout_seconds=2, allow_private=True)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class NoCell:
    value: Json | None = None

    async def save(self, value: Json) -> None:
        raise AssertionError("nothing is kept")


class Names(AbstractResolver):
    """A resolver that knows one answer and counts how often it is asked."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked += 1
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self.addresses
        ]

    async def close(self) -> None:
        """Nothing to give back."""


def event(callback: str, attempt: int = 1) -> Event:
    submission = Submission(chain="shop", input={}, callback=callback)
    body = Body(submission=submission, digest="0" * 64, end=End.FINISHED, result={"text": "马克杯"})
    return Event(tenant="acme", task="mug-1", chain="shop", version=1, sequence=6, body=body, attempt=attempt, time=1.0)


@asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[TestServer]:
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handler)
    running = TestServer(app)
    async with running:
        yield running


async def told(
    callback: str, options: NotifyOptions = OPTIONS, attempt: int = 1, names: Names | None = None
) -> Outcome:
    notifier = Notifier(options, resolver=names)
    await notifier.open()
    try:
        return await notifier.act(event(callback, attempt), NoCell())
    finally:
        await notifier.close()


async def test_a_callback_is_delivered_and_verified_by_the_library() -> None:
    received: list[tuple[dict[str, str], bytes]] = []

    async def take(request: web.Request) -> web.Response:
        received.append((dict(request.headers), await request.read()))
        return web.Response(status=204)

    async with server(take) as running:
        for attempt in (1, 2):
            outcome = await told(str(running.make_url("/done?for=mug")), attempt=attempt)
            delivered = {"callback": {"state": "delivered", "attempts": attempt, "status": 204}}
            assert outcome == Announce(delivered)
    (first, body), (second, again) = received
    assert Webhook(SECRET).verify(body, first)["data"]["result"] == {"text": "马克杯"}
    assert body == again
    assert first["webhook-id"] == second["webhook-id"]
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body + b" ", first)


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (200, {}, Announce),
        (429, {"Retry-After": "7"}, Retry),
        (503, {}, Retry),
        (500, {"Retry-After": "nonsense"}, Retry),
        (408, {}, Retry),
        (410, {}, Bury),
        (404, {}, Bury),
        (400, {}, Bury),
        (302, {"Location": "http://127.0.0.1:1/"}, Bury),
        (307, {"Location": "/elsewhere"}, Bury),
    ],
)
async def test_what_an_answer_leads_to(status: int, headers: dict[str, str], expected: type[Outcome]) -> None:
    calls = 0

    async def answer(_: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        return web.Response(status=status, headers=headers)

    async with server(answer) as running:
        outcome = await told(str(running.make_url("/")))
    assert isinstance(outcome, expected)
    assert calls == 1
    if isinstance(outcome, Retry):
        assert outcome.after_seconds == (7.0 if headers.get("Retry-After") == "7" else None)
        assert outcome.failure.kind == "callback-busy"
    if isinstance(outcome, Bury):
        assert not outcome.ends_task
        assert str(status) in outcome.failure.message


async def test_the_last_attempt_buries_the_callback_and_not_the_task() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=503)

    async with server(answer) as running:
        outcome = await told(str(running.make_url("/")), attempt=3)
    assert isinstance(outcome, Bury)
    assert not outcome.ends_task
    assert "attempt 3 of 3" in outcome.failure.message


async def test_a_server_that_says_nothing_is_given_up_in_time() -> None:
    async def hang(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    async with server(hang) as running, asyncio.timeout(5):
        outcome = await told(str(running.make_url("/")), OPTIONS.model_copy(update={"timeout_seconds": 0.2}))
    assert isinstance(outcome, Retry)
    assert outcome.failure.kind == "callback-unreachable"


async def test_an_answer_without_end_is_not_read() -> None:
    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
        except ConnectionError:
            return response

    async with server(flood) as running, asyncio.timeout(5):
        assert isinstance(await told(str(running.make_url("/"))), Announce)


async def test_garbage_and_closed_ports_are_tried_again() -> None:
    async def garbage(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\xff\xfe no HTTP at all\r\n\r\n")
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(garbage, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener:
        assert isinstance(await told(f"http://127.0.0.1:{port}/"), Retry)
    outcome = await told(f"http://127.0.0.1:{port}/")
    assert isinstance(outcome, Retry)
    assert outcome.failure.kind == "callback-unreachable"


GUARDED = OPTIONS.model_copy(update={"allow_private": False})


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "169.254.169.254",
        "10.0.0.1",
        "192.168.0.1",
        "user:pass@127.0.0.1",
    ],
)
async def test_our_own_network_is_not_called(host: str) -> None:
    calls = 0

    async def answer(_: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        return web.Response()

    async with server(answer) as running:
        outcome = await told(f"http://{host}:{running.port}/", GUARDED)
    assert calls == 0
    assert isinstance(outcome, Bury), outcome
    # Some notations are refused by the client as ambiguous before there is an address to look at.
    assert outcome.failure.kind in ("callback-address", "callback-refused")
    assert not outcome.ends_task


@pytest.mark.parametrize(
    "addresses", [("127.0.0.1",), ("10.1.2.3",), ("::1", "127.0.0.1"), ("fe80::1",), ("169.254.169.254", "10.0.0.1")]
)
async def test_a_name_that_leads_into_our_network_is_not_called(addresses: tuple[str, ...]) -> None:
    outcome = await told("https://innocent.example/", GUARDED, names=Names(*addresses))
    assert isinstance(outcome, Bury)
    assert outcome.failure.kind == "callback-address"
    assert not any(address in outcome.failure.message for address in addresses)


async def test_a_name_is_resolved_once_and_that_address_is_connected_to() -> None:
    hosts: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        hosts.append(request.headers["Host"])
        return web.Response()

    names = Names("127.0.0.1")
    async with server(answer) as running:
        outcome = await told(f"http://innocent.example:{running.port}/", names=names)
        assert hosts == [f"innocent.example:{running.port}"]
    assert isinstance(outcome, Announce)
    assert names.asked == 1


async def test_a_name_nobody_knows_is_tried_again() -> None:
    outcome = await told("http://nobody.invalid/", GUARDED)
    assert isinstance(outcome, Retry)
    assert outcome.failure.kind == "callback-unreachable"
