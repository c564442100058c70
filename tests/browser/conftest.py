"""A real Chromium and a gateway in the middle of its day for it to look at."""

import shutil
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, Page, async_playwright

from callstream.web.app import build_web
from callstream.web.fake import FakePort
from callstream.web.options import WebOptions
from tests.browser.scene import CHAINS, day

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def chromium() -> AsyncIterator[Browser]:
    """The system's Chromium, one for all tests of a module, and none while others run."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.fail("no Chromium is installed: make test installs it, or: apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        await browser.close()


@dataclass
class Site:
    """A gateway that runs, and the engine behind it."""

    url: str
    port: FakePort


@pytest_asyncio.fixture(loop_scope="session")
async def site() -> AsyncIterator[Site]:
    """A gateway with default options."""
    async with AsyncExitStack() as stack:
        yield await serve(stack, WebOptions())


async def serve(stack: AsyncExitStack, options: WebOptions) -> Site:
    """A gateway on a free port until the stack ends."""
    port = await day(time.time())
    runner = web.AppRunner(build_web(port, options, CHAINS), shutdown_timeout=1.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return Site(f"http://127.0.0.1:{runner.addresses[0][1]}", port)


@pytest_asyncio.fixture(loop_scope="session")
async def page(chromium: Browser, site: Site) -> AsyncIterator[Page]:
    """A page of its own that reaches nothing but the gateway, and must log no error: CSP refusals are errors too."""
    errors: list[str] = []
    async with await chromium.new_context(base_url=site.url, viewport={"width": 1280, "height": 900}) as context:
        opened = await context.new_page()
        opened.set_default_timeout(8000)
        opened.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        opened.on("pageerror", lambda error: errors.append(str(error)))
        opened.on(
            "request", lambda request: errors.append(request.url) if not request.url.startswith(site.url) else None
        )
        yield opened
    assert errors == []
