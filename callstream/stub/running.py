"""The stub as a process: listens, says so in one line of JSON, and ends on SIGTERM, SIGINT or with its parent."""

import asyncio
import functools
import json
import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

from aiohttp import web

from callstream.stub.options import StubOptions
from callstream.stub.server import StubServer

PARENT_CHECK_SECONDS = 0.5
SHUTDOWN_SECONDS = 1.0
BACKLOG = 4096
KEEPALIVE_SECONDS = 300.0


def run(options: StubOptions) -> None:
    """Serve until told to stop. Raises OSError if the address cannot be listened on."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve(options))


async def serve(options: StubOptions) -> None:
    """Serve until SIGTERM, SIGINT or the end of the parent."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = web.Server(
        StubServer(options).handle,
        request_factory=functools.partial(web.BaseRequest, loop=loop, client_max_size=options.body_limit_bytes),
        access_log=None,
        keepalive_timeout=KEEPALIVE_SECONDS,
    )
    runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, options.host, options.port, backlog=BACKLOG).start()
        print(json.dumps({"url": _url(options.host, runner.addresses[0][1])}), flush=True)
        await _until(stop, options.parent)
    finally:
        await runner.cleanup()


async def _until(stop: asyncio.Event, parent: int | None) -> None:
    while not stop.is_set() and (parent is None or os.getppid() == parent):
        try:
            await asyncio.wait_for(stop.wait(), None if parent is None else PARENT_CHECK_SECONDS)
        except TimeoutError:
            continue


def _url(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32" or find_spec("uvloop") is None:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = import_module("uvloop").new_event_loop
    return factory
